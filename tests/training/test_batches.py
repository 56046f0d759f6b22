"""Batches that score channels and re-estimate statistics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import tiny_data
from yolo_slim.datasets.description import load_dataset
from yolo_slim.training.batches import choose, loader


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_images_come_in_the_order_that_was_chosen(task: str, tmp_path: Path) -> None:
    """A classifier's batches mix the classes as the choice does, though its files lie in one folder a class."""
    dataset = load_dataset(tiny_data.make(tmp_path / "data", task))
    chosen = choose(dataset.splits["train"], 12, seed=0)
    batches = list(loader(task, dataset, 64, tmp_path)(chosen, 6))
    assert [len(batch["img"]) for batch in batches] == [6, 6]
    if task == "classify":
        classes = [dataset.names[int(i)] for batch in batches for i in batch["cls"]]
        assert classes == [path.parent.name for path in chosen]
        assert all(len(set(batch["cls"].tolist())) > 1 for batch in batches)
    else:
        found = [Path(path).resolve() for batch in batches for path in batch["im_file"]]
        assert found == [path.resolve() for path in chosen]
