"""Descriptions, resolved as Ultralytics resolves them, and the digest of a data set."""

from __future__ import annotations

import re
import shutil
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


def images_of(data: Path) -> list[str]:
    """Return what Ultralytics reads as the images of val, or an error."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    described = check_det_dataset(str(data))
    return YOLODataset(img_path=described["val"], data=described, imgsz=64, augment=False).im_files


@pytest.mark.parametrize("source", ["[images/val, images/val]", "val.txt", "[val.txt, images/val, val.txt]"])
def test_repeated_images_stay(source: str, copied: Path) -> None:
    """Images that a list repeats or that several sources have are there again, in Ultralytics' order, and change the
    digest.
    """
    first = load_dataset(copied)
    root = copied.parent
    lines = [f"./images/val/{number:05}.jpg" for number in (3, 1, 3, 2)] + [f"{root}/images/val/00001.jpg"]
    (root / "val.txt").write_text("\n".join([*lines, "./images/val/00000.jpg ", "README"]) + "\n")
    copied.write_text(re.sub(r"^val:.*$", f"val: {source}", copied.read_text(), flags=re.MULTILINE))
    dataset = load_dataset(copied)
    assert list(map(str, dataset.splits["val"])) == images_of(copied)
    assert len(dataset.splits["val"]) > len(set(dataset.splits["val"]))
    assert dataset.digest != first.digest
    compared = dataset.comparison_images(4)
    assert len(set(compared)) == len(compared)


def test_relative_path(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts at the working folder as in Ultralytics, or else, with a note, at the file; not where both fit."""
    copied.write_text(f"path: data\n{re.sub('^path:.*$', '', copied.read_text(), flags=re.MULTILINE)}")
    monkeypatch.chdir(tmp_path)
    here = load_dataset(copied)
    assert (here.root, here.notes) == (tmp_path / "data", [])
    assert list(map(str, here.splits["val"])) == images_of(copied)
    inner = copied.parent / "data.d"
    inner.mkdir()
    elsewhere = copied.rename(tmp_path / "data.yaml")
    monkeypatch.chdir(inner)
    (note,) = load_dataset(elsewhere).notes
    assert note.startswith(
        f"path: 'data' is read as {tmp_path / 'data'}, from data.yaml; Ultralytics reads it from the"
    )
    shutil.copytree(tmp_path / "data" / "images", inner / "data" / "images")
    with pytest.raises(SlimError, match="two folders fit its path: 'data'") as caught:
        load_dataset(elsewhere)
    assert caught.value.culprits[0].startswith(f"{inner / 'data'}, from the working folder")
    assert caught.value.culprits[1].startswith(f"{tmp_path / 'data'}, from the file")


def test_other_files_in_a_folder_are_counted(tmp_path: Path) -> None:
    """Videos and other pictures among the images are named with their number; labels and caches aren't."""
    for name in ("a.jpg", "b.gif", "c.GIF", "d.mp4", "a.txt", "train.cache"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"-")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [thing]\n")
    train, _ = load_dataset(tmp_path / "data.yaml").notes
    assert train.startswith("train: ")
    assert train.endswith("training doesn't read either: 2 .gif, 1 .mp4")
    for name in ("b.gif", "c.GIF", "d.mp4"):
        (tmp_path / "images" / name).unlink()
    assert load_dataset(tmp_path / "data.yaml").notes == []
