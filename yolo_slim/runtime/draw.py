"""Detections drawn into an image."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.runtime.decode import Detections

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_RATIO = 0.618034
_WHITE = (255, 255, 255)


def draw(
    image_bgr: NDArray[np.uint8], detections: Detections, names: Mapping[int, str], track_ids: Sequence[int] = ()
) -> NDArray[np.uint8]:
    """Draw boxes, class names and scores into a copy of an image.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        detections: boxes in the image's own pixels; the best is drawn last, on top.
        names: class id to class name; an unknown id is drawn as a number.
        track_ids: of the detections, in their order; empty: nothing is tracked.
    """
    canvas: NDArray[np.uint8] = image_bgr.copy()
    width = line_width(canvas)
    # 0: the object has no id yet.
    tracks = [f" #{track_id}" if track_id else "" for track_id in track_ids] or [""] * len(detections)
    for index in reversed(range(len(detections))):
        class_id = int(detections.class_ids[index])
        left, top, right, bottom = (round(value) for value in detections.boxes[index].tolist())
        color = class_color(class_id)
        cv2.rectangle(canvas, (left, top), (right, bottom), color, width, cv2.LINE_AA)
        text = f"{names.get(class_id, class_id)}{tracks[index]} {detections.scores[index]:.2f}"
        label(canvas, text, (left, top), color)
    return canvas


def line_width(image: NDArray[np.uint8]) -> int:
    """Width of lines in an image, pixels."""
    # Ultralytics' formula, but thinner (1 px) in small images.
    return max(round(sum(image.shape[:2]) / 2 * 0.003), 1)


def class_color(class_id: int) -> tuple[int, int, int]:
    """A class's BGR colour."""
    # Steps of the golden ratio around the colour wheel: neighbouring classes never look alike.
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1, 0.9, 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)


def label(canvas: NDArray[np.uint8], text: str, left_top: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Write a text on a filled bar above a box, or inside it at the image's upper edge.

    Args:
        canvas: (H, W, 3) uint8, drawn into.
        text: one line; OpenCV's font has no characters beyond ASCII.
        left_top: the box's corner, x and y.
        color: of the bar, BGR.
    """
    left, top = left_top
    width = line_width(canvas)
    scale, thickness = max(width / 3, 0.35), max(width - 1, 1)
    text_width, text_height, baseline = _text_size(text, scale, thickness)
    bottom = max(top, text_height + baseline)
    cv2.rectangle(canvas, (left, bottom - text_height - baseline), (left + text_width, bottom), color, cv2.FILLED)
    cv2.putText(canvas, text, (left, bottom - baseline // 2 - 1), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)


# A camera writes the same texts again and again; measuring one takes longer than writing it (OpenCV 5: 16 and 6 us).
@lru_cache(maxsize=4096)
def _text_size(text: str, scale: float, thickness: int) -> tuple[int, int, int]:
    """Width, height and baseline of a text, pixels."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    return width, height, baseline
