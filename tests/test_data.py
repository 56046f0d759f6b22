"""Data sets: resolved as Ultralytics does, and the user's folder stays as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_slim.data import check_dataset, digest, label_path, load_dataset, read_labels, write_absolute_yaml
from yolo_slim.errors import SlimError


@pytest.fixture
def copied(signs: Path, tmp_path: Path) -> Path:
    """Return the data.yaml of a copy of the signs."""
    shutil.copytree(signs.parent, tmp_path / "data")
    return tmp_path / "data" / "data.yaml"


def test_users_folder_stays(copied: Path, tmp_path: Path) -> None:
    """Ultralytics reads the links; its caches land beside them and nothing appears in the user's folder."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    before = {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*")}
    dataset = load_dataset(copied)
    data = check_det_dataset(str(write_absolute_yaml(dataset, tmp_path / "out.yaml")))
    loaded = YOLODataset(img_path=data["val"], data=data, imgsz=64, augment=False)
    assert len(loaded) == len(dataset.splits["val"])
    boxes = [len(read_labels(label_path(path))) for path in dataset.splits["val"]]
    assert [len(label["cls"]) for label in loaded.labels] == boxes
    assert {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*")} == before


def test_digest_sees_changes(copied: Path) -> None:
    """The digest changes with a label, an image and what is said of keypoints, and not with time."""
    first = digest(load_dataset(copied))
    label = copied.parent / "labels/train/00000.txt"
    text = label.read_text()
    label.write_text(text + text)
    assert digest(load_dataset(copied)) != first
    label.write_text(text)
    assert digest(load_dataset(copied)) == first
    copied.write_text(copied.read_text() + "flip_idx: [1, 0]\n")
    flipped = digest(load_dataset(copied))
    copied.write_text(copied.read_text().replace("[1, 0]", "[0, 1]"))
    assert len({first, flipped, digest(load_dataset(copied))}) == 3
    image = copied.parent / "images/train/00000.jpg"
    image.write_bytes(image.read_bytes() + b"0")
    assert digest(load_dataset(copied)) != first


def test_labels(tmp_path: Path) -> None:
    """Polygons become boxes, repeated rows are dropped, a missing file is a background."""
    path = tmp_path / "a.txt"
    path.write_text("1 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    assert read_labels(path).tolist() == [[1, 0.5, 0.5, 0.2, 0.4]]
    path.write_text("0 0.1 0.1 0.3 0.1 0.3 0.5\n")
    assert np.allclose(read_labels(path), [[0, 0.2, 0.3, 0.2, 0.4]])
    assert read_labels(tmp_path / "none.txt").shape == (0, 5)


def test_formats_that_devices_do_not_read(copied: Path) -> None:
    """An image that Ultralytics validates on and a device can't be scored on is named before any work."""
    check_dataset(load_dataset(copied))
    image = copied.parent / "images/val/00000.jpg"
    image.rename(image.with_suffix(".mpo"))
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied))
    assert "devices don't read .mpo" in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images(copied: Path, channels: int) -> None:
    """An image of 16 bits, which Ultralytics trains on and no device's pre-processing takes, is named; 8 bits pass."""
    image = copied.parent / "images/val/00000.jpg"
    image.unlink()
    for depth in (np.uint8, np.uint16):
        cv2.imwrite(str(image.with_suffix(".png")), np.full((64, 64, channels), 200, depth))
        if depth == np.uint8:
            check_dataset(load_dataset(copied), deep=True)
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied), deep=True)
    assert caught.value.culprits == (f"{image.with_suffix('.png')}: more than 8 bits per channel; convert it to 8",)
