"""Overlap of boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of each box with each: (N, 4) and (M, 4) xyxy to (N, M)."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(opposite - corner, 0, None), axis=2, dtype=np.float64)
    union = _area(first)[:, None] + _area(second)[None, :] - common
    return common / np.maximum(union, 1e-9)


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Intersection over union of two xyxy boxes."""
    return float(iou(a[None], b[None])[0, 0])


def _area(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1, dtype=np.float64)
