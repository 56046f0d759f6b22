"""A shown frame as a picture: boxes, tracks, lines and zones, two bundles side by side, and its age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolo_slim.runtime.draw import draw, label, line_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.runtime.camera.frame import Shown
    from yolo_slim.runtime.camera.status import Freshness

SHAPE_COLOR = (0, 110, 200)
TITLE_COLOR = (60, 60, 60)
AGE_COLOR = (0, 0, 200)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A line or a zone over the picture."""

    points: tuple[tuple[float, float], ...]
    """x and y from 0 to 1, of the picture's width and height."""
    text: str = ""
    """Its name and counts."""
    is_closed: bool = False
    """Whether it is a zone."""


def picture(
    shown: Shown,
    names: Mapping[str, Mapping[int, str]],
    *,
    shapes: Sequence[Shape] = (),
    fps: Mapping[str, float | None] | None = None,
) -> NDArray[np.uint8]:
    """The frame with what was found in it; with several bundles, their pictures side by side.

    Args:
        shown: the frame and its answers; the frame's image isn't changed.
        names: class names of each bundle, by the bundle's name.
        shapes: lines and zones, drawn into the first bundle's picture.
        fps: what each bundle could reach alone, for the titles of pictures side by side.

    Returns:
        (H, W, 3) uint8 BGR; W is that of all pictures together.
    """
    pictures = []
    for index, (name, answer) in enumerate(shown.answers.items()):
        tracks = shown.track_ids if index == 0 else ()
        canvas = draw(shown.frame.image, answer.detections, names.get(name, {}), tracks)
        draw_shapes(canvas, shapes if index == 0 else ())
        if len(shown.answers) > 1:
            label(canvas, _title(name, (fps or {}).get(name), answer.times.total_ms), (0, 0), TITLE_COLOR)
        pictures.append(canvas)
    if not pictures:
        return shown.frame.image.copy()
    return pictures[0] if len(pictures) == 1 else np.hstack(pictures)


def draw_shapes(canvas: NDArray[np.uint8], shapes: Sequence[Shape]) -> None:
    """Draw lines and zones into a picture."""
    height, width = canvas.shape[:2]
    for shape in shapes:
        points = np.round(np.array(shape.points) * [width - 1, height - 1]).astype(np.int32)
        cv2.polylines(canvas, [points], shape.is_closed, SHAPE_COLOR, line_width(canvas), cv2.LINE_AA)
        if shape.text:
            label(canvas, shape.text, (int(points[0][0]), int(points[0][1])), SHAPE_COLOR)


def draw_age(image_bgr: NDArray[np.uint8], age_s: float, freshness: Freshness) -> NDArray[np.uint8]:
    """The picture as it may be shown at an age: as it is, with ``2 s old`` over it, or grey as well.

    Args:
        image_bgr: (H, W, 3) uint8; stays as it is.
        age_s: seconds since its frame was captured.
        freshness: as :func:`yolo_slim.runtime.camera.status.freshness` says.
    """
    if freshness == "live":
        return image_bgr
    canvas = image_bgr.copy() if freshness == "stale" else _grey(image_bgr)
    # At the lower edge: titles are at the upper one.
    label(canvas, f"{age_s:.0f} s old", (0, canvas.shape[0]), AGE_COLOR)
    return canvas


def _grey(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = cv2.cvtColor(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return grey


def _title(name: str, fps: float | None, total_ms: float) -> str:
    return f"{name} {total_ms:.1f} ms" if fps is None else f"{name} {fps:.1f} FPS, {total_ms:.1f} ms"
