"""Polygons, stroke letters and random textures: what signs and scenes are drawn with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

TEMPLATE_PX = 256
"""Side of the square that a sign's face is painted on. Unit coordinates: its centre is 0, its edges are 1 / 0.96."""
Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Points = NDArray[np.float64]
Rng = np.random.Generator
Colour = tuple[float, float, float]
WHITE, BLACK, RED, BLUE, YELLOW = (240, 240, 240), (25, 25, 25), (35, 25, 190), (170, 75, 20), (30, 190, 240)


def arc(x: float, y: float, rx: float, ry: float, start_deg: float, end_deg: float) -> Points:
    """(25, 2) points on an ellipse around (x, y), clockwise on the screen."""
    angle = np.radians(np.linspace(start_deg, end_deg, 25))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def lines(*xy: float) -> Points:
    """(N, 2) points of a polyline from x, y, x, y, ..."""
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def regular(corners: int, turn_deg: float) -> Points:
    """The (corners, 2) corners of a regular polygon in the unit circle."""
    angle = np.radians(turn_deg + np.arange(corners) * 360 / corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


CIRCLE, OCTAGON = regular(64, 0), regular(8, 22.5) * 1.06
SQUARE = lines(-0.95, -0.95, 0.95, -0.95, 0.95, 0.95, -0.95, 0.95)
TRIANGLE = lines(0, -0.87, 1, 0.87, -1, 0.87)
BOARD = lines(-1, -0.55, 1, -0.55, 1, 0.55, -1, 0.55)
GLYPHS: dict[str, list[Points]] = {
    "0": [arc(0, 0, 0.6, 1, 0, 360)],
    "3": [arc(-0.05, -0.5, 0.6, 0.5, -150, 90), arc(-0.05, 0.5, 0.65, 0.5, -90, 150)],
    "5": [lines(0.55, -1, -0.45, -1, -0.55, -0.1), arc(-0.05, 0.35, 0.65, 0.62, -140, 150)],
    "8": [arc(0, -0.5, 0.5, 0.48, 0, 360), arc(0, 0.5, 0.62, 0.5, 0, 360)],
    "S": [arc(0, -0.5, 0.55, 0.5, -20, -270), arc(0, 0.5, 0.55, 0.5, -90, 160)],
    "T": [lines(-0.6, -1, 0.6, -1), lines(0, -1, 0, 1)],
    "O": [arc(0, 0, 0.6, 1, 0, 360)],
    "P": [lines(-0.5, 1, -0.5, -1, 0.05, -1), arc(0.05, -0.45, 0.5, 0.55, -90, 90), lines(0.05, 0.1, -0.5, 0.1)],
    "A": [lines(-0.6, 1, 0, -1, 0.6, 1), lines(-0.35, 0.3, 0.35, 0.3)],
    "E": [lines(0.5, -1, -0.5, -1, -0.5, 1, 0.5, 1), lines(-0.5, 0, 0.35, 0)],
    "L": [lines(-0.5, -1, -0.5, 1, 0.5, 1)],
    "N": [lines(-0.5, 1, -0.5, -1, 0.5, 1, 0.5, -1)],
    "!": [lines(0, -1, 0, 0.4), lines(0, 0.9, 0, 1)],
}
"""Own stroke letters: OpenCV's text drawing changed between versions 4 and 5."""


def fixed_point(points: Points) -> NDArray[np.int32]:
    """Turn unit coordinates into template pixels with four fractional bits, as OpenCV's ``shift=4`` reads them."""
    return np.rint((points * 0.96 + 1) * TEMPLATE_PX / 2 * 16).astype(np.int32)


def fill(image: Image, points: Points, colour: Colour) -> None:
    """Fill a polygon in unit coordinates on a template."""
    cv2.fillPoly(image, [fixed_point(points)], colour, cv2.LINE_AA, shift=4)


def stroke(image: Image, points: Points, colour: Colour, width: float) -> None:
    """Draw a polyline in unit coordinates on a template."""
    thickness = max(1, round(width * TEMPLATE_PX / 2))
    cv2.polylines(image, [fixed_point(points)], False, colour, thickness, cv2.LINE_AA, shift=4)


def write(image: Image, text: str, colour: Colour, *, half_width: float, half_height: float, width: float) -> None:
    """Write text centred on a template, each letter in a cell of equal size."""
    cell = half_width / len(text)
    for place, letter in enumerate(text):
        centre = (2 * place + 1 - len(text)) * cell
        for line in GLYPHS[letter]:
            stroke(image, line * (cell * 0.95, half_height) + (centre, 0), colour, width)


def uniform_colour(rng: Rng, low: Sequence[float], high: Sequence[float]) -> Colour:
    """A random BGR colour between two."""
    blue, green, red = (float(rng.uniform(a, b)) for a, b in zip(low, high, strict=True))
    return blue, green, red


def cloud(rng: Rng, size: int, cells: int) -> Floats:
    """A smooth (size, size) float32 random field in about [-1, 1]."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def polygon_mask(size: int, points: Points) -> Image:
    """A (size, size) mask that is 255 inside a polygon in pixels."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    return mask


def leaves(rng: Rng, size: int, centre: Points, spread_px: float, count: int, leaf_px: float) -> Image:
    """The (size, size) mask of a cluster of leaves around a point."""
    mask = np.zeros((size, size), np.uint8)
    for x, y in np.rint(rng.normal(centre, spread_px, (count, 2))).astype(int):
        axes = np.rint(rng.uniform(0.5, 1.3, 2) * leaf_px).astype(int) + 1
        cv2.ellipse(mask, (int(x), int(y)), (int(axes[0]), int(axes[1])), int(rng.integers(180)), 0, 360, 255, -1)
    return mask


def foliage(rng: Rng, size: int) -> Image:
    """A (size, size, 3) leaf texture in a random green, autumn or winter tone."""
    base = np.array(uniform_colour(rng, (15, 50, 25), (70, 130, 120)), np.float32)
    return np.clip(base * (1 + 0.5 * cloud(rng, size, 64)[..., None]), 0, 255).astype(np.uint8)
