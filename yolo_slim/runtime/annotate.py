"""The ``detect`` command: annotated copies of images, folders or a video, and their detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from yolo_slim.errors import SlimError
from yolo_slim.files import named
from yolo_slim.runtime.draw import draw
from yolo_slim.runtime.folders import IMAGE_SUFFIXES
from yolo_slim.runtime.infer import ImageDetections
from yolo_slim.runtime.sources import Skipped, frames
from yolo_slim.runtime.video import is_video, video_fps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.runtime.detector import Detector

Writer = Callable[[str, "NDArray[np.uint8]"], None]
"""Takes a frame's name and the annotated frame."""


def annotate(
    detector: Detector,
    source: Path,
    out: Path,
    skipped: Skipped,
    *,
    conf: float | None = None,
    iou: float | None = None,
    convert_channels: bool = False,
) -> Iterator[ImageDetections]:
    """Write every annotated frame below ``out``, yield its detections, and note in ``skipped`` what has none.

    Images keep their relative paths; a video becomes ``NAME.mp4``.

    Raises:
        SlimError: nothing there, nothing readable in it, or a video that can't be written.
    """
    names = detector.bundle.spec.names
    with _writer(source, out) as write:
        for name, image in frames(source, skipped, convert_channels=convert_channels):
            detections, times = detector.timed(image, conf, iou)
            write(name, draw(image, detections, names))
            size = (image.shape[0], image.shape[1])
            yield ImageDetections(file=name, image_hw=size, detections=detections, times=times)


@contextmanager
def new_folder(base: Path) -> Iterator[Path]:
    """Create and yield ``base``, or the first of ``base-2``, ``base-3``, ... that doesn't exist.

    It is removed again when nothing was written into it.

    Raises:
        SlimError: the root of the file system.
    """
    folder = next(path for path in _numbered(named(base)) if _is_created(path))
    try:
        yield folder
    finally:
        # A run that fails before its first frame leaves no folder, so the next run gets the same name.
        if not any(folder.iterdir()):
            folder.rmdir()


def _numbered(base: Path) -> Iterator[Path]:
    yield base
    yield from (base.with_name(f"{base.name}-{number}") for number in count(2))


def _is_created(folder: Path) -> bool:
    """Create a folder; false where it exists already."""
    try:  # the system decides, not a look beforehand: two runs at once never share a folder
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextmanager
def _writer(source: Path, out: Path) -> Iterator[Writer]:
    """What writes the frames of a source: into one video, or image by image."""
    if not is_video(source):
        yield lambda name, image: _write_image(out / name, image)
        return
    video = _VideoFile(out / f"{source.stem}.mp4", video_fps(source))
    try:
        yield video.write
    finally:
        video.close()


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    # A single file may have any suffix; OpenCV chooses the format by it and refuses one that it doesn't know.
    named = path if path.suffix.lower() in IMAGE_SUFFIXES else path.with_suffix(".png")
    named.parent.mkdir(parents=True, exist_ok=True)
    # Not cv2.imwrite: where a path can't be written it only answers False, and write_bytes raises the reason.
    _free(named).write_bytes(cv2.imencode(named.suffix.lower(), image)[1].tobytes())


def _free(path: Path) -> Path:
    """A path, or where the disk takes a.JPG and a.jpg for one file, the first free of ``a-2.jpg``, ``a-3.jpg``, ..."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return path if not path.exists() else next(other for other in others if not other.exists())


class _VideoFile:
    """An mp4 file of the size of its first frame, which opens it."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: Any = None

    def write(self, _name: str, image: NDArray[np.uint8]) -> None:
        """Append a frame."""
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
        # OpenCV raises nothing for a video that it can't open: write() would drop every frame.
        if not self._writer.isOpened():
            remedy = "Extract the video's frames into a folder and give that, or use an OpenCV build with FFmpeg."
            raise SlimError(f"OpenCV {cv2.__version__} can't write the video {self._path}.", remedy=remedy)
        self._writer.write(image)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
