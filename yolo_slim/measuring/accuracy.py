"""mAP of detections, by the same code that ``yolo val`` prints its numbers with (docs/adr/0002-evaluator.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.measuring.truth import Truth as Truth
from yolo_slim.measuring.truth import read_truth as read_truth
from yolo_slim.measuring.truth import read_truths as read_truths
from yolo_slim.runtime.decode import Detections

LOWEST_IOU, HIGHEST_IOU, IOU_THRESHOLDS = 0.5, 0.95, 10
"""A detection is scored at this many IoU thresholds, at equal distances from the lowest to the highest."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """mAP over a set of images."""

    map50_95: float
    """Mean over IoU .50 to .95 and over the classes that occur."""
    map50: float
    """The same at IoU .50."""
    per_class: dict[int, dict[str, float]]
    """Class id to ``ap50_95`` and ``ap50``; classes that don't occur are left out."""


def score(truths: Sequence[Truth], detections: Sequence[Detections], names: dict[int, str]) -> Accuracy:
    """Compute the mAP of detections, best score first in every image, against the truth of the same images."""
    from yolo_slim.models.ultralytics import prepare_ultralytics

    prepare_ultralytics()
    from ultralytics.utils.metrics import ap_per_class

    matches = [match(truth, found) for truth, found in zip(truths, detections, strict=True)]
    target_classes = np.concatenate([truth.class_ids for truth in truths])
    # Without labels ap_per_class has no class to average over, and its mean is NaN.
    if not len(target_classes):
        return Accuracy(map50_95=0.0, map50=0.0, per_class={})
    scores = np.concatenate([found.scores for found in detections])
    classes = np.concatenate([found.class_ids for found in detections])
    result = ap_per_class(np.concatenate(matches), scores, classes, target_classes, names=names)
    # Two of its twelve values: AP (classes, IoU thresholds), and the classes that have labels.
    ap, present = result[5], result[6].astype(int)
    per_class = {c: {"ap50_95": float(ap[i].mean()), "ap50": float(ap[i, 0])} for i, c in enumerate(present.tolist())}
    return Accuracy(map50_95=float(ap.mean()), map50=float(ap[:, 0].mean()), per_class=per_class)


def match(truth: Truth, found: Detections) -> NDArray[np.bool_]:
    """Which detections are correct at each IoU threshold, (N, 10)."""
    import torch
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import box_iou

    if not len(found) or not len(truth.class_ids):
        return np.zeros((len(found), IOU_THRESHOLDS), dtype=bool)
    iou = box_iou(torch.from_numpy(truth.boxes).float(), torch.from_numpy(found.boxes))
    # match_predictions reads nothing else of a validator.
    matcher: Any = SimpleNamespace(iouv=torch.linspace(LOWEST_IOU, HIGHEST_IOU, IOU_THRESHOLDS))
    correct = BaseValidator.match_predictions(
        matcher, torch.from_numpy(found.class_ids), torch.from_numpy(truth.class_ids), iou
    )
    return np.asarray(correct.numpy(), dtype=bool)
