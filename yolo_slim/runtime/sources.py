"""Images of a file, a folder or a video, one at a time. Nothing is converted unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_REPLACE = "Replace or remove the file."


def frames(source: Path, *, convert_channels: bool = False) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name, image) of an image file, a folder (recursive) or a video; images are (H, W, 3) uint8 BGR.

    Names are paths relative to the folder, or ``VIDEO_000001`` for the first frame of a video.

    Raises:
        SlimError: nothing there, an unreadable file, or an image that isn't 8-bit with 3 channels.
    """
    if is_video(source):
        yield from _video_frames(source)
        return
    root = source if source.is_dir() else source.parent
    for path in image_paths(source):
        yield path.relative_to(root).as_posix(), read_image(path, convert_channels=convert_channels)


def is_video(source: Path) -> bool:
    """Whether a path names a video file, by its suffix."""
    return not source.is_dir() and source.suffix.lower() in VIDEO_SUFFIXES


def image_paths(source: Path) -> list[Path]:
    """The image files of a folder (recursive, sorted), or the one file given.

    Raises:
        SlimError: nothing there.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise SlimError(f"Source not found: {source}", remedy="Give an image, a folder of images or a video.")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise SlimError(
            f"No image in {source} or below it.", remedy=f"Known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return paths


def read_image(path: Path, *, convert_channels: bool = False) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 BGR, turned as its EXIF orientation says.

    Args:
        path: the file.
        convert_channels: convert grey and transparent images as ``cv2.IMREAD_COLOR`` does.

    Raises:
        SlimError: unreadable, cut off, not 8-bit, or not of 3 channels and conversion wasn't asked for.
    """
    data = _read_bytes(path)
    # Decoded twice: UNCHANGED shows channels and bits as stored, COLOR turns the image by its EXIF orientation.
    stored = _decode(data, cv2.IMREAD_UNCHANGED)
    if stored is None or _is_cut_off(data):
        raise SlimError(f"Not a readable image, damaged or cut off: {path}", remedy=_REPLACE)
    if stored.dtype != np.uint8:
        bits = stored.dtype.itemsize * 8
        raise SlimError(f"{path} has {bits} bits per channel.", remedy="Convert it to 8 bits per channel.")
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    if channels != 3 and not convert_channels:
        raise SlimError(
            f"{path} has {channels} channel(s); the model takes 3.",
            remedy="Convert it, or give --convert-channels to convert such images as cv2.IMREAD_COLOR does.",
        )
    image: NDArray[np.uint8] = _decode(data, cv2.IMREAD_COLOR)
    return image


def is_readable(path: Path) -> bool:
    """Whether :func:`read_image` can decode a file."""
    # At an eighth of the size where the format allows it, because that is much faster.
    data = _read_bytes(path)
    return _decode(data, cv2.IMREAD_REDUCED_COLOR_8) is not None and not _is_cut_off(data)


def video_fps(source: Path) -> float:
    """A video's frame rate; 25 where the file doesn't say."""
    fps = float(cv2.VideoCapture(str(source)).get(cv2.CAP_PROP_FPS))
    # OpenCV answers 0 or -1 where it knows no rate, and can't write a video at such a rate.
    return fps if 0 < fps <= 1000 else 25.0


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:  # not cv2.imread: it answers every failure with None, and can't open every name on Windows
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise SlimError(f"{path} can't be read: {error.strerror}.", remedy=_REPLACE) from None


def _decode(data: NDArray[np.uint8], flags: int) -> Any:
    try:
        return cv2.imdecode(data, flags) if data.size else None
    # imdecode answers damage with None, but raises for an empty file and for more pixels than OpenCV's limit.
    except cv2.error:
        return None


def _is_cut_off(data: NDArray[np.uint8]) -> bool:
    # Decoders fill what is missing with grey and don't report it, so the file's end marker is looked for here.
    content = data.tobytes()
    if content.startswith(b"\x89PNG"):
        return b"IEND" not in content
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in content[_jpeg_scan_start(content) :]
    return False


def _jpeg_scan_start(content: bytes) -> int:
    """Where a JPEG's own pixels begin: a thumbnail embedded before them has an end marker too."""
    # Any number of fill bytes FF may stand before a marker (ITU-T T.81, B.1.1.2).
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF and content[position + 1] != 0xDA:
        is_fill = content[position + 1] == 0xFF
        position += 1 if is_fill else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position


def _video_frames(source: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    if not source.is_file():
        raise SlimError(f"Source not found: {source}", remedy="Give an image, a folder of images or a video.")
    capture = cv2.VideoCapture(str(source))
    index = 0
    try:
        while True:
            is_frame, image = capture.read()
            # OpenCV answers the end and a damaged frame alike, so a video that was cut off only ends early.
            if not is_frame:
                break
            index += 1
            yield f"{source.stem}_{index:06d}", image
    finally:
        capture.release()
    if index == 0:
        raise SlimError(
            f"The video has no readable frame: {source}", remedy="Check that it plays, or convert it to mp4."
        )
