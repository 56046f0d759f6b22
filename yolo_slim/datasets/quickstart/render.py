"""One image of the quickstart: a street, signs, light, weather, a camera; and its labels."""

from __future__ import annotations

import cv2
import numpy as np

from yolo_slim.datasets.description import SPLITS
from yolo_slim.datasets.quickstart.drawing import Image
from yolo_slim.datasets.quickstart.masts import put_up_signs
from yolo_slim.datasets.quickstart.scene import SUPERSAMPLE, Scene
from yolo_slim.datasets.quickstart.street import backdrop, draw_background
from yolo_slim.datasets.quickstart.weather import add_weather, light, photograph


def render(seed: int, split: str, index: int, imgsz: int) -> tuple[Image, str, int]:
    """Draw one image; return the (imgsz, imgsz, 3) uint8 BGR picture, its YOLO label text and a JPEG quality."""
    # A generator for each image: the first images stay the same whatever the counts are.
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    size = imgsz * SUPERSAMPLE
    horizon = int(rng.uniform(0.4, 0.7) * size)
    scene = Scene(rng, backdrop(rng, size, horizon), np.zeros((size, size), np.int16))
    draw_background(scene, horizon)
    put_up_signs(scene, index, horizon)
    small = np.asarray(cv2.resize(scene.canvas, (imgsz, imgsz), interpolation=cv2.INTER_AREA), np.float32)
    image = photograph(rng, add_weather(rng, light(rng, small)))
    lines = [f"{box[0]} {' '.join(f'{value:.6f}' for value in box[1:])}\n" for box in _boxes(scene)]
    return image, "".join(lines), int(rng.integers(35, 91))


def _boxes(scene: Scene) -> list[tuple[int, float, float, float, float]]:
    """(class, x_centre, y_centre, width, height) of each sign's visible pixels, as shares of the image size."""
    boxes = []
    for place, class_id in enumerate(scene.class_ids):
        rows, columns = np.nonzero(scene.owner == place + 1)
        x0, x1 = columns.min() / scene.size, (columns.max() + 1) / scene.size
        y0, y1 = rows.min() / scene.size, (rows.max() + 1) / scene.size
        boxes.append((class_id, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
    return boxes
