"""The faces of the quickstart's traffic signs, drawn as polygons and letters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from yolo_slim.datasets.quickstart.drawing import (
    BLACK,
    BLUE,
    BOARD,
    CIRCLE,
    OCTAGON,
    RED,
    SQUARE,
    TEMPLATE_PX,
    TRIANGLE,
    WHITE,
    YELLOW,
    Colour,
    Image,
    Points,
    fill,
    fixed_point,
    lines,
    regular,
    stroke,
    write,
)

NAMES = ("stop", "yield", "no_entry", "speed_30", "speed_50", "speed_80", "crossing", "turn_right")


def _stop(image: Image) -> None:
    fill(image, OCTAGON, WHITE)
    fill(image, OCTAGON * 0.91, RED)
    write(image, "STOP", WHITE, half_width=0.74, half_height=0.3, width=0.11)


def _yield(image: Image) -> None:
    fill(image, TRIANGLE * (1, -1), RED)
    fill(image, TRIANGLE * (0.62, -0.62) - (0, 0.12), WHITE)


def _no_entry(image: Image) -> None:
    fill(image, CIRCLE, RED)
    fill(image, SQUARE * (0.78, 0.2), WHITE)


def _speed(image: Image, text: str) -> None:
    fill(image, CIRCLE, RED)
    fill(image, CIRCLE * 0.77, WHITE)
    write(image, text, BLACK, half_width=0.55, half_height=0.4, width=0.16)


def _walker(image: Image, colour: Colour) -> None:
    """Draw a walking person of about one unit height around the centre."""
    fill(image, CIRCLE * 0.1 - (0, 0.42), colour)
    for line in (lines(0, -0.25, 0, 0.1, -0.22, 0.5), lines(0, 0.1, 0.2, 0.5), lines(-0.25, 0.05, 0, -0.2, 0.25, 0)):
        stroke(image, line, colour, 0.11)


def _crossing(image: Image) -> None:
    fill(image, SQUARE, BLUE)
    fill(image, TRIANGLE * 0.82, WHITE)
    _walker(image, BLACK)


def _turn_right(image: Image) -> None:
    fill(image, CIRCLE, WHITE)
    fill(image, CIRCLE * 0.93, BLUE)
    stroke(image, lines(-0.35, 0.6, -0.35, -0.1, 0.2, -0.1), WHITE, 0.22)
    fill(image, lines(0.15, -0.5, 0.68, -0.1, 0.15, 0.3), WHITE)


def _warning(image: Image) -> None:
    fill(image, TRIANGLE, RED)
    fill(image, TRIANGLE * 0.66 + (0, 0.08), WHITE)
    write(image, "!", BLACK, half_width=0.3, half_height=0.3, width=0.16)


def _no_parking(image: Image) -> None:
    fill(image, CIRCLE, RED)
    fill(image, CIRCLE * 0.78, BLUE)
    stroke(image, lines(-0.6, -0.6, 0.6, 0.6), RED, 0.2)


def _parking(image: Image) -> None:
    fill(image, SQUARE, BLUE)
    write(image, "P", WHITE, half_width=0.5, half_height=0.55, width=0.22)


def _priority(image: Image) -> None:
    fill(image, regular(4, 0), WHITE)
    fill(image, regular(4, 0) * 0.72, YELLOW)


def _closed(image: Image) -> None:
    fill(image, CIRCLE, RED)
    fill(image, CIRCLE * 0.77, WHITE)


def _advert(image: Image) -> None:
    fill(image, BOARD, RED)
    write(image, "SALE", WHITE, half_width=0.8, half_height=0.3, width=0.14)


Face = tuple[Points, Callable[[Image], None]]
FACES: dict[str, Face] = {
    "stop": (OCTAGON, _stop),
    "yield": (TRIANGLE * (1, -1), _yield),
    "no_entry": (CIRCLE, _no_entry),
    "speed_30": (CIRCLE, lambda image: _speed(image, "30")),
    "speed_50": (CIRCLE, lambda image: _speed(image, "50")),
    "speed_80": (CIRCLE, lambda image: _speed(image, "80")),
    "crossing": (SQUARE, _crossing),
    "turn_right": (CIRCLE, _turn_right),
}
DISTRACTORS: dict[str, Face] = {
    "warning": (TRIANGLE, _warning),
    "no_parking": (CIRCLE, _no_parking),
    "parking": (SQUARE, _parking),
    "priority": (regular(4, 0), _priority),
    "closed": (CIRCLE, _closed),
    "advert": (BOARD, _advert),
}
"""Look-alikes: drawn as signs are, never labelled."""


@cache
def template(name: str) -> Image:
    """A sign's (256, 256, 4) face: BGR and the coverage of its outline."""
    outline, paint = (FACES | DISTRACTORS)[name]
    face = np.zeros((TEMPLATE_PX, TEMPLATE_PX, 3), np.uint8)
    face[:] = 128
    paint(face)
    coverage = np.zeros((TEMPLATE_PX, TEMPLATE_PX), np.uint8)
    cv2.fillPoly(coverage, [fixed_point(outline)], 255, cv2.LINE_AA, shift=4)
    return np.dstack([face, coverage])
