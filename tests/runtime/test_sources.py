from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.tiny_detector import scene
from yolo_slim.errors import SlimError
from yolo_slim.runtime.sources import frames, image_paths, read_image


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
    with pytest.raises(SlimError, match="damaged or cut off"):
        read_image(path)


def test_folder(tmp_path: Path) -> None:
    """A folder gives its images, sorted and recursive, and nothing else."""
    for name in ("b.png", "a.PNG", "sub/c.jpg"):
        save(tmp_path / name, scene())
    (tmp_path / "notes.txt").write_text("no image")
    assert [name for name, _ in frames(tmp_path)] == ["a.PNG", "b.png", "sub/c.jpg"]


def test_nothing_there(tmp_path: Path) -> None:
    """A missing path and a folder without images are errors."""
    with pytest.raises(SlimError, match="not found"):
        image_paths(tmp_path / "nothing")
    with pytest.raises(SlimError, match="No image"):
        image_paths(tmp_path)
