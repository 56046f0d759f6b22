"""How far a graph's raw output is from the float graph's.

Layers are ranked and graphs are compared by it, because mAP on a few images is too noisy for both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yolo_slim.quantization.session import Blob

LEAST_SCORE = 0.01
"""Candidates below this in both outputs hardly change mAP."""


def output_error(expected: Blob, got: Blob, *, layout: str) -> float:
    """How far a raw output is from another: the mean of score change + (1 - IoU), weighted by score.

    A candidate has the weight of its better score in either output, so that lost and invented objects count alike and
    the background hardly counts.

    Args:
        expected: (1, 4 + classes, anchors), or (1, 300, 6) of an end2end graph.
        got: the same of the other graph.
        layout: ``one2many`` or ``end2end``.
    """
    if layout == "end2end":
        # Both directions: one alone would miss what the other output invents.
        return (_rows_error(expected[0], got[0]) + _rows_error(got[0], expected[0])) / 2
    # Boxes of the background move a lot and mean nothing, so only candidates with a score count.
    scores = np.maximum(expected[0, 4:], got[0, 4:]).max(axis=0)
    seen = scores > LEAST_SCORE
    if not seen.any():
        return 0.0
    a, b = expected[0][:, seen], got[0][:, seen]
    moved = np.abs(a[4:] - b[4:]).max(axis=0)
    off = 1 - _iou(_corners(a[:4].T), _corners(b[:4].T))
    return float(np.average(moved + off, weights=scores[seen]))


def _rows_error(expected: Blob, got: Blob) -> float:
    """The error of one end2end output's rows against the best match of their class in the other.

    Rows are matched because equal scores may change places.
    """
    rows = expected[expected[:, 4] > LEAST_SCORE]
    if not len(rows):
        return 0.0
    same = rows[:, None, 5] == got[None, :, 5]
    iou = np.where(same, _iou(rows[:, None, :4], got[None, :, :4]), 0.0)
    best = iou.argmax(axis=1)
    overlap = iou[np.arange(len(rows)), best]
    # A lost object counts as if its score had fallen to 0.
    moved = np.where(overlap > 0, np.abs(rows[:, 4] - got[best, 4]), rows[:, 4])
    return float(np.average(moved + 1 - overlap, weights=rows[:, 4]))


def _corners(xywh: Blob) -> Blob:
    """(N, 4) centre boxes as corner boxes."""
    half = xywh[:, 2:] / 2
    return np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)


def _iou(a: Blob, b: Blob) -> NDArray[np.float64]:
    """The overlap of corner boxes (..., 4), broadcast against each other."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    inside = np.clip(high - low, 0, None).astype(np.float64).prod(axis=-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).astype(np.float64).prod(axis=-1) for box in (a, b)]
    return np.asarray(inside / np.maximum(areas[0] + areas[1] - inside, 1e-9))
