"""What a data set contains is said before any work, and what a device couldn't be scored on is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers import tiny_data
from tests.helpers.listeners import Remembers
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError


def test_formats_that_devices_do_not_read(copied: Path) -> None:
    """An image that Ultralytics validates on and a device can't be scored on is named before any work."""
    check_dataset(load_dataset(copied))
    image = copied.parent / "images/val/00000.jpg"
    image.rename(image.with_suffix(".mpo"))
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied))
    assert "devices can't read .mpo" in str(caught.value)


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


def test_images_that_only_the_training_can_read(copied: Path) -> None:
    """What a device's decoder takes for damaged is named before the training, and a legal rare JPEG passes."""
    first = copied.parent / "images/val/00000.jpg"
    written = first.read_bytes()
    first.write_bytes(written[:2] + b"\xff" * 3 + written[2:])
    check_dataset(load_dataset(copied))
    second = first.with_name("00001.png")
    first.with_name("00001.jpg").unlink()
    cv2.imwrite(str(second), np.full((64, 64, 3), 200, np.uint8))
    second.write_bytes(second.read_bytes()[:-12])
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied))
    (problem,) = caught.value.culprits
    assert problem.startswith(f"{second}: OpenCV")


def said(data: Path, task: str = "detect") -> list[str]:
    """Return the lines that the check of a data set says."""
    log = Remembers()
    check_dataset(load_dataset(data), task=task, progress=log)
    return log.said.splitlines()


def test_counts_are_said(copied: Path) -> None:
    """Images, those without labels, rows that were dropped and images that repeat; nothing where there is none."""
    assert said(copied) == ["train: 32 images", "val: 16 images", "test: 12 images"]
    root = copied.parent
    for number in range(3):
        (root / f"labels/val/{number:05}.txt").unlink()
    label = root / "labels/val/00003.txt"
    row = label.read_text().splitlines()[0]
    label.write_text(f"{row}\n{row}\n{row}\n")
    copied.write_text(copied.read_text().replace("val: images/val", "val: [images/val, val.txt]"))
    (root / "val.txt").write_text("./images/val/00003.jpg\n./images/val/00003.jpg \n./images/val/00000.jpg\n")
    assert said(copied)[:2] == [
        f"val: {root / 'val.txt'} has lines that name no image, 1 passed over: '{root}/images/val/00003.jpg '",
        "train: 32 images",
    ]
    assert "val: 18 images, 4 without labels, 4 duplicate rows dropped, 2 images repeated" in said(copied)


def test_many_images_without_labels(copied: Path) -> None:
    """More than half of a split without labels is warned of, with the folder that they are expected in."""
    labels = sorted((copied.parent / "labels/train").iterdir())
    for label in labels[:16]:
        label.unlink()
    assert said(copied)[0] == "train: 32 images, 16 without labels"
    assert "WARNING" not in "".join(said(copied))
    labels[16].write_text("\n")
    assert said(copied)[1] == (
        "train: WARNING: 17 of 32 images have no labels and count as background; "
        f"labels are expected in {labels[0].parent}"
    )


def test_detector_on_poses(tmp_path: Path) -> None:
    """A detector's data may have key points, as in Ultralytics; a kpt_shape that Ultralytics can't read is named."""
    data = tiny_data.make(tmp_path, "pose")
    assert said(data, "pose") == said(data) == ["train: 16 images", "val: 16 images"]
    data.write_text(data.read_text().replace("[4, 3]", "[4]"))
    for task in ("detect", "pose"):
        with pytest.raises(SlimError, match=r"kpt_shape: got \[4\]; expected \[points, 2 or 3\]"):
            said(data, task)
    data.write_text(data.read_text().replace("[4]", "[3, 4]"))
    with pytest.raises(SlimError, match=r"kpt_shape: got \[3, 4\]"):
        said(data, "pose")


def test_more_objects_than_detections(copied: Path) -> None:
    """An image with more objects than a device finds is warned of, whose limit `yolo val` raises."""
    label = copied.parent / "labels/val/00003.txt"
    rows = [f"0 {number / 301:.6f} .5 .1 .1" for number in range(301)]
    label.write_text("\n".join(rows[:300]))
    assert len(said(copied)) == 3
    label.write_text("\n".join(rows))
    assert said(copied)[2] == "val: WARNING: an image has 301 objects; mAP counts 300 detections an image"
