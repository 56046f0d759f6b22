"""Frames of damaged videos, and the rates that a video can be written with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.pictures import animation
from yolo_slim.errors import SlimError
from yolo_slim.runtime.folders import VIDEO_SUFFIXES
from yolo_slim.runtime.sources import Skipped, frames
from yolo_slim.runtime.video import video_fps

FRAMES = 38


def write_video(path: Path, codec: str = "MJPG", fps: float = 10) -> Path:
    """Write a video of noise, 96 x 64."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (96, 64))
    assert writer.isOpened()
    for _ in range(FRAMES):
        writer.write(rng.integers(0, 256, (64, 96, 3), np.uint8))
    writer.release()
    return path


def places(content: bytes) -> list[int]:
    """Return where the frames of an AVI begin."""
    found = [at for at in range(len(content)) if content.startswith(b"00dc", at)]
    return found[1 : FRAMES + 1]  # the first is in the header


def read(path: Path) -> tuple[list[int], list[str]]:
    """Return the places of the frames that were read, and what is unreadable."""
    skipped = Skipped()
    return [int(name.rpartition("_")[2]) for name, _ in frames(path, skipped)], skipped.unreadable


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".avi", "MJPG"), (".mp4", "mp4v"), (".ts", "mp4v"), (".wmv", "WMV2"), (".flv", "FLV1"), (".mkv", "mp4v")],
)
def test_whole_video(tmp_path: Path, suffix: str, codec: str) -> None:
    """Negative control: every frame of a whole video is read, in any container, and nothing is missing."""
    assert read(write_video(tmp_path / f"a{suffix}", codec)) == (list(range(1, FRAMES + 1)), [])


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES - {".gif"}))
def test_every_suffix_of_a_video(tmp_path: Path, suffix: str) -> None:
    """A video is read whatever of these its name ends with; the content says what it is."""
    path = write_video(tmp_path / "a.mp4", "mp4v").rename(tmp_path / f"a{suffix}")
    assert read(path) == (list(range(1, FRAMES + 1)), [])


def test_video_of_any_name(tmp_path: Path) -> None:
    """A file that contains a video is one, also when it is named like an image; in a folder of images it is refused."""
    path = write_video(tmp_path / "a.mp4", "mp4v").rename(tmp_path / "a.jpg")
    assert len(read(path)[0]) == FRAMES
    with pytest.raises(SlimError) as caught:
        read(tmp_path)
    assert "a.jpg contains MP4 video" in caught.value.culprits[0]


@pytest.mark.parametrize("bad", [[0], [16], [16, 17, 20], list(range(5, 30))])
def test_damaged_frames(tmp_path: Path, bad: list[int]) -> None:
    """Frames that can't be decoded are passed over, counted, and keep their numbers."""
    path = write_video(tmp_path / "a.avi")
    content = bytearray(path.read_bytes())
    starts = places(bytes(content))
    for index in bad:
        start, end = starts[index] + 8, starts[index + 1]
        content[start:end] = bytes(end - start)
    path.write_bytes(content)
    kept = [index + 1 for index in range(FRAMES) if index not in bad]
    said = f"{path}: {len(bad)} of 38 frames can't be read, the file is damaged or cut off."
    assert read(path) == (kept, [said])


def test_cut_off_video(tmp_path: Path) -> None:
    """A video that ends before the frames that it lists is noted."""
    path = write_video(tmp_path / "a.avi")
    content = path.read_bytes()
    path.write_bytes(content[: places(content)[20]])
    kept, said = read(path)
    assert kept == list(range(1, 21))
    assert "18 of 38 frames" in said[0]


def test_animations(tmp_path: Path) -> None:
    """An animated GIF is a video; an animated WebP, which OpenCV's video reader can't read, is refused."""
    assert read(animation(tmp_path / "a.gif")) == ([1, 2, 3, 4, 5], [])
    with pytest.raises(SlimError, match="contains animated WebP"):
        read(animation(tmp_path / "a.webp"))


@pytest.mark.parametrize(("content", "said"), [(b"", "It is an empty file."), (b"<html>", "It is HTML text.")])
def test_no_video(tmp_path: Path, content: bytes, said: str) -> None:
    """A file without a frame is called what it is."""
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(SlimError) as caught:
        read(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("fps", [211.222, 119.88, 59.94, 29.97, 25, 1, 12.3456789])
def test_rates(tmp_path: Path, fps: float) -> None:
    """A video of any rate can be written again, with a rate that differs by less than .01 %."""
    rate = video_fps(write_video(tmp_path / "a.avi", fps=fps))
    assert rate == pytest.approx(fps, rel=1e-4)
    write_video(tmp_path / "b.mp4", "mp4v", fps=rate)
