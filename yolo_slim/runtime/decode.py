"""Raw model output to detections, with the conventions of Ultralytics' predict and val modes (8.4.190)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yolo_slim.runtime.nms import nms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.runtime.letterbox import Geometry

CLASS_OFFSET = 7680
"""Pixels between the classes in class-aware NMS, as in Ultralytics: boxes of two classes never overlap."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What was found in one image, best score first."""

    boxes: NDArray[np.float32]
    """(N, 4) xyxy in the image's own pixels."""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    class_ids: NDArray[np.int64]
    """(N,) index into the bundle's names."""

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """How raw outputs become detections."""

    conf: float = 0.25
    """Candidates score above this."""
    iou: float = 0.7
    """NMS drops a box whose IoU with a better one of its class is above this."""
    max_det: int = 300
    """Most detections of one image."""
    multi_label: bool = False
    """Every class above ``conf`` makes a candidate, not only a box's best class."""
    max_nms: int = 30000
    """Most candidates that enter NMS."""
    clip: bool = True
    """Boxes end at the image's border. Ultralytics' predict clips them, its val doesn't."""


VAL = Thresholds(conf=0.001, multi_label=True, clip=False)
"""What mAP is computed from."""
CANDIDATES = Thresholds(conf=0.001, iou=1.0, max_det=3000, multi_label=True)
"""What NMS chooses from, clipped as what is shown."""


def decode(raw: NDArray[np.float32], layout: str, geometry: Geometry, thresholds: Thresholds) -> Detections:
    """Turn one raw output into detections.

    Args:
        raw: (1, 4 + classes, anchors) xywh and scores, or (1, 300, 6) xyxy, score, class; input pixels.
        layout: ``one2many`` or ``end2end``.
        geometry: where the image lies in the input.
        thresholds: cuts and limits.
    """
    select = _select_end2end if layout == "end2end" else _select_one2many
    boxes, scores, class_ids = select(raw[0], thresholds)
    return Detections(boxes=geometry.to_image(boxes, clip=thresholds.clip), scores=scores, class_ids=class_ids)


_Selected = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.int64]"]


def _select_end2end(raw: NDArray[np.float32], thresholds: Thresholds) -> _Selected:
    # Not sorted here: the graph's top-k already gives the best score first.
    # float32, because torch compares a float32 tensor with a number in float32.
    rows = raw[raw[:, 4] > np.float32(thresholds.conf)][: thresholds.max_det]
    # Copies: the runtime reuses its output buffer for the next frame.
    return rows[:, :4].copy(), rows[:, 4].copy(), rows[:, 5].astype(np.int64)


def _select_one2many(raw: NDArray[np.float32], thresholds: Thresholds) -> _Selected:
    """Cut by score on the raw (4 + classes, anchors) layout, then suppress overlaps among the few that are left."""
    conf = np.float32(thresholds.conf)
    best = np.maximum.reduce(raw[4:], axis=0)
    # Most anchors score below the threshold: everything after this line works on a few columns.
    candidates = raw.take(np.flatnonzero(best > conf), axis=1)
    # With one class, its score is the best class's: Ultralytics takes the simple way there too.
    every = thresholds.multi_label and len(raw) > 5
    columns, class_ids, scores = _every_class(candidates[4:], conf) if every else _best_class(candidates[4:])
    if len(scores) > thresholds.max_nms:
        top = np.argsort(-scores, kind="stable")[: thresholds.max_nms]
        columns, class_ids, scores = columns[top], class_ids[top], scores[top]
    boxes = _xyxy(candidates[:4])[columns]
    # One NMS for all classes: each class is moved to a place of its own, so that only boxes of one class overlap.
    # The float32 sum rounds coordinates (to 1/16 px from class 69 on). Ultralytics' NMS rounds them alike.
    offsets = (class_ids * CLASS_OFFSET).astype(np.float32)[:, None]
    kept = nms(boxes + offsets, scores, thresholds.iou, thresholds.max_det)
    return boxes[kept], scores[kept], class_ids[kept]


_Chosen = tuple["NDArray[np.intp]", "NDArray[np.int64]", "NDArray[np.float32]"]


def _best_class(scores: NDArray[np.float32]) -> _Chosen:
    """Candidate, class and score of each candidate's best class; scores: (classes, candidates)."""
    columns = np.arange(scores.shape[1])
    class_ids = scores.argmax(axis=0)
    return columns, class_ids, scores[class_ids, columns]


def _every_class(scores: NDArray[np.float32], conf: np.float32) -> _Chosen:
    """Candidate, class and score of every class above ``conf``, candidate by candidate as Ultralytics does."""
    by_candidate = np.ascontiguousarray(scores.T)
    columns, class_ids = np.nonzero(by_candidate > conf)
    return columns, class_ids, by_candidate[columns, class_ids]


def _xyxy(xywh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre boxes (4, N) to corner boxes (N, 4)."""
    half = xywh[2:] / 2
    corners: NDArray[np.float32] = np.concatenate([xywh[:2] - half, xywh[:2] + half]).T
    return corners
