"""The folder of links that Ultralytics reads instead of the user's."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.datasets.links import write_absolute_yaml


def test_users_folder_stays(copied: Path, tmp_path: Path) -> None:
    """Ultralytics reads the links; its caches land beside them and nothing appears in the user's folder."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    before = {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*")}
    dataset = load_dataset(copied)
    data = check_det_dataset(str(write_absolute_yaml(dataset, tmp_path / "out.yaml")))
    loaded = YOLODataset(img_path=data["val"], data=data, imgsz=64, augment=False)
    assert len(loaded) == len(dataset.splits["val"])
    boxes = [len(read_labels(label_path(path), dataset.label_format()).rows) for path in dataset.splits["val"]]
    assert [len(label["cls"]) for label in loaded.labels] == boxes
    assert {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*")} == before
