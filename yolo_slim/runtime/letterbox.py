"""Letterbox: an image of any size to the model's fixed input, and boxes back to the image's own pixels.

The conventions, rounding included, are those of Ultralytics' ``LetterBox`` and ``scale_boxes`` (8.4.190).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAD_VALUE = 114
# A table of the 256 quotients gives the same float32 numbers as dividing every pixel, and is faster.
_TO_UNIT: NDArray[np.float32] = np.arange(256, dtype=np.float32) / np.float32(255)
_CONVERSIONS = {
    1: "cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)",
    2: "cv2.cvtColor(image[..., 0], cv2.COLOR_GRAY2BGR)",
    4: "cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)",
}


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the image lies inside the model's input."""

    image_hw: tuple[int, int]
    """Original height and width, pixels."""
    resized_hw: tuple[int, int]
    """Height and width after resizing, pixels."""
    top: int
    """Rows of padding above."""
    left: int
    """Columns of padding on the left."""

    def to_image(self, boxes: NDArray[np.float32], *, clip: bool = True) -> NDArray[np.float32]:
        """Boxes (N, 4) xyxy in input pixels, moved to the image's own pixels, and clipped to it on request."""
        height, width = self.image_hw
        gain_y, gain_x = self.resized_hw[0] / height, self.resized_hw[1] / width
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        gain = np.array([gain_x, gain_y, gain_x, gain_y], np.float32)
        moved: NDArray[np.float32] = (boxes - offset) / gain
        if clip:
            limit = np.array([width, height, width, height], np.float32)
            moved = np.minimum(np.maximum(moved, np.float32(0)), limit)
        return moved


def fit(image_hw: tuple[int, int], imgsz: tuple[int, int]) -> Geometry:
    """Where an image of a size lies inside an input of size ``imgsz`` (height, width)."""
    ratio = min(imgsz[0] / image_hw[0], imgsz[1] / image_hw[1])
    # At least 1 px: a very long image would be rounded to a side of 0, which cv2.resize refuses.
    height, width = max(round(image_hw[0] * ratio), 1), max(round(image_hw[1] * ratio), 1)
    # -0.1 as in Ultralytics: of an odd padding, the smaller half is above and on the left.
    top, left = round((imgsz[0] - height) / 2 - 0.1), round((imgsz[1] - width) / 2 - 0.1)
    return Geometry(image_hw=image_hw, resized_hw=(height, width), top=top, left=left)


class Letterbox:
    """Letterbox images into one input buffer, which is reused: a blob is valid until the next call.

    Only the image's part of the buffer is rewritten while the frame size stays the same.
    """

    def __init__(self, imgsz: tuple[int, int]) -> None:
        self._imgsz = imgsz
        self._blob = np.empty((1, 3, *imgsz), np.float32)
        self._geometry: Geometry | None = None

    def __call__(self, image_bgr: Any) -> tuple[NDArray[np.float32], Geometry]:
        """Make the model's input, and the geometry that undoes it.

        Args:
            image_bgr: (H, W, 3) uint8, BGR.

        Returns:
            (1, 3, h, w) float32 in [0, 1], RGB; and where the image lies in it.

        Raises:
            SlimError: the image isn't (H, W, 3) uint8.
        """
        require_bgr(image_bgr)
        geometry = self._prepare((image_bgr.shape[0], image_bgr.shape[1]))
        height, width = geometry.resized_hw
        # Ultralytics doesn't resize an image that already fits; an interpolation could change its pixels.
        if geometry.resized_hw == geometry.image_hw:
            resized = image_bgr
        else:
            resized = cv2.resize(image_bgr, (width, height), self._resized, interpolation=cv2.INTER_LINEAR)
        blue, green, red = cv2.split(resized, self._planes)
        # Writes straight into the input buffer: no intermediate float image, no transposition.
        for plane, target in zip((red, green, blue), self._targets, strict=True):
            cv2.LUT(plane, _TO_UNIT, target)
        return self._blob, geometry

    def _prepare(self, image_hw: tuple[int, int]) -> Geometry:
        """Arrange the buffer for a frame size, unless it already is."""
        if self._geometry is not None and self._geometry.image_hw == image_hw:
            return self._geometry
        geometry = fit(image_hw, self._imgsz)
        height, width = geometry.resized_hw
        rows, columns = slice(geometry.top, geometry.top + height), slice(geometry.left, geometry.left + width)
        self._blob.fill(_TO_UNIT[PAD_VALUE])
        # Shape and type must fit exactly: otherwise OpenCV returns a new array and leaves the given one as it is.
        self._targets = [self._blob[0, channel, rows, columns] for channel in range(3)]
        self._planes = [np.empty((height, width), np.uint8) for _ in range(3)]
        self._resized = np.empty((height, width, 3), np.uint8)
        self._geometry = geometry
        return geometry


def letterbox(image_bgr: Any, imgsz: tuple[int, int]) -> tuple[NDArray[np.float32], Geometry]:
    """Letterbox one image into a buffer of its own, see :class:`Letterbox`."""
    return Letterbox(imgsz)(image_bgr)


def require_bgr(image: Any) -> None:
    """Refuse anything but a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray):
        remedy = "Read it with cv2.imread(path, cv2.IMREAD_COLOR)."
        raise SlimError(f"Expected an image array (H, W, 3) uint8, got {type(image).__name__}.", remedy=remedy)
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size > 0:
        return
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    fact = f"Expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}"
    fact += f" with {channels} channel(s)." if channels else "."
    raise SlimError(fact, remedy=_how_to_convert(image, channels))


def _how_to_convert(image: NDArray[Any], channels: int) -> str:
    if image.size == 0:
        return "The image is empty: check where it comes from."
    if image.dtype != np.uint8:
        return "Scale its values to 0..255 and convert: image.astype(numpy.uint8)."
    if channels in _CONVERSIONS:
        return f"Convert it: image = {_CONVERSIONS[channels]}"
    return "Give one image at a time, three colour channels last, in BGR order."
