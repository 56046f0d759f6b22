"""One rule for every reader of images: what training, scoring and devices would see differently is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from tests.helpers.pictures import TURNED, animation, encoded, with_xmp_orientation
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.images import image_problem
from yolo_slim.errors import SlimError

TURNS = "with an EXIF orientation"


def written(folder: Path, name: str, content: bytes) -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["GIF", "PPM", "AVIF", "JPEG2000", "ICO"])
def test_content_decides(tmp_path: Path, kind: str) -> None:
    """Content that a training drops or a device can't read is refused under any name; the five formats pass."""
    problem = image_problem(written(tmp_path, "a.jpg", encoded(kind)), on_device=True)
    assert "contains" in problem or "no image" in problem
    for good in ("JPEG", "PNG", "BMP", "TIFF", "WEBP"):
        assert image_problem(written(tmp_path, "b.jpg", encoded(good)), on_device=True) == ""


def test_other_tasks_may_use_what_pillow_reads(tmp_path: Path) -> None:
    """Where no device is scored, AVIF passes, if the suffix tells Ultralytics how to read it; GIF never does."""
    assert image_problem(written(tmp_path, "a.avif", encoded("AVIF")), on_device=False) == ""
    assert "contains AVIF" in image_problem(written(tmp_path, "a.jpg", encoded("AVIF")), on_device=False)
    assert "contains GIF" in image_problem(written(tmp_path, "b.jpg", encoded("GIF")), on_device=False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file, not an image"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML text, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"not found", "text, not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "contains HEIC"),
        (bytes(range(128, 256)), "can't be decoded"),
    ],
    ids=["empty", "html", "lfs", "text", "heic", "noise"],
)
def test_no_image_at_all(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that only its name makes an image is called what it is, without a word about packages of Pillow."""
    import ultralytics.utils.patches  # noqa: F401  it makes Pillow look for the package in every unknown file

    problem = image_problem(written(tmp_path, "a.jpg", content), on_device=True)
    assert said in problem
    assert "pi_heif" not in problem


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_orientation_outside_jpeg(tmp_path: Path, kind: str) -> None:
    """An orientation that some versions of OpenCV apply and others ignore is refused; upright (1) passes."""
    assert TURNS in image_problem(written(tmp_path, "a.png", encoded(kind, orientation=TURNED)), on_device=True)
    assert image_problem(written(tmp_path, "b.png", encoded(kind, orientation=1)), on_device=True) == ""


def test_orientation_of_a_jpeg(tmp_path: Path) -> None:
    """A JPEG may be turned by EXIF data; not where Ultralytics reads it as a TIFF, and not by XMP data alone."""
    turned = encoded("JPEG", orientation=TURNED)
    assert image_problem(written(tmp_path, "a.jpg", turned), on_device=True) == ""
    assert "a JPEG named .tif" in image_problem(written(tmp_path, "a.tif", turned), on_device=True)
    assert image_problem(written(tmp_path, "b.tif", encoded("JPEG")), on_device=True) == ""
    assert "XMP" in image_problem(with_xmp_orientation(tmp_path / "c.jpg"), on_device=True)
    assert cv2.imread(str(tmp_path / "c.jpg")).shape[:2] == (64, 96)


def test_the_rule_is_true_of_ultralytics(tmp_path: Path) -> None:
    """Every reader of Ultralytics agrees with a device on what passes, and differs on a JPEG named .tif."""
    from ultralytics.utils.patches import imread

    turned = encoded("JPEG", orientation=TURNED)
    for name, is_turned in (("a.jpg", True), ("a.tif", False)):
        path = written(tmp_path, name, turned)
        assert (imread(path).shape[:2] == (96, 64)) == is_turned
        assert cv2.imread(str(path)).shape[:2] == (96, 64)


def test_animated_webp(tmp_path: Path) -> None:
    """An animated WebP, of which older versions of OpenCV read nothing, is refused."""
    assert "animated WebP" in image_problem(animation(tmp_path / "a.webp"), on_device=True)


def test_check_names_each_file_once(copied: Path) -> None:
    """The data check reports every such file of a data set, once, in every split."""
    folder = copied.parent / "images"
    for split, kind in (("train", "GIF"), ("val", "PPM")):
        (folder / split / "00000.jpg").write_bytes(encoded(kind))
    shutil.move(folder / "val/00001.jpg", folder / "val/00001.heic")
    (folder / "val/00001.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied))
    said = [problem.removeprefix(f"{folder}/") for problem in caught.value.culprits]
    assert [line.split(";")[0] for line in said] == [
        "train/00000.jpg contains GIF",
        "val/00000.jpg contains PPM",
        "val/00001.heic: devices can't read .heic",
    ]
