"""The rendered scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_slim.datasets import quickstart
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """Two sets of one seed are equal, those of two seeds aren't, and every label is valid."""
    counts = {"train": 16, "val": 4, "test": 4}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        quickstart.generate(tmp_path / name, counts=counts, seed=seed, imgsz=96)
    digests = [read_json(tmp_path / name / "dataset.json")["sha256"] for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    reports = check_dataset(load_dataset(tmp_path / "a" / "data.yaml"))
    assert all(reports["train"].boxes_per_class.values())


def test_foreign_files_stay(tmp_path: Path) -> None:
    """A folder with other files is refused and keeps them."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SlimError, match="did not write"):
        quickstart.generate(tmp_path, counts={"train": 1, "val": 1, "test": 1}, imgsz=96)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_folder_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty folder that one stands in may be named as such."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = quickstart.generate(Path(), counts={"train": 1, "val": 1, "test": 1}, imgsz=96)
    assert found == (tmp_path / "here" / "data.yaml").resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert {path.name for path in Path().iterdir()} == {"data.yaml", "dataset.json", "images", "labels"}


def test_shipped_weights() -> None:
    """The weights are under 6 MB, the record beside them is theirs, and they hold no path of a machine."""
    weights = quickstart.default_model()
    record = read_json(weights.with_suffix(".json"))
    assert weights.stat().st_size < 6_000_000
    assert record["sha256"] == sha256(weights)
    assert 0.60 <= record["test_map50_95"] <= 0.90
    assert b"/home" not in weights.read_bytes()
    assert b"data.yaml" not in weights.read_bytes()
