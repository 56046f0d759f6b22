"""The faces of the quickstart's traffic signs, drawn as polygons and glyphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("stop", "yield", "no_entry", "speed_30", "speed_50", "speed_80", "crossing", "turn_right")


TEMPLATE_PX = 256


Image = NDArray[np.uint8]


Floats = NDArray[np.float32]


Points = NDArray[np.float64]


Rng = np.random.Generator


Colour = tuple[float, float, float]


WHITE, BLACK, RED, BLUE, YELLOW = (240, 240, 240), (25, 25, 25), (35, 25, 190), (170, 75, 20), (30, 190, 240)


def _arc(x: float, y: float, rx: float, ry: float, start_deg: float, end_deg: float) -> Points:
    """Return (25, 2) points on an ellipse around (x, y), clockwise on the screen."""
    angle = np.radians(np.linspace(start_deg, end_deg, 25))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _lines(*xy: float) -> Points:
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def _regular(corners: int, turn_deg: float) -> Points:
    """Return the (corners, 2) corners of a regular polygon in the unit circle."""
    angle = np.radians(turn_deg + np.arange(corners) * 360 / corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


CIRCLE, OCTAGON = _regular(64, 0), _regular(8, 22.5) * 1.06


SQUARE = _lines(-0.95, -0.95, 0.95, -0.95, 0.95, 0.95, -0.95, 0.95)


TRIANGLE = _lines(0, -0.87, 1, 0.87, -1, 0.87)


BOARD = _lines(-1, -0.55, 1, -0.55, 1, 0.55, -1, 0.55)


GLYPHS: dict[str, list[Points]] = {
    "0": [_arc(0, 0, 0.6, 1, 0, 360)],
    "3": [_arc(-0.05, -0.5, 0.6, 0.5, -150, 90), _arc(-0.05, 0.5, 0.65, 0.5, -90, 150)],
    "5": [_lines(0.55, -1, -0.45, -1, -0.55, -0.1), _arc(-0.05, 0.35, 0.65, 0.62, -140, 150)],
    "8": [_arc(0, -0.5, 0.5, 0.48, 0, 360), _arc(0, 0.5, 0.62, 0.5, 0, 360)],
    "S": [_arc(0, -0.5, 0.55, 0.5, -20, -270), _arc(0, 0.5, 0.55, 0.5, -90, 160)],
    "T": [_lines(-0.6, -1, 0.6, -1), _lines(0, -1, 0, 1)],
    "O": [_arc(0, 0, 0.6, 1, 0, 360)],
    "P": [_lines(-0.5, 1, -0.5, -1, 0.05, -1), _arc(0.05, -0.45, 0.5, 0.55, -90, 90), _lines(0.05, 0.1, -0.5, 0.1)],
    "A": [_lines(-0.6, 1, 0, -1, 0.6, 1), _lines(-0.35, 0.3, 0.35, 0.3)],
    "E": [_lines(0.5, -1, -0.5, -1, -0.5, 1, 0.5, 1), _lines(-0.5, 0, 0.35, 0)],
    "L": [_lines(-0.5, -1, -0.5, 1, 0.5, 1)],
    "N": [_lines(-0.5, 1, -0.5, -1, 0.5, 1, 0.5, -1)],
    "!": [_lines(0, -1, 0, 0.4), _lines(0, 0.9, 0, 1)],
}
"""Own stroke letters: OpenCV's text drawing changed between versions 4 and 5."""


def _fixed(points: Points) -> NDArray[np.int32]:
    """Turn unit coordinates into template pixels with four fractional bits, as OpenCV's ``shift`` wants them."""
    return np.rint((points * 0.96 + 1) * TEMPLATE_PX / 2 * 16).astype(np.int32)


def _fill(image: Image, points: Points, colour: Colour) -> None:
    cv2.fillPoly(image, [_fixed(points)], colour, cv2.LINE_AA, shift=4)


def _stroke(image: Image, points: Points, colour: Colour, width: float) -> None:
    thickness = max(1, round(width * TEMPLATE_PX / 2))
    cv2.polylines(image, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, shift=4)


def _write(image: Image, text: str, colour: Colour, *, half_width: float, half_height: float, width: float) -> None:
    """Write text centred on a template, each letter in a cell of equal size."""
    cell = half_width / len(text)
    for place, letter in enumerate(text):
        centre = (2 * place + 1 - len(text)) * cell
        for line in GLYPHS[letter]:
            _stroke(image, line * (cell * 0.95, half_height) + (centre, 0), colour, width)


def _stop(image: Image) -> None:
    _fill(image, OCTAGON, WHITE)
    _fill(image, OCTAGON * 0.91, RED)
    _write(image, "STOP", WHITE, half_width=0.74, half_height=0.3, width=0.11)


def _yield(image: Image) -> None:
    _fill(image, TRIANGLE * (1, -1), RED)
    _fill(image, TRIANGLE * (0.62, -0.62) - (0, 0.12), WHITE)


def _no_entry(image: Image) -> None:
    _fill(image, CIRCLE, RED)
    _fill(image, SQUARE * (0.78, 0.2), WHITE)


def _speed(image: Image, text: str) -> None:
    _fill(image, CIRCLE, RED)
    _fill(image, CIRCLE * 0.77, WHITE)
    _write(image, text, BLACK, half_width=0.55, half_height=0.4, width=0.16)


def _walker(image: Image, colour: Colour) -> None:
    """Draw a walking person of about one unit height around the centre."""
    _fill(image, CIRCLE * 0.1 - (0, 0.42), colour)
    for line in (_lines(0, -0.25, 0, 0.1, -0.22, 0.5), _lines(0, 0.1, 0.2, 0.5), _lines(-0.25, 0.05, 0, -0.2, 0.25, 0)):
        _stroke(image, line, colour, 0.11)


def _crossing(image: Image) -> None:
    _fill(image, SQUARE, BLUE)
    _fill(image, TRIANGLE * 0.82, WHITE)
    _walker(image, BLACK)


def _turn_right(image: Image) -> None:
    _fill(image, CIRCLE, WHITE)
    _fill(image, CIRCLE * 0.93, BLUE)
    _stroke(image, _lines(-0.35, 0.6, -0.35, -0.1, 0.2, -0.1), WHITE, 0.22)
    _fill(image, _lines(0.15, -0.5, 0.68, -0.1, 0.15, 0.3), WHITE)


def _warning(image: Image) -> None:
    _fill(image, TRIANGLE, RED)
    _fill(image, TRIANGLE * 0.66 + (0, 0.08), WHITE)
    _write(image, "!", BLACK, half_width=0.3, half_height=0.3, width=0.16)


def _no_parking(image: Image) -> None:
    _fill(image, CIRCLE, RED)
    _fill(image, CIRCLE * 0.78, BLUE)
    _stroke(image, _lines(-0.6, -0.6, 0.6, 0.6), RED, 0.2)


def _parking(image: Image) -> None:
    _fill(image, SQUARE, BLUE)
    _write(image, "P", WHITE, half_width=0.5, half_height=0.55, width=0.22)


def _priority(image: Image) -> None:
    _fill(image, _regular(4, 0), WHITE)
    _fill(image, _regular(4, 0) * 0.72, YELLOW)


def _closed(image: Image) -> None:
    _fill(image, CIRCLE, RED)
    _fill(image, CIRCLE * 0.77, WHITE)


def _advert(image: Image) -> None:
    _fill(image, BOARD, RED)
    _write(image, "SALE", WHITE, half_width=0.8, half_height=0.3, width=0.14)


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
    "priority": (_regular(4, 0), _priority),
    "closed": (CIRCLE, _closed),
    "advert": (BOARD, _advert),
}
"""Look-alikes: drawn as signs are, never labelled."""


@cache
def _template(name: str) -> Image:
    """Return a sign's (256, 256, 4) face: BGR and the coverage of its outline."""
    outline, paint = (FACES | DISTRACTORS)[name]
    face = np.zeros((TEMPLATE_PX, TEMPLATE_PX, 3), np.uint8)
    face[:] = 128
    paint(face)
    coverage = np.zeros((TEMPLATE_PX, TEMPLATE_PX), np.uint8)
    cv2.fillPoly(coverage, [_fixed(outline)], 255, cv2.LINE_AA, shift=4)
    return np.dstack([face, coverage])
