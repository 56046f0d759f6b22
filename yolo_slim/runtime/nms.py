"""Greedy non-maximum suppression in NumPy, equal to ``torchvision.ops.nms`` bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 128
"""Boxes judged together; 128 measured fastest from 20 to 30 000 boxes."""


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float, limit: int) -> NDArray[np.intp]:
    """Indices of the boxes that survive, best score first, at most ``limit``.

    Sorted boxes are judged block by block, first against the survivors so far, then among themselves. It stops at
    ``limit`` survivors, because greedy NMS never revises a survivor.

    Args:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32; equal scores keep their order.
        iou: a box goes when its IoU with a better survivor is above this.
        limit: most boxes returned.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = boxes[order]
    threshold = _largest_float32_below(iou)
    kept: NDArray[np.intp] = np.empty(0, np.intp)
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        if len(kept):
            block = block[~_overlaps(ranked[kept], ranked[block], threshold).any(axis=0)]
        kept = np.concatenate([kept, block[_greedy(ranked[block], threshold)]])
        if len(kept) >= limit:
            break
    return order[kept[:limit]]


def _greedy(boxes: NDArray[np.float32], threshold: np.float32) -> NDArray[np.bool_]:
    """Which of the sorted boxes survive among themselves."""
    alive = np.ones(len(boxes), bool)
    if len(boxes) < 2:
        return alive
    beaten = np.triu(_overlaps(boxes, boxes, threshold), 1)
    for row in np.flatnonzero(beaten.any(axis=1)):
        if alive[row]:
            alive[beaten[row]] = False
    return alive


def _overlaps(a: NDArray[np.float32], b: NDArray[np.float32], threshold: np.float32) -> NDArray[np.bool_]:
    """Whether the IoU of two boxes is above the threshold, shape (A, B); 0 / 0 is not."""
    ax1, ay1, ax2, ay2 = a.T[:, :, None]
    bx1, by1, bx2, by2 = b.T[:, None, :]
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1)
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    # torchvision's order of operations: another order rounds differently, and boxes at the threshold flip.
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
    with np.errstate(divide="ignore", invalid="ignore"):
        above: NDArray[np.bool_] = inter / union > threshold
    return above


def _largest_float32_below(value: float) -> np.float32:
    # torchvision compares a float32 IoU with a double: a threshold rounded up would keep boxes that it drops.
    rounded: np.float32 = np.float32(value)
    if float(rounded) <= value:
        return rounded
    below: np.float32 = np.nextafter(rounded, np.float32(-1))
    return below
