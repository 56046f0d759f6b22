"""Frames turned and mirrored as the camera hangs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from yolo_slim.runtime.camera.frame import Source
from yolo_slim.runtime.camera.sources.options import SourceOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS = {"h": 1, "v": 0, "hv": -1}


def turned(image: NDArray[np.uint8], rotate: int, flip: str) -> NDArray[np.uint8]:
    """Turn an image of (H, W, 3) clockwise by ``rotate`` degrees, then mirror it."""
    if rotate:
        image = cv2.rotate(image, _ROTATIONS[rotate])
    return cv2.flip(image, _FLIPS[flip]) if flip else image


@dataclass
class TurnedSource:
    """A source whose frames are turned; everything else is the inner source's."""

    source: Source
    options: SourceOptions

    @property
    def name(self) -> str:
        """The inner source's."""
        return self.source.name

    @property
    def is_live(self) -> bool:
        """The inner source's."""
        return self.source.is_live

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (H, W, 3) uint8 BGR, turned; None: the end."""
        image = self.source.read()
        return None if image is None else turned(image, self.options.rotate, self.options.flip)

    def close(self) -> None:
        """Close the inner source."""
        self.source.close()
