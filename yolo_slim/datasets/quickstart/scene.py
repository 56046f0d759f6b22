"""The street scenes of the quickstart that signs stand in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_slim.datasets.quickstart.signs import (
    BLACK,
    BLUE,
    CIRCLE,
    DISTRACTORS,
    FACES,
    NAMES,
    RED,
    SQUARE,
    TEMPLATE_PX,
    TRIANGLE,
    WHITE,
    YELLOW,
    Colour,
    Floats,
    Image,
    Points,
    Rng,
    _fill,
    _template,
    _write,
)

SUPERSAMPLE = 2


MIN_VISIBLE = 0.55
"""A sign that shows less than this part of its area is not drawn; nothing may be painted over a sign beyond it."""


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
