from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.pictures import TURNED, encoded
from tests.helpers.tiny_detector import scene
from yolo_slim.errors import SlimError
from yolo_slim.runtime.sources import Skipped, frames, read_image


def save(path: Path, image: np.ndarray) -> Path:
    """Write an image and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp", ".tif"])
def test_reads_as_opencv_does(tmp_path: Path, suffix: str) -> None:
    """Pixels are those of cv2.imread."""
    path = save(tmp_path / f"image{suffix}", scene(40, 60))
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(tmp_path: Path, channels: int) -> None:
    """Grey and transparent images are refused, and converted when asked for."""
    image = np.full((8, 8, channels), 100, np.uint8)
    path = save(tmp_path / "image.png", image)
    with pytest.raises(SlimError, match=f"{channels} channel.*3") as caught:
        read_image(path)
    assert "--convert-channels" in caught.value.remedy
    assert read_image(path, convert_channels=True).shape == (8, 8, 3)


def test_sixteen_bits(tmp_path: Path) -> None:
    """An image of 16 bits per channel is refused, never scaled silently."""
    path = save(tmp_path / "image.png", np.zeros((8, 8, 3), np.uint16))
    with pytest.raises(SlimError, match="16 bits"):
        read_image(path, convert_channels=True)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_cut_off_image(tmp_path: Path, suffix: str, share: float) -> None:
    """A file cut off anywhere is refused: no decoder's grey remainder is detected in."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(tmp_path / f"image{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SlimError, match="damaged or cut off" if share else "empty file, not an image"):
        read_image(path)


def test_folder(tmp_path: Path) -> None:
    """One unreadable image doesn't hide the others; it is noted, as is what isn't an image."""
    for name in ("b.png", "a.PNG", "sub/c.jpg"):
        save(tmp_path / name, scene())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "b.png").write_bytes(b"<html>")
    skipped = Skipped()
    assert [name for name, _ in frames(tmp_path, skipped)] == ["a.PNG", "sub/c.jpg"]
    assert skipped.left_out == [".txt files: 1 (notes.txt)"]
    assert skipped.unreadable == [f"{tmp_path / 'b.png'} is HTML text, not an image. Replace or remove the file."]
    assert [line.split(":")[0] for line in skipped.lines()] == ["left out", "UNREADABLE"]
    assert [line.split(":")[0] for line in skipped.lines(is_quiet=True)] == ["UNREADABLE"]


def test_folder_without_a_readable_image(tmp_path: Path) -> None:
    """Nothing readable at all is an error with every reason."""
    save(tmp_path / "grey.png", np.zeros((8, 8, 1), np.uint8))
    with pytest.raises(SlimError, match="No image of") as caught:
        list(frames(tmp_path, Skipped()))
    assert "--convert-channels" in caught.value.culprits[0]


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "PPM", "JPEG2000"])
def test_formats_that_some_devices_read(tmp_path: Path, kind: str) -> None:
    """What only some builds of OpenCV can read is refused by all, whatever the file's name."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(kind))
    with pytest.raises(SlimError, match="images of BMP, JPEG, PNG, TIFF and WebP are read"):
        read_image(path)
    path.write_bytes(encoded("PNG"))
    assert read_image(path).shape == (64, 96, 3)


def test_turned_by_exif(tmp_path: Path) -> None:
    """A JPEG is turned by its EXIF orientation."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG", orientation=TURNED))
    image = read_image(path)
    assert image.shape == (96, 64, 3)
    assert image[10, 50, 2] > 200 > 50 > image[10, 10, 2]
