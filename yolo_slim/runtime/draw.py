"""Detections drawn into an image."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.runtime.decode import Detections

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_RATIO = 0.618034
_WHITE = (255, 255, 255)


def draw(image_bgr: NDArray[np.uint8], detections: Detections, names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Draw boxes, class names and scores into a copy of an image.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        detections: boxes in the image's own pixels; the best is drawn last, on top.
        names: class id to class name; an unknown id is drawn as a number.
    """
    canvas: NDArray[np.uint8] = image_bgr.copy()
    # Ultralytics' formula for the width of lines, but thinner (1 px) in small images.
    width = max(round(sum(canvas.shape[:2]) / 2 * 0.003), 1)
    for index in reversed(range(len(detections))):
        class_id = int(detections.class_ids[index])
        left, top, right, bottom = (round(value) for value in detections.boxes[index].tolist())
        color = class_color(class_id)
        cv2.rectangle(canvas, (left, top), (right, bottom), color, width, cv2.LINE_AA)
        _label(canvas, f"{names.get(class_id, class_id)} {detections.scores[index]:.2f}", left, top, color, width)
    return canvas


def class_color(class_id: int) -> tuple[int, int, int]:
    """A class's BGR colour."""
    # Steps of the golden ratio around the colour wheel: neighbouring classes never look alike.
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1, 0.9, 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)


def _label(canvas: NDArray[np.uint8], text: str, left: int, top: int, color: tuple[int, int, int], width: int) -> None:
    """Write a text on a filled bar above a box, or inside it at the image's upper edge."""
    scale = max(width / 3, 0.35)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, max(width - 1, 1))
    bottom = max(top, text_height + baseline)
    cv2.rectangle(canvas, (left, bottom - text_height - baseline), (left + text_width, bottom), color, cv2.FILLED)
    cv2.putText(canvas, text, (left, bottom - baseline // 2 - 1), _FONT, scale, _WHITE, max(width - 1, 1), cv2.LINE_AA)
