"""Videos, images and folders of images as sources."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.runtime.camera.sources.options import SourceSpec
from yolo_slim.runtime.camera.sources.paced import MakeFrame, PacedSource
from yolo_slim.runtime.sources import Skipped, frames
from yolo_slim.runtime.video import is_video, video_fps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_RATE = 1.0
"""Images of a folder shown in a second, unless a rate is given."""


def open_file(spec: SourceSpec) -> PacedSource:
    """Open a video, an image or a folder of images; one frame is read to try it.

    Damaged frames and images are left out. Files of a folder that aren't images are named on standard error.

    Raises:
        SlimError: nothing there, or nothing readable in it.
    """
    options, path, skipped = spec.options, Path(spec.address), Skipped()
    next(_frames(path, loop=False, skipped=skipped))
    for line in skipped.lines():
        print(line, file=sys.stderr, flush=True)
    rate = options.rate or (video_fps(path) if is_video(path) else IMAGE_RATE)
    return PacedSource(name=spec.name, frames=_frames(path, options.loop), rate=rate if options.paced else None)


def _frames(path: Path, loop: bool, skipped: Skipped | None = None) -> Iterator[MakeFrame]:
    while True:
        for _, image in frames(path, skipped or Skipped(), convert_channels=True):
            yield _given(image)
        if not loop:
            return


def _given(image: NDArray[np.uint8]) -> MakeFrame:
    return lambda: image
