"""The frames of a video file, past the ones that can't be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from yolo_slim.errors import SlimError
from yolo_slim.runtime.content import has_video, prose_of, read_head
from yolo_slim.runtime.folders import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LOST_IN_A_ROW = 250
"""Frames to try after a readable one: OpenCV answers the end of a video and a damaged frame alike."""
UNKNOWN_FPS = 25.0
"""Frame rate where the file says none."""
_LISTED = {".avi": 0.0, ".m4v": 1.0, ".mov": 1.0, ".mp4": 1.0}
"""Formats that list their frames, and how many seconds of the list may be missing: a phone's trimmed mp4 still lists
what was cut off. For other formats OpenCV only estimates the number of frames."""
_MAX_TICKS = 65535
"""MPEG-4 counts time in at most this many ticks a second (ISO/IEC 14496-2, vop_time_increment_resolution)."""


def is_video(source: Path) -> bool:
    """Whether a path names a video file, by its suffix or its content."""
    return not source.is_dir() and (source.suffix.lower() in VIDEO_SUFFIXES or has_video(source))


def video_frames(source: Path, unreadable: list[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name, image) of every readable frame; a line is added to ``unreadable`` where frames are lost.

    A name has the frame's place in the file: ``VIDEO_000001`` is the first.

    Raises:
        SlimError: no such file, or no readable frame in it.
    """
    if not source.is_file():
        raise SlimError(f"Source not found: {source}", remedy="Give an image, a folder of images or a video.")
    capture = cv2.VideoCapture(str(source))
    read = last = 0
    try:
        listed, least = _listed(source, capture)
        for last, image in _readable(capture):
            read += 1
            yield f"{source.stem}_{last:06d}", image
    finally:
        capture.release()
    if not read:
        raise _unreadable(source)
    total = listed if least > last else last
    if total > read:
        unreadable.append(f"{source}: {total - read} of {total} frames can't be read, the file is damaged or cut off.")


def video_fps(source: Path) -> float:
    """A video's frame rate, as a video can be written with it."""
    fps = rate_of(cv2.VideoCapture(str(source)))
    # OpenCV multiplies a rate by 10 until it is whole: 211.222 would need 211222 ticks a second.
    digits = next(digits for digits in (3, 2, 1, 0) if fps * 10**digits <= _MAX_TICKS)
    return round(fps, digits)


def _readable(capture: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield every readable frame with its place, from 1."""
    place = lost = 0
    while lost < MAX_LOST_IN_A_ROW:
        is_frame, image = capture.read()
        place += 1
        lost = 0 if is_frame else lost + 1
        if is_frame:
            yield place, image


def _listed(source: Path, capture: Any) -> tuple[int, float]:
    """The number of frames that the file lists, and the least that it must have; 0 where it has no list."""
    spare = _LISTED.get(source.suffix.lower())
    count = 0 if spare is None else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count, count - (spare or 0) * rate_of(capture)


def rate_of(capture: Any) -> float:
    """An open video's frame rate."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    # OpenCV answers 0 or -1 where it knows no rate, and can't write a video at such a rate.
    return fps if 0 < fps <= 1000 else UNKNOWN_FPS


def _unreadable(source: Path) -> SlimError:
    prose = prose_of(read_head(source))
    why = f" It is {prose}." if prose else ""
    return SlimError(
        f"The video has no readable frame: {source}.{why}", remedy="Check that it plays, or convert it to mp4."
    )
