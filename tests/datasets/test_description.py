"""Descriptions, resolved as Ultralytics resolves them, and the digest of a data set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.cli import edit
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError


def test_digest_sees_changes(copied: Path) -> None:
    """The digest changes with a label, an image and what is said of keypoints, and not with time."""
    first = load_dataset(copied).digest
    label = copied.parent / "labels/train/00000.txt"
    text = label.read_text()
    label.write_text(text + text)
    assert load_dataset(copied).digest != first
    label.write_text(text)
    assert load_dataset(copied).digest == first
    copied.write_text(copied.read_text() + "flip_idx: [1, 0]\n")
    flipped = load_dataset(copied).digest
    copied.write_text(copied.read_text().replace("[1, 0]", "[0, 1]"))
    assert len({first, flipped, load_dataset(copied).digest}) == 3
    image = copied.parent / "images/train/00000.jpg"
    image.write_bytes(image.read_bytes() + b"0")
    assert load_dataset(copied).digest != first


def test_forms_of_a_description(copied: Path) -> None:
    """A count as text passes as in Ultralytics; a split that is a number and a list in another encoding are named."""
    plain = copied.read_text()
    count = len(load_dataset(copied).names)
    for same in (f"'{count}'", f"'{count}.0'", f"{count}.0"):
        copied.write_text(f"{plain}nc: {same}\n")
        load_dataset(copied)
    copied.write_text(re.sub(r"^names:(\n[ -].*)*.*$", f"nc: '{count}'", plain, flags=re.MULTILINE))
    assert len(load_dataset(copied).names) == count
    copied.write_text(f"{plain}nc: '{count + 1}'\n")
    with pytest.raises(SlimError, match="names lists"):
        load_dataset(copied)
    copied.write_text(plain.replace("val:", "validation: 3 #"))
    with pytest.raises(SlimError, match="validation: got 3; expected a folder"):
        load_dataset(copied)
    (copied.parent / "val.txt").write_bytes("./images/val/\u00e4.jpg\n".encode("latin-1"))
    copied.write_text(re.sub(r"^val:.*$", "val: val.txt", plain, flags=re.MULTILINE))
    with pytest.raises(SlimError, match=r"val\.txt is no list of images in UTF-8"):
        check_dataset(load_dataset(copied))


def test_names_of_classes(copied: Path) -> None:
    """Empty and blank names are refused where they are given, all at once; a name with inner spaces is fine."""
    names = ["stop sign", "", "  "]
    for written in (names, dict(enumerate(names))):
        edit(copied, names=written, nc=None)
        with pytest.raises(SlimError, match=r"class 1 has the name ''\n.*class 2 has the name '  '"):
            load_dataset(copied)
    edit(copied, names=["stop sign", "a", "b"])
    assert load_dataset(copied).names[0] == "stop sign"


def test_digest_of_missing_images(tmp_path: Path) -> None:
    """A missing image is left to the data check, which names them all; the digest only notes that it is missing."""
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "a.png"
    image.write_bytes(b"image")
    (tmp_path / "train.txt").write_text("./images/a.png\n./images/b.png\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: train.txt\nnames: [x]\n")
    before = load_dataset(tmp_path / "data.yaml").digest
    image.unlink()
    assert load_dataset(tmp_path / "data.yaml").digest != before
