"""A rendered scene that moves: a camera for a machine that has none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolo_slim.runtime.camera.sources.options import SourceSpec
from yolo_slim.runtime.camera.sources.paced import MakeFrame, PacedSource
from yolo_slim.runtime.folders import find_images
from yolo_slim.runtime.sources import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (640, 480)
RATE = 30.0
_SHARE = 0.8
"""Of the scene's sides that a picture fills at most."""
_PICTURE_S = 5.0
"""How long each picture is shown."""


def open_scene(spec: SourceSpec) -> PacedSource:
    """Open a scene of any size and rate, the same for equal options.

    Raises:
        SlimError: the pictures can't be read.
    """
    options = spec.options
    size, rate = options.size or SIZE, options.rate or RATE
    pictures = [_fitted(image, size) for image in _pictures(options.pictures)]
    make = partial(scene_frame, size=size, pictures=pictures)
    # A camera's time passes without us; without a pace the scene waits, as a file does.
    return PacedSource(
        name=spec.name, frames=_frames(make, rate), rate=rate if options.paced else None, is_live=options.paced
    )


def scene_frame(time_s: float, size: tuple[int, int], pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The scene at one time: one of the pictures drifts over a grey background that moves too.

    Args:
        time_s: seconds since the scene began.
        size: width and height.
        pictures: (h, w, 3) uint8 BGR each, no larger than ``size``.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    width, height = size
    frame = _background(time_s, size)
    picture = pictures[int(time_s / _PICTURE_S) % len(pictures)]
    tall, wide = picture.shape[:2]
    left = round((width - wide) * (0.5 + 0.5 * math.sin(time_s)))
    top = round((height - tall) * (0.5 + 0.5 * math.sin(0.7 * time_s)))
    frame[top : top + tall, left : left + wide] = picture
    return frame


def _frames(make: partial[NDArray[np.uint8]], rate: float) -> Iterator[MakeFrame]:
    return (partial(make, index / rate) for index in count())


def _background(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Soft grey stripes that move by 40 pixels a second."""
    width, height = size
    phase = (np.arange(width) + 40 * time_s) * (2 * math.pi / 160)
    row = (112 + 24 * np.sin(phase)).astype(np.uint8)
    return cv2.repeat(cv2.cvtColor(row[None], cv2.COLOR_GRAY2BGR), height, 1)


def _pictures(folder: Path | None) -> list[NDArray[np.uint8]]:
    if folder is None:
        return [_shapes()]
    return [read_image(path, convert_channels=True) for path in find_images(folder).images]


def _fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture to its share of the scene."""
    height, width = image.shape[:2]
    scale = min(_SHARE * size[0] / width, _SHARE * size[1] / height)
    fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, fitted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _shapes() -> NDArray[np.uint8]:
    """A red circle, a blue square and a yellow triangle, (240, 320, 3) uint8 BGR."""
    image = np.full((240, 320, 3), 128, np.uint8)
    cv2.circle(image, (70, 80), 45, (0, 0, 220), -1)
    cv2.rectangle(image, (200, 40), (280, 120), (220, 0, 0), -1)
    cv2.fillPoly(image, [np.array([[160, 130], [110, 220], [210, 220]], np.int32)], (0, 220, 220))
    return image
