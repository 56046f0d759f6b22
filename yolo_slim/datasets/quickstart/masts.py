"""Poles with signs, seen at random angles, weathered and partly hidden."""

from __future__ import annotations

import math

import cv2
import numpy as np

from yolo_slim.datasets.quickstart.drawing import (
    TEMPLATE_PX,
    Image,
    Points,
    Rng,
    cloud,
    foliage,
    leaves,
    polygon_mask,
    uniform_colour,
)
from yolo_slim.datasets.quickstart.scene import Scene
from yolo_slim.datasets.quickstart.signs import DISTRACTORS, FACES, NAMES, template


def put_up_signs(scene: Scene, index: int, horizon: int) -> None:
    """Put up all masts of a scene; the first sign's class follows from the image's number, so that no class is rare."""
    rng = scene.rng
    firsts = [NAMES[index % len(NAMES)]]
    firsts += [str(name) for name in rng.choice([*NAMES, *NAMES, *DISTRACTORS], int(rng.integers(0, 5)))]
    for name in firsts:
        _mast(scene, name, horizon)


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
    scene.cover(polygon_mask(size, pole), (grey, grey, grey))
    others = [str(name) for name in rng.choice([*NAMES, *NAMES, *DISTRACTORS], int(rng.choice(3, p=(0.5, 0.35, 0.15))))]
    for name in (first, *others):
        centre = np.array([x, y])
        if _hang(scene, name, centre, sign_px) and rng.random() < 0.4:
            _occlude(scene, centre, sign_px)
        y += sign_px * rng.uniform(0.98, 1.15)


def _hang(scene: Scene, name: str, centre: Points, size_px: float) -> bool:
    """Warp a sign face into the scene; False where it would be too little visible, or hide another sign."""
    face = _weathered(scene.rng, template(name))
    shrunk = int(min(TEMPLATE_PX, max(8, round(size_px * 1.3))))
    face = np.asarray(cv2.resize(face, (shrunk, shrunk), interpolation=cv2.INTER_AREA), np.uint8)
    quad = _quad(scene.rng, centre, size_px)
    x0, y0 = np.maximum(np.floor(quad.min(axis=0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + 2, scene.size)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return False
    # OpenCV's coordinates are pixel centres, so the first pixel's corner is at -0.5.
    source = np.array([(0, 0), (shrunk, 0), (shrunk, shrunk), (0, shrunk)], dtype=np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (quad - (x0, y0)).astype(np.float32))
    warped = np.asarray(cv2.warpPerspective(face, matrix, (int(x1 - x0), int(y1 - y0))), np.uint8)
    outline = (FACES | DISTRACTORS)[name][0] * 0.96
    in_source = ((outline + 1) * shrunk / 2 - 0.5).astype(np.float32)[None]
    area_px = float(cv2.contourArea(np.asarray(cv2.perspectiveTransform(in_source, matrix), np.float32)))
    class_id = NAMES.index(name) if name in FACES else None
    return scene.paste(warped, (slice(int(y0), int(y1)), slice(int(x0), int(x1))), class_id, area_px)


def _quad(rng: Rng, centre: Points, size_px: float) -> Points:
    """The (4, 2) image corners of a square sign seen under a random yaw, pitch and roll."""
    yaw, pitch, roll = np.radians(np.clip(rng.normal(0, (26, 9, 6)), -58, 58))
    corners = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], dtype=np.float64)
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    turn_y = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    turn_x = np.array([(1, 0, 0), (0, cp, -sp), (0, sp, cp)])
    turn_z = np.array([(cr, -sr, 0), (sr, cr, 0), (0, 0, 1)])
    seen = corners @ (turn_z @ turn_x @ turn_y).T
    return np.asarray(centre + seen[:, :2] / (1 + seen[:, 2:] / 5) * size_px / 2, dtype=np.float64)


def _weathered(rng: Rng, face: Image) -> Image:
    """The face with faded colours, dirt and a brightness of its own."""
    colours = face[..., :3].astype(np.float32)
    grey = colours.mean(axis=2, keepdims=True)
    fade = float(rng.beta(1.2, 2.5)) * 0.75
    colours = colours * (1 - fade) + (0.4 * grey + 105) * fade
    dirt = np.clip(cloud(rng, TEMPLATE_PX, int(rng.integers(3, 12))), 0, 1)[..., None]
    colours *= (1 - float(rng.uniform(0, 0.7)) * dirt) * float(rng.uniform(0.55, 1.08))
    return np.dstack([np.clip(colours, 0, 255).astype(np.uint8), face[..., 3]])


def _occlude(scene: Scene, centre: Points, size_px: float) -> None:
    """Put a branch, a pole or a sticker in front of a sign."""
    rng, size = scene.rng, scene.size
    spot = rng.normal(centre, size_px * 0.35)
    kind = rng.integers(3)
    if kind == 0:
        mask = leaves(rng, size, spot, size_px * 0.25, int(rng.integers(6, 22)), size_px * 0.07)
        scene.cover(mask, foliage(rng, size))
    elif kind == 1:
        half, lean = size_px * rng.uniform(0.04, 0.13), rng.normal(0, size_px * 0.2)
        x = float(spot[0])
        bar = np.array([(x - half + lean, 0), (x + half + lean, 0), (x + half, size), (x - half, size)])
        scene.cover(polygon_mask(size, bar), uniform_colour(rng, (30, 30, 30), (150, 150, 150)))
    else:
        patch = spot + rng.uniform(-0.3, 0.3, (5, 2)) * size_px
        scene.cover(polygon_mask(size, patch), uniform_colour(rng, (20, 20, 20), (235, 235, 235)))
