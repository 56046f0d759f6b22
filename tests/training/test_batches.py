"""Batches that score channels and re-estimate statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import tiny_data
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
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


def test_labels_and_repeats_are_ultralytics(tmp_path: Path) -> None:
    """A detector's batches of a pose data set have the rows of Ultralytics' own, image by image, repeats included."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = tiny_data.make(tmp_path / "data", "pose", images=3)
    label = tmp_path / "data/labels/train/1.txt"
    label.write_text(label.read_text() * 2)
    data.write_text(data.read_text().replace("images/train", "[images/train, images/train]"))
    dataset = load_dataset(data)
    (batch,) = loader("detect", dataset, 64, tmp_path)(dataset.splits["train"], 8)
    described = check_det_dataset(str(write_absolute_yaml(dataset, tmp_path / "links.yaml")))
    theirs = YOLODataset(img_path=described["train"], data=described, imgsz=64, augment=False).labels
    assert len(theirs) == len(batch["img"]) == 6
    rows = np.concatenate([np.concatenate([one["cls"], one["bboxes"]], axis=1) for one in theirs])
    counts = np.bincount(batch["batch_idx"].numpy().astype(int)).tolist()
    assert counts == [len(one["cls"]) for one in theirs] == [2] * 6
    # The pictures are as large as the input, so shares of the input are those of the picture.
    assert np.array_equal(np.concatenate([batch["cls"], batch["bboxes"]], axis=1), rows)
