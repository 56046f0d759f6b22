"""Everything behind the signs: sky, ground, a road, houses, trees, cars and adverts."""

from __future__ import annotations

import cv2
import numpy as np

from yolo_slim.datasets.quickstart.drawing import (
    BLACK,
    BLUE,
    CIRCLE,
    RED,
    SQUARE,
    TEMPLATE_PX,
    TRIANGLE,
    WHITE,
    YELLOW,
    Image,
    Rng,
    cloud,
    fill,
    foliage,
    leaves,
    uniform_colour,
    write,
)
from yolo_slim.datasets.quickstart.scene import Scene


def backdrop(rng: Rng, size: int, horizon: int) -> Image:
    """Sky above and ground below the horizon row, (size, size, 3) uint8."""
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    top, low = (np.array(uniform_colour(rng, (150, 110, 70), (250, 220, 215)), np.float32) for _ in range(2))
    canvas = np.broadcast_to(top * (1 - rows) + low * rows, (size, size, 3)).copy()
    canvas += 22 * cloud(rng, size, int(rng.integers(4, 9)))[..., None]
    canvas[horizon:] = uniform_colour(rng, (40, 70, 60), (110, 150, 140))
    canvas[horizon:] += 18 * cloud(rng, size, 48)[horizon:, :, None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def draw_background(scene: Scene, horizon: int) -> None:
    """Draw everything behind the signs."""
    rng = scene.rng
    _road(scene, horizon)
    props = (_building, _building, _tree, _tree, _tree, _car, _billboard)
    for choice in rng.permutation(rng.integers(0, len(props), int(rng.integers(3, 11)))):
        props[choice](scene, horizon)


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
    wall = uniform_colour(rng, (50, 55, 60), (190, 200, 215))
    cv2.rectangle(scene.canvas, (int(left), int(top)), (int(left + width), bottom), wall, -1)
    pane = tuple(c * float(rng.uniform(0.3, 0.8)) for c in wall) if rng.random() < 0.8 else (150, 215, 235)
    step = int(rng.integers(22, 48))
    for y in range(int(top) + 10, bottom - step // 2, step):
        for x in range(int(left) + 8, int(left + width) - step // 2, step):
            cv2.rectangle(scene.canvas, (x, y), (x + step // 2, y + int(step * 0.6)), pane, -1)


def _tree(scene: Scene, horizon: int) -> None:
    rng, size = scene.rng, scene.size
    x, height = int(rng.uniform(0, size)), float(rng.uniform(0.12, 0.45)) * size
    foot = horizon + int(rng.integers(0, size // 8))
    cv2.line(scene.canvas, (x, foot), (x, int(foot - height)), (35, 50, 65), max(2, int(height / 18)))
    crown = leaves(rng, size, np.array([x, foot - height]), height / 4.5, 40, height / 9)
    scene.cover(crown, foliage(rng, size))


def _car(scene: Scene, horizon: int) -> None:
    """Draw the back of a car: a box with a window and two red lights."""
    rng, size = scene.rng, scene.size
    width = int(rng.uniform(0.06, 0.22) * size)
    x, y = int(rng.uniform(0, size)), horizon + int(rng.uniform(0.2, 1.2) * width)
    paint = uniform_colour(rng, (20, 20, 20), (220, 220, 220))
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
    board = np.full((TEMPLATE_PX, TEMPLATE_PX, 3), uniform_colour(rng, (40, 40, 40), (240, 240, 240)), np.uint8)
    colours = (RED, BLUE, YELLOW, WHITE, BLACK)
    for _ in range(int(rng.integers(1, 4))):
        spot = rng.uniform(-0.8, 0.8, 2)
        fill(
            board, (CIRCLE, SQUARE, TRIANGLE)[rng.integers(3)] * rng.uniform(0.15, 0.5) + spot, colours[rng.integers(5)]
        )
    text = "".join(rng.choice(list("SALENTOP3580"), int(rng.integers(3, 7))))
    write(board, text, colours[rng.integers(5)], half_width=0.85, half_height=0.4, width=0.12)
    small = cv2.resize(board, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    left, top, right, low = max(x, 0), max(y, 0), min(x + int(width), size), min(y + int(height), size)
    if right > left and low > top:
        scene.canvas[top:low, left:right] = small[top - y : low - y, left - x : right - x]
