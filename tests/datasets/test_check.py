"""Images that a device couldn't be scored on are found before any work."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

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
