"""The quickstart data set: rendered traffic sign scenes, drawn on the user's machine in seconds.

Nothing is downloaded: NumPy and OpenCV draw streets, signs, look-alikes and bad weather from a seed.
Generate a set with ``python -m yolo_slim.quickstart OUT``. Scenes are painted at twice the final size on a
:class:`Scene`, which knows for every pixel which sign is seen there; labels are read from that map.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError, os_errors_explained

GENERATOR_VERSION = 1
"""Raised whenever the same seed draws other pixels or labels."""

NAMES = ("stop", "yield", "no_entry", "speed_30", "speed_50", "speed_80", "crossing", "turn_right")
DEFAULT_COUNTS = {"train": 560, "val": 120, "test": 120}
SPLITS = tuple(DEFAULT_COUNTS)
MODEL = Path(__file__).parent / "assets" / "quickstart-yolo11n.pt"

SUPERSAMPLE = 2
TEMPLATE_PX = 256
MIN_VISIBLE = 0.55
"""A sign that shows less than this part of its area is not drawn; nothing may be painted over a sign beyond it."""

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Points = NDArray[np.float64]
Rng = np.random.Generator
Colour = tuple[float, float, float]

WHITE, BLACK, RED, BLUE, YELLOW = (240, 240, 240), (25, 25, 25), (35, 25, 190), (170, 75, 20), (30, 190, 240)
FILE_PATTERN = re.compile(
    r"data\.yaml|dataset\.json|images/(train|val|test)/\d{5}\.(jpg|npy)|labels/(train|val|test)(/\d{5}\.txt|\.cache)"
)


# --- glyphs and outlines, in units of half a sign: x to the right, y down, both in [-1, 1] ---


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


# --- sign faces ---


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


# --- the scene ---


@dataclass
class Scene:
    """A picture in the making, at ``SUPERSAMPLE`` times the final size.

    canvas: (S, S, 3) uint8 BGR; owner: (S, S) int16, 0 or 1 + the index of the sign seen at that pixel.
    """

    rng: Rng
    canvas: Image
    owner: NDArray[np.int16]
    class_ids: list[int] = field(default_factory=list)
    areas_px: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Width and height in canvas pixels."""
        return self.canvas.shape[0]

    def hides_too_much(self, mask: NDArray[np.bool_], where: tuple[slice, slice]) -> bool:
        """Tell whether painting over ``mask`` would leave less than ``MIN_VISIBLE`` of any sign."""
        covered = np.bincount(self.owner[where][mask], minlength=len(self.areas_px) + 1)[1:]
        if not covered.any():
            return False
        seen = np.bincount(self.owner.ravel(), minlength=len(self.areas_px) + 1)[1:]
        return bool(np.any((seen - covered < MIN_VISIBLE * np.array(self.areas_px)) & (covered > 0)))

    def cover(self, mask: Image, colour: Colour | Image) -> bool:
        """Paint ``mask`` ((S, S) uint8) in one colour or from an (S, S, 3) image, unless it hides a sign too much."""
        solid = mask > 127
        everywhere = (slice(None), slice(None))
        if self.hides_too_much(solid, everywhere):
            return False
        self.canvas[solid] = colour[solid] if isinstance(colour, np.ndarray) else colour
        self.owner[solid] = 0
        return True

    def paste(self, face: Image, where: tuple[slice, slice], class_id: int | None, area_px: float) -> bool:
        """Blend an (h, w, 4) face into the canvas as a sign (or as a distractor, without class)."""
        solid = face[..., 3] > 127
        if np.count_nonzero(solid) < MIN_VISIBLE * area_px or self.hides_too_much(solid, where):
            return False
        alpha = face[..., 3:].astype(np.float32) / 255
        blended = self.canvas[where] * (1 - alpha) + face[..., :3] * alpha
        self.canvas[where] = np.rint(blended).astype(np.uint8)
        self.owner[where][solid] = 0 if class_id is None else len(self.class_ids) + 1
        if class_id is not None:
            self.class_ids.append(class_id)
            self.areas_px.append(area_px)
        return True


def _uniform_colour(rng: Rng, low: Sequence[float], high: Sequence[float]) -> Colour:
    blue, green, red = (float(rng.uniform(a, b)) for a, b in zip(low, high, strict=True))
    return blue, green, red


def _cloud(rng: Rng, size: int, cells: int) -> Floats:
    """Return a smooth (size, size) float32 random field in about [-1, 1]."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _polygon_mask(size: int, points: Points) -> Image:
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    return mask


def _backdrop(rng: Rng, size: int, horizon: int) -> Image:
    """Return sky above and ground below the horizon row, (size, size, 3) uint8."""
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    top, low = (np.array(_uniform_colour(rng, (150, 110, 70), (250, 220, 215)), np.float32) for _ in range(2))
    canvas = np.broadcast_to(top * (1 - rows) + low * rows, (size, size, 3)).copy()
    canvas += 22 * _cloud(rng, size, int(rng.integers(4, 9)))[..., None]
    canvas[horizon:] = _uniform_colour(rng, (40, 70, 60), (110, 150, 140))
    canvas[horizon:] += 18 * _cloud(rng, size, 48)[horizon:, :, None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _road(scene: Scene, horizon: int) -> None:
    """Draw a road that runs to a point on the horizon, with a dashed line."""
    rng, size = scene.rng, scene.size
    goal, left, right = rng.uniform((0.3, -0.5, 0.7), (0.7, 0.3, 1.5)) * size
    grey = float(rng.uniform(60, 130))
    road = np.array([(goal - 5, horizon), (goal + 5, horizon), (right, size), (left, size)])
    cv2.fillPoly(scene.canvas, [np.rint(road).astype(np.int32)], (grey, grey, grey * 0.97))
    middle = (left + right) / 2
    for start in np.linspace(0.05, 0.9, 7):
        dash = [
            (goal + (middle - goal) * t + w * t * 8, horizon + (size - horizon) * t)
            for t, w in ((start, -1), (start, 1), (start + 0.06, 1), (start + 0.06, -1))
        ]
        cv2.fillPoly(scene.canvas, [np.rint(dash).astype(np.int32)], (205, 210, 210))


def _building(scene: Scene, horizon: int) -> None:
    """Draw one house front with windows, standing on the horizon."""
    rng, size = scene.rng, scene.size
    left, width, height = (rng.uniform((-0.15, 0.12, 0.1), (0.95, 0.4, 0.55)) * size).astype(int)
    top, bottom = horizon - height, horizon + int(rng.integers(0, size // 10))
    wall = _uniform_colour(rng, (50, 55, 60), (190, 200, 215))
    cv2.rectangle(scene.canvas, (int(left), int(top)), (int(left + width), bottom), wall, -1)
    pane = tuple(c * float(rng.uniform(0.3, 0.8)) for c in wall) if rng.random() < 0.8 else (150, 215, 235)
    step = int(rng.integers(22, 48))
    for y in range(int(top) + 10, bottom - step // 2, step):
        for x in range(int(left) + 8, int(left + width) - step // 2, step):
            cv2.rectangle(scene.canvas, (x, y), (x + step // 2, y + int(step * 0.6)), pane, -1)


def _leaves(rng: Rng, size: int, centre: Points, spread_px: float, count: int, leaf_px: float) -> Image:
    """Return the (size, size) mask of a cluster of leaves around a point."""
    mask = np.zeros((size, size), np.uint8)
    for x, y in np.rint(rng.normal(centre, spread_px, (count, 2))).astype(int):
        axes = np.rint(rng.uniform(0.5, 1.3, 2) * leaf_px).astype(int) + 1
        cv2.ellipse(mask, (int(x), int(y)), (int(axes[0]), int(axes[1])), int(rng.integers(180)), 0, 360, 255, -1)
    return mask


def _foliage(rng: Rng, size: int) -> Image:
    """Return an (size, size, 3) leaf texture in a random green, autumn or winter tone."""
    base = np.array(_uniform_colour(rng, (15, 50, 25), (70, 130, 120)), np.float32)
    return np.clip(base * (1 + 0.5 * _cloud(rng, size, 64)[..., None]), 0, 255).astype(np.uint8)


def _tree(scene: Scene, horizon: int) -> None:
    rng, size = scene.rng, scene.size
    x, height = int(rng.uniform(0, size)), float(rng.uniform(0.12, 0.45)) * size
    foot = horizon + int(rng.integers(0, size // 8))
    cv2.line(scene.canvas, (x, foot), (x, int(foot - height)), (35, 50, 65), max(2, int(height / 18)))
    crown = _leaves(rng, size, np.array([x, foot - height]), height / 4.5, 40, height / 9)
    scene.cover(crown, _foliage(rng, size))


def _car(scene: Scene, horizon: int) -> None:
    """Draw the back of a car: a box with a window and two red lights."""
    rng, size = scene.rng, scene.size
    width = int(rng.uniform(0.06, 0.22) * size)
    x, y = int(rng.uniform(0, size)), horizon + int(rng.uniform(0.2, 1.2) * width)
    paint = _uniform_colour(rng, (20, 20, 20), (220, 220, 220))
    cv2.rectangle(scene.canvas, (x, y - width // 2), (x + width, y + width // 4), paint, -1)
    cv2.rectangle(
        scene.canvas, (x + width // 8, y - width // 2 + 3), (x + width * 7 // 8, y - width // 5), (70, 60, 55), -1
    )
    for side in (width // 10, width * 9 // 10):
        cv2.circle(scene.canvas, (x + side, y), max(2, width // 12), (30, 20, 200), -1, cv2.LINE_AA)
    cv2.rectangle(scene.canvas, (x, y + width // 4), (x + width, y + width // 3), (20, 20, 20), -1)


def _billboard(scene: Scene, horizon: int) -> None:
    """Draw an advert with letters, bars and discs in sign colours: clutter that must not be detected."""
    rng, size = scene.rng, scene.size
    x, y = int(rng.uniform(-0.1, 0.9) * size), int(horizon - rng.uniform(0.05, 0.5) * size)
    width, height = (rng.uniform((0.1, 0.06), (0.3, 0.2)) * size).astype(int)
    board = np.full((TEMPLATE_PX, TEMPLATE_PX, 3), _uniform_colour(rng, (40, 40, 40), (240, 240, 240)), np.uint8)
    colours = (RED, BLUE, YELLOW, WHITE, BLACK)
    for _ in range(int(rng.integers(1, 4))):
        spot = rng.uniform(-0.8, 0.8, 2)
        _fill(
            board, (CIRCLE, SQUARE, TRIANGLE)[rng.integers(3)] * rng.uniform(0.15, 0.5) + spot, colours[rng.integers(5)]
        )
    text = "".join(rng.choice(list("SALENTOP3580"), int(rng.integers(3, 7))))
    _write(board, text, colours[rng.integers(5)], half_width=0.85, half_height=0.4, width=0.12)
    small = cv2.resize(board, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    left, top, right, low = max(x, 0), max(y, 0), min(x + int(width), size), min(y + int(height), size)
    if right > left and low > top:
        scene.canvas[top:low, left:right] = small[top - y : low - y, left - x : right - x]


def _background(scene: Scene, horizon: int) -> None:
    """Draw everything behind the signs."""
    rng = scene.rng
    _road(scene, horizon)
    props = (_building, _building, _tree, _tree, _tree, _car, _billboard)
    for choice in rng.permutation(rng.integers(0, len(props), int(rng.integers(3, 11)))):
        props[choice](scene, horizon)


# --- putting signs up ---


def _quad(rng: Rng, centre: Points, size_px: float) -> Points:
    """Return the (4, 2) image corners of a square sign seen under a random yaw, pitch and roll."""
    yaw, pitch, roll = np.radians(np.clip(rng.normal(0, (26, 9, 6)), -58, 58))
    corners = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], dtype=np.float64)
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    turn_y = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    turn_x = np.array([(1, 0, 0), (0, cp, -sp), (0, sp, cp)])
    turn_z = np.array([(cr, -sr, 0), (sr, cr, 0), (0, 0, 1)])
    seen = corners @ (turn_z @ turn_x @ turn_y).T
    return np.asarray(centre + seen[:, :2] / (1 + seen[:, 2:] / 5) * size_px / 2, dtype=np.float64)


def _weathered(rng: Rng, face: Image) -> Image:
    """Return the face with faded colours, dirt and a brightness of its own."""
    colours = face[..., :3].astype(np.float32)
    grey = colours.mean(axis=2, keepdims=True)
    fade = float(rng.beta(1.2, 2.5)) * 0.75
    colours = colours * (1 - fade) + (0.4 * grey + 105) * fade
    dirt = np.clip(_cloud(rng, TEMPLATE_PX, int(rng.integers(3, 12))), 0, 1)[..., None]
    colours *= (1 - float(rng.uniform(0, 0.7)) * dirt) * float(rng.uniform(0.55, 1.08))
    return np.dstack([np.clip(colours, 0, 255).astype(np.uint8), face[..., 3]])


def _hang(scene: Scene, name: str, centre: Points, size_px: float) -> bool:
    """Warp a sign face into the scene; return False where it would be too little visible, or hide another sign."""
    face = _weathered(scene.rng, _template(name))
    shrunk = int(min(TEMPLATE_PX, max(8, round(size_px * 1.3))))
    face = np.asarray(cv2.resize(face, (shrunk, shrunk), interpolation=cv2.INTER_AREA), np.uint8)
    quad = _quad(scene.rng, centre, size_px)
    x0, y0 = np.maximum(np.floor(quad.min(axis=0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + 2, scene.size)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return False
    source = np.array([(0, 0), (shrunk, 0), (shrunk, shrunk), (0, shrunk)], dtype=np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (quad - (x0, y0)).astype(np.float32))
    warped = np.asarray(cv2.warpPerspective(face, matrix, (int(x1 - x0), int(y1 - y0))), np.uint8)
    outline = (FACES | DISTRACTORS)[name][0] * 0.96
    in_source = ((outline + 1) * shrunk / 2 - 0.5).astype(np.float32)[None]
    area_px = float(cv2.contourArea(np.asarray(cv2.perspectiveTransform(in_source, matrix), np.float32)))
    class_id = NAMES.index(name) if name in FACES else None
    return scene.paste(warped, (slice(int(y0), int(y1)), slice(int(x0), int(x1))), class_id, area_px)


def _occlude(scene: Scene, centre: Points, size_px: float) -> None:
    """Put a branch, a pole or a sticker in front of a sign."""
    rng, size = scene.rng, scene.size
    spot = rng.normal(centre, size_px * 0.35)
    kind = rng.integers(3)
    if kind == 0:
        mask = _leaves(rng, size, spot, size_px * 0.25, int(rng.integers(6, 22)), size_px * 0.07)
        scene.cover(mask, _foliage(rng, size))
    elif kind == 1:
        half, lean = size_px * rng.uniform(0.04, 0.13), rng.normal(0, size_px * 0.2)
        x = float(spot[0])
        bar = np.array([(x - half + lean, 0), (x + half + lean, 0), (x + half, size), (x - half, size)])
        scene.cover(_polygon_mask(size, bar), _uniform_colour(rng, (30, 30, 30), (150, 150, 150)))
    else:
        patch = spot + rng.uniform(-0.3, 0.3, (5, 2)) * size_px
        scene.cover(_polygon_mask(size, patch), _uniform_colour(rng, (20, 20, 20), (235, 235, 235)))


def _mast(scene: Scene, first: str, horizon: int) -> None:
    """Put up a pole with one to three signs, ``first`` on top; the nearer, the larger and the lower its foot."""
    rng, size = scene.rng, scene.size
    sign_px = float(np.exp(rng.uniform(math.log(0.042), math.log(0.26)))) * size
    x, y = rng.uniform((0.04, 0.06), (0.96, 0.62)) * size
    foot = min(size, max(int(y + sign_px * 2.2), horizon))
    grey = float(rng.uniform(60, 170))
    pole = np.array(
        [(x - 0.05 * sign_px, y), (x + 0.05 * sign_px, y), (x + 0.05 * sign_px, foot), (x - 0.05 * sign_px, foot)]
    )
    scene.cover(_polygon_mask(size, pole), (grey, grey, grey))
    others = [str(name) for name in rng.choice([*NAMES, *NAMES, *DISTRACTORS], int(rng.choice(3, p=(0.5, 0.35, 0.15))))]
    for name in (first, *others):
        centre = np.array([x, y])
        if _hang(scene, name, centre, sign_px) and rng.random() < 0.4:
            _occlude(scene, centre, sign_px)
        y += sign_px * rng.uniform(0.98, 1.15)


def _signs(scene: Scene, index: int, horizon: int) -> None:
    """Put up all masts of a scene; the first carries the class of the image's turn, so that no class is rare."""
    rng = scene.rng
    firsts = [NAMES[index % len(NAMES)]]
    firsts += [str(name) for name in rng.choice([*NAMES, *NAMES, *DISTRACTORS], int(rng.integers(0, 5)))]
    for name in firsts:
        _mast(scene, name, horizon)


# --- light, weather and camera, on (H, W, 3) float32 in [0, 255] ---


def _lighting(rng: Rng, image: Floats) -> Floats:
    """Apply a time of day: gain, contrast, colour cast, a gradient across the picture and a hard shadow."""
    size = image.shape[0]
    gain, gamma, cast = _DAYLIGHT[rng.choice(len(_DAYLIGHT), p=_DAYLIGHT_ODDS)]
    image = 255 * (np.clip(image, 0, 255) / 255) ** np.float32(gamma) * np.float32(gain * rng.uniform(0.85, 1.15))
    image = image * np.array(cast, np.float32)
    x, y = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 2)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.45)
    image = image * (1 + np.float32(strength) * (x * math.cos(angle) + y * math.sin(angle)))[..., None]
    if rng.random() < 0.4:
        shadow = _polygon_mask(size, rng.uniform(-0.2, 1.2, (4, 2)) * size).astype(np.float32) / 255
        image = image * (1 - float(rng.uniform(0.25, 0.6)) * cv2.GaussianBlur(shadow, (0, 0), 1.5))[..., None]
    return image.astype(np.float32)


_DAYLIGHT: tuple[tuple[float, float, Colour], ...] = (
    (1.0, 1.0, (1.0, 1.0, 1.0)),
    (0.7, 1.1, (1.05, 1.0, 0.95)),
    (0.6, 1.2, (0.75, 0.9, 1.15)),
    (0.26, 1.0, (1.1, 1.0, 0.9)),
    (1.75, 0.8, (1.0, 1.0, 1.0)),
)
"""Gain, gamma and BGR cast of: clear day, overcast, dusk, night, over-exposed."""
_DAYLIGHT_ODDS = (0.4, 0.22, 0.15, 0.13, 0.1)


def _weather(rng: Rng, image: Floats) -> Floats:
    """Add fog or rain to some pictures."""
    kind = rng.random()
    if kind < 0.12:
        return (image + (195 - image) * np.float32(rng.uniform(0.25, 0.6))).astype(np.float32)
    if kind < 0.24:
        streaks = np.zeros(image.shape[:2], np.uint8)
        slant = int(rng.integers(-4, 5))
        for x, y in rng.integers(0, image.shape[0], (int(rng.integers(80, 220)), 2)):
            cv2.line(streaks, (int(x), int(y)), (int(x) + slant, int(y) + int(rng.integers(5, 13))), 90, 1)
        return image + streaks[..., None].astype(np.float32)
    return image


def _camera(rng: Rng, image: Floats) -> Image:
    """Blur by motion and focus, add shot-like noise, and quantise to uint8."""
    if rng.random() < 0.4:
        length, angle = int(rng.integers(3, 8)), float(rng.uniform(0, 180))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1
        turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), angle, 1)
        kernel = np.asarray(cv2.warpAffine(kernel, turn, (length, length)), np.float32)
        image = np.asarray(cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1e-6)), np.float32)
    if rng.random() < 0.5:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3))), np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 13))
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


# --- one image, one label file ---


def _boxes(scene: Scene) -> list[tuple[int, float, float, float, float]]:
    """Return (class, x_centre, y_centre, width, height) of each sign's visible pixels, in parts of the image size."""
    boxes = []
    for place, class_id in enumerate(scene.class_ids):
        rows, columns = np.nonzero(scene.owner == place + 1)
        x0, x1 = columns.min() / scene.size, (columns.max() + 1) / scene.size
        y0, y1 = rows.min() / scene.size, (rows.max() + 1) / scene.size
        boxes.append((class_id, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
    return boxes


def render(seed: int, split: str, index: int, imgsz: int) -> tuple[Image, str, int]:
    """Draw one image; return the (imgsz, imgsz, 3) uint8 BGR picture, its YOLO label text and a JPEG quality."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    size = imgsz * SUPERSAMPLE
    horizon = int(rng.uniform(0.4, 0.7) * size)
    scene = Scene(rng, _backdrop(rng, size, horizon), np.zeros((size, size), np.int16))
    _background(scene, horizon)
    _signs(scene, index, horizon)
    small = np.asarray(cv2.resize(scene.canvas, (imgsz, imgsz), interpolation=cv2.INTER_AREA), np.float32)
    image = _camera(rng, _weather(rng, _lighting(rng, small)))
    lines = [f"{box[0]} {' '.join(f'{value:.6f}' for value in box[1:])}\n" for box in _boxes(scene)]
    return image, "".join(lines), int(rng.integers(35, 91))


# --- the data set on disk ---


def _contents(counts: dict[str, int], seed: int, imgsz: int) -> Iterator[tuple[str, bytes]]:
    """Yield each file's relative path and bytes, ``dataset.json`` last."""
    digests: dict[str, str] = {}
    listing = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    head = f"# Rendered traffic signs: yolo_slim quickstart set, generator {GENERATOR_VERSION}, seed {seed}.\n"
    files = [("data.yaml", f"{head}{listing}names:\n{names}".encode())]
    for split in SPLITS:
        for index in range(counts[split]):
            image, labels, quality = render(seed, split, index, imgsz)
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            files += [(f"images/{split}/{index:05d}.jpg", jpeg), (f"labels/{split}/{index:05d}.txt", labels.encode())]
            while files:
                path, data = files.pop()
                digests[path] = hashlib.sha256(data).hexdigest()
                yield path, data
    record = {**_identity(counts, seed, imgsz), "opencv": cv2.__version__, "sha256": dict(sorted(digests.items()))}
    yield "dataset.json", (json.dumps(record, indent=1) + "\n").encode()


def _identity(counts: dict[str, int], seed: int, imgsz: int) -> dict[str, Any]:
    return {"generator_version": GENERATOR_VERSION, "seed": seed, "imgsz": imgsz, "counts": counts}


def _is_finished(out_dir: Path, identity: dict[str, Any]) -> bool:
    """Tell whether ``out_dir`` holds exactly the set asked for, every file with its recorded digest."""
    try:
        record = json.loads((out_dir / "dataset.json").read_text(encoding="utf-8"))
        asked = all(record[key] == value for key, value in identity.items())
        return asked and all(
            hashlib.sha256((out_dir / path).read_bytes()).hexdigest() == digest
            for path, digest in record["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _refuse_foreign_files(out_dir: Path) -> None:
    if not out_dir.exists():
        return
    found = [path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if not path.is_dir()]
    foreign = sorted(path for path in found if not FILE_PATTERN.fullmatch(path))
    if foreign:
        raise SlimError(
            f"{out_dir} holds {len(foreign)} files that the quickstart generator did not write.",
            culprits=foreign,
            remedy="Give it a new or empty folder: it replaces the whole folder.",
        )


def _checked_counts(counts: dict[str, int] | None) -> dict[str, int]:
    chosen = {**DEFAULT_COUNTS, **(counts or {})}
    wrong = [f"{split}: {count}" for split, count in chosen.items() if split not in SPLITS or count < 1]
    if wrong:
        raise SlimError("Impossible image counts.", culprits=wrong, remedy=f"Give {', '.join(SPLITS)} at least 1 each.")
    return {split: int(chosen[split]) for split in SPLITS}


def generate(out_dir: Path, *, counts: dict[str, int] | None = None, seed: int = 0, imgsz: int = 320) -> Path:
    """Write the data set to ``out_dir`` and return its data.yaml; a finished set is left as it is.

    counts: images per split, 560 / 120 / 120 unless told; imgsz: width and height in pixels. The same arguments
    give the same bytes with the same OpenCV. Raises SlimError where the folder holds files of someone else.
    """
    out_dir, sizes = Path(out_dir).resolve(), _checked_counts(counts)
    _refuse_foreign_files(out_dir)
    if _is_finished(out_dir, _identity(sizes, seed, imgsz)):
        return out_dir / "data.yaml"
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    with os_errors_explained(out_dir):
        shutil.rmtree(partial, ignore_errors=True)
        for path, data in _contents(sizes, seed, imgsz):
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(data)
        # The folder itself stays: somebody may stand in it.
        for old in out_dir.iterdir() if out_dir.is_dir() else ():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        out_dir.mkdir(parents=True, exist_ok=True)
        # What says that the set is whole comes last.
        for new in sorted(partial.iterdir(), key=lambda path: path.name == "dataset.json"):
            new.rename(out_dir / new.name)
        partial.rmdir()
    return out_dir / "data.yaml"


def default_data(root: Path) -> Path:
    """Generate the default set in ``root/quickstart`` and return its data.yaml."""
    return generate(Path(root) / "quickstart")


def default_model() -> Path:
    """Return the weights shipped with the package: yolo11n trained on the default training split."""
    if not MODEL.is_file():
        raise SlimError("The quickstart weights are missing.", culprits=[str(MODEL)], remedy="Reinstall yolo-slim.")
    return MODEL


def main(arguments: Sequence[str]) -> int:
    """Generate the default set in the folder named on the command line, and print its data.yaml."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m yolo_slim.quickstart OUT_DIR", file=sys.stderr)
        return 2
    try:
        print(generate(Path(arguments[0])))
    except SlimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
