"""Light, weather and the camera of the quickstart's scenes."""

from __future__ import annotations

import math

import cv2
import numpy as np

from yolo_slim.datasets.quickstart.drawing import Colour, Floats, Image, Rng, polygon_mask

_DAYLIGHT: tuple[tuple[float, float, Colour], ...] = (
    (1.0, 1.0, (1.0, 1.0, 1.0)),
    (0.7, 1.1, (1.05, 1.0, 0.95)),
    (0.6, 1.2, (0.75, 0.9, 1.15)),
    (0.26, 1.0, (1.1, 1.0, 0.9)),
    (1.75, 0.8, (1.0, 1.0, 1.0)),
)
"""Gain, gamma and BGR cast of: clear day, overcast, dusk, night, over-exposed."""
_DAYLIGHT_ODDS = (0.4, 0.22, 0.15, 0.13, 0.1)


def light(rng: Rng, image: Floats) -> Floats:
    """Apply a time of day: gain, contrast, colour cast, a gradient across the picture and a hard shadow."""
    size = image.shape[0]
    gain, gamma, cast = _DAYLIGHT[rng.choice(len(_DAYLIGHT), p=_DAYLIGHT_ODDS)]
    image = 255 * (np.clip(image, 0, 255) / 255) ** np.float32(gamma) * np.float32(gain * rng.uniform(0.85, 1.15))
    image = image * np.array(cast, np.float32)
    x, y = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 2)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.45)
    image = image * (1 + np.float32(strength) * (x * math.cos(angle) + y * math.sin(angle)))[..., None]
    if rng.random() < 0.4:
        shadow = polygon_mask(size, rng.uniform(-0.2, 1.2, (4, 2)) * size).astype(np.float32) / 255
        image = image * (1 - float(rng.uniform(0.25, 0.6)) * cv2.GaussianBlur(shadow, (0, 0), 1.5))[..., None]
    return image.astype(np.float32)


def add_weather(rng: Rng, image: Floats) -> Floats:
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


def photograph(rng: Rng, image: Floats) -> Image:
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
