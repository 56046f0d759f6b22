"""Images of a file, a folder or a video, one at a time. Nothing is converted unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolo_slim.errors import MAX_CULPRITS_SHOWN, SlimError
from yolo_slim.runtime.content import HEAD_BYTES, REPLACE, explain_content
from yolo_slim.runtime.folders import find_images
from yolo_slim.runtime.video import is_video, video_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """What a source contains and :func:`frames` doesn't yield; the lists grow while it is read."""

    left_out: list[str] = field(default_factory=list)
    """Files of a folder that aren't images: one line a reason, with their number."""
    unreadable: list[str] = field(default_factory=list)
    """Images, and frames of a video, that can't be read."""

    def lines(self, *, is_quiet: bool = False) -> list[str]:
        """What was skipped, for people; ``is_quiet``: only what is unreadable."""
        left_out = [] if is_quiet else [f"left out: {line}" for line in self.left_out]
        unreadable = [f"UNREADABLE: {line}" for line in self.unreadable[:MAX_CULPRITS_SHOWN]]
        more = len(self.unreadable) - len(unreadable)
        return [*left_out, *unreadable, *([f"UNREADABLE: {more} more"] if more else [])]


def frames(
    source: Path, skipped: Skipped, *, convert_channels: bool = False
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name, image) of an image file, a folder (recursive) or a video; images are (H, W, 3) uint8 BGR.

    Names are paths relative to the folder, or ``VIDEO_000001`` for the first frame of a video.

    Args:
        source: image, folder or video.
        skipped: notes what isn't yielded: one damaged file doesn't end the reading of the others.
        convert_channels: as for :func:`read_image`.

    Raises:
        SlimError: nothing there, or nothing readable in it.
    """
    if is_video(source):
        yield from video_frames(source, skipped.unreadable)
    elif source.is_dir():
        yield from _folder_images(source, skipped, convert_channels)
    else:
        (path,) = find_images(source).images
        yield path.name, read_image(path, convert_channels=convert_channels)


def _folder_images(source: Path, skipped: Skipped, convert: bool) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    found = find_images(source)
    skipped.left_out.extend(found.left_out)
    for path in found.images:
        try:
            image = read_image(path, convert_channels=convert)
        except SlimError as error:
            skipped.unreadable.append(f"{error.fact} {error.remedy}")
        else:
            yield path.relative_to(source).as_posix(), image
    if len(skipped.unreadable) == len(found.images):
        raise SlimError(f"No image of {source} can be read.", culprits=skipped.unreadable)


def read_image(path: Path, *, convert_channels: bool = False) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 BGR, turned as its EXIF orientation says.

    Args:
        path: the file.
        convert_channels: convert grey and transparent images as ``cv2.IMREAD_COLOR`` does.

    Raises:
        SlimError: unreadable, cut off, no image of a format that devices read, not 8-bit, or not of 3 channels and
            conversion wasn't asked for.
    """
    data = _read_bytes(path)
    # Decoded twice: UNCHANGED shows channels and bits as stored, COLOR turns the image by its EXIF orientation.
    stored = _decode(data, cv2.IMREAD_UNCHANGED)
    if stored is None or _is_cut_off(data):
        raise SlimError(f"Not a readable image, damaged or cut off: {path}", remedy=REPLACE)
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
    """Whether :func:`read_image` can decode a file.

    Raises:
        SlimError: it contains something else, see :func:`yolo_slim.runtime.content.explain_content`.
    """
    # At an eighth of the size where the format allows it, because that is much faster.
    data = _read_bytes(path)
    return _decode(data, cv2.IMREAD_REDUCED_COLOR_8) is not None and not _is_cut_off(data)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    """The content of a file that is an image of a known format, or is too damaged to tell."""
    try:  # not cv2.imread: it answers every failure with None, and can't open every name on Windows
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SlimError(f"{path} can't be read: {error.strerror}.", remedy=REPLACE) from None
    problem = explain_content(path, data[:HEAD_BYTES].tobytes())
    if problem:
        raise problem
    return data


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
