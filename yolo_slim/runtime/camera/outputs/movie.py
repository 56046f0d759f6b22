"""Pictures to a video file, in the first format that the OpenCV at hand can write."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs.budget import part_name
from yolo_slim.runtime.camera.outputs.ring import Still

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE = ".yolo_slim-clip-probe"
"""Name of the file that shows which formats can be written."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A way to write a video."""

    suffix: str
    fourcc: str


FORMATS = (Format(suffix=".mp4", fourcc="mp4v"), Format(suffix=".avi", fourcc="MJPG"))
"""H.264 isn't among them: it would take the cores of the inference, as a Pi 5 and an Orin Nano have no encoder."""


def usable_format(folder: Path) -> Format:
    """The first format in which a video can be written into a folder and read again.

    Raises:
        SlimError: there is none.
    """
    known = next((known for known in FORMATS if _is_writable(folder, known)), None)
    if known is None:
        remedy = "Install an OpenCV with FFmpeg or GStreamer, such as opencv-python-headless, or leave out --clips."
        raise SlimError(f"OpenCV {cv2.__version__} can't write videos here.", remedy=remedy)
    return known


def write_movie(path: Path, stills: Sequence[Still], known: Format, rate: float) -> None:
    """Write pictures at a constant rate, each as long as it was the newest one.

    The file gets its name when it is complete. Pictures of another size than the last one are left out.

    Raises:
        SlimError: OpenCV didn't write all of it, for example because the disk is full.
        OSError: the system refuses.
    """
    part = path.with_name(part_name(path.name))
    try:
        _write(part, _at_rate(stills, rate), known, rate)
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def frames_in(path: Path) -> int:
    """Frames of a video; 0 where it can't be read."""
    reader = cv2.VideoCapture(str(path))
    try:
        return round(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() and reader.read()[0] else 0
    finally:
        reader.release()


def _at_rate(stills: Sequence[Still], rate: float) -> Iterator[NDArray[np.uint8]]:
    """Images at equal distances in time. Decoded one by one: together they would fill the memory."""
    alike = [one for one in stills if one.size_hw == stills[-1].size_hw]
    times = [one.time_s for one in alike]
    shown, image = -1, alike[0].image()
    for tick in range(round((times[-1] - times[0]) * rate) + 1):
        # Half a tick more, because times that are equal on paper differ by rounding.
        newest = bisect_right(times, times[0] + (tick + 0.5) / rate) - 1
        image = image if newest == shown else alike[newest].image()
        shown = newest
        yield image


def _is_writable(folder: Path, known: Format) -> bool:
    path = folder / f"{PROBE}{known.suffix}"
    try:
        _write(path, [np.zeros((64, 64, 3), np.uint8)] * 5, known, 5.0)
    except SlimError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True


def _write(path: Path, images: Iterable[NDArray[np.uint8]], known: Format, rate: float) -> None:
    """Write a video and count its frames: OpenCV says nothing where it fails."""
    writer, count = None, 0
    for image in images:
        writer = writer or _opened(path, known, rate, (image.shape[1], image.shape[0]))
        writer.write(image)
        count += 1
    if writer is not None:
        writer.release()
    written = frames_in(path)
    if written < count:
        fact = f"OpenCV wrote {written} of the {count} frames of a clip to {path.parent}."
        raise SlimError(fact, remedy="Check that the disk isn't full.")


def _opened(path: Path, known: Format, rate: float, size: tuple[int, int]) -> Any:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*known.fourcc), rate, size)
    if not writer.isOpened():
        raise SlimError(f"OpenCV {cv2.__version__} can't write {path.suffix} videos to {path.parent}.")
    return writer
