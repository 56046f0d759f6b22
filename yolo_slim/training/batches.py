"""Training images as batches for scoring channels and re-estimating statistics: letterboxed, not augmented, seeded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from yolo_slim.data import label_path, read_labels
from yolo_slim.runtime.letterbox import Geometry, Letterbox


def choose(images: list[Path], count: int, seed: int) -> list[Path]:
    """Return ``count`` images at random, or all of them, the same for the same seed."""
    order = np.random.default_rng(seed).permutation(len(images))[:count]
    return [images[i] for i in order]


def batches(images: list[Path], imgsz: int, batch: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield Ultralytics training batches: ``img`` (N, 3, imgsz, imgsz) float32 in [0, 1] RGB, ``cls`` (boxes, 1),
    ``bboxes`` (boxes, 4) xywh as shares of the input, ``batch_idx`` (boxes,).
    """
    letterbox = Letterbox((imgsz, imgsz))
    for start in range(0, len(images), batch):
        loaded = [_load(path, letterbox, imgsz) for path in images[start : start + batch]]
        counts = [len(labels) for _, labels in loaded]
        labels = np.concatenate([labels for _, labels in loaded]).astype(np.float32)
        yield {
            "img": torch.from_numpy(np.concatenate([blob for blob, _ in loaded])),
            "cls": torch.from_numpy(labels[:, :1]),
            "bboxes": torch.from_numpy(labels[:, 1:]),
            "batch_idx": torch.from_numpy(np.repeat(np.arange(len(loaded)), counts).astype(np.float32)),
        }


def _load(path: Path, letterbox: Letterbox, imgsz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image as (1, 3, imgsz, imgsz) and its labels (n, 5) as shares of that input."""
    blob, geometry = letterbox(cv2.imread(str(path), cv2.IMREAD_COLOR))
    return blob.copy(), _move(read_labels(label_path(path)), geometry, imgsz)


def _move(labels: np.ndarray, geometry: Geometry, imgsz: int) -> np.ndarray:
    """Return labels as shares of the letterboxed input instead of the image."""
    height, width = geometry.resized_hw
    scale = np.array([width, height, width, height]) / imgsz
    offset = np.array([geometry.left, geometry.top, 0, 0]) / imgsz
    return np.concatenate([labels[:, :1], labels[:, 1:] * scale + offset], axis=1)
