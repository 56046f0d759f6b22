"""The folder of links that Ultralytics reads instead of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize("stem", ["n" * 251, "日" * 83 + "ab", "😀" * 62], ids=["ascii", "three bytes", "four bytes"])
def test_longest_names(copied: Path, tmp_path: Path, stem: str) -> None:
    """An image whose name has all the bytes that a file may have is linked, and Ultralytics finds its labels."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    for file in (copied.parent / "images/val/00000.jpg", copied.parent / "labels/val/00000.txt"):
        file.rename(file.with_name(f"{stem}{file.suffix}"))
    dataset = load_dataset(copied)
    data = check_det_dataset(str(write_absolute_yaml(dataset, tmp_path / "out.yaml")))
    loaded = YOLODataset(img_path=data["val"], data=data, imgsz=64, augment=False)
    boxes = [len(read_labels(label_path(path), dataset.label_format()).rows) for path in dataset.splits["val"]]
    assert [len(label["cls"]) for label in loaded.labels] == boxes
    targets = [Path(file).resolve() for file in loaded.im_files]
    assert targets == [path.resolve() for path in dataset.splits["val"]]


def test_longest_names_in_class_folders(tmp_path: Path) -> None:
    """Links into class folders keep suffix and order however long the names are."""
    images = [tmp_path / "data" / "train" / "a" / f"{'n' * 250}{end}.png" for end in "12"]
    images[0].parent.mkdir(parents=True)
    for image in images:
        image.write_bytes(b"")
    links = write_absolute_yaml(load_dataset(tmp_path / "data"), tmp_path / "out.yaml")
    found = sorted((links / "train" / "a").iterdir())
    assert [link.resolve() for link in found] == images
    assert {link.suffix for link in found} == {".png"}
