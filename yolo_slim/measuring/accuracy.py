"""mAP of detections, by the same code that ``yolo val`` prints its numbers with (docs/adr/0002-evaluator.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.sources import read_image

IOU_THRESHOLDS = torch.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is in one image."""

    boxes: NDArray[np.float64]
    """(N, 4) xyxy in the image's own pixels."""
    class_ids: NDArray[np.int64]
    """(N,)."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """mAP over a set of images."""

    map50_95: float
    """Mean over IoU .50 to .95 and over the classes that occur."""
    map50: float
    """The same at IoU .50."""
    per_class: dict[str, dict[str, float]]
    """Class name to ``ap50_95`` and ``ap50``; classes that don't occur are left out."""


def read_truth(image: Path) -> Truth:
    """Return an image's labels in its own pixels."""
    height, width = read_image(image, convert_channels=True).shape[:2]
    rows = read_labels(label_path(image))
    centre, half = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height) / 2
    return Truth(boxes=np.concatenate([centre - half, centre + half], axis=1), class_ids=rows[:, 0].astype(np.int64))


def score(truths: Sequence[Truth], detections: Sequence[Detections], names: dict[int, str]) -> Accuracy:
    """Return the mAP of detections, best score first in every image, against the truth of the same images."""
    prepare_ultralytics()
    from ultralytics.utils.metrics import ap_per_class

    matches = [_match(truth, found) for truth, found in zip(truths, detections, strict=True)]
    target_classes = np.concatenate([truth.class_ids for truth in truths])
    if not len(target_classes) or not sum(map(len, detections)):
        return Accuracy(map50_95=0.0, map50=0.0, per_class={})
    scores = np.concatenate([found.scores for found in detections])
    classes = np.concatenate([found.class_ids for found in detections])
    result = ap_per_class(np.concatenate(matches), scores, classes, target_classes, names=names)
    ap, present = result[5], result[6].astype(int)
    per_class = {
        names[c]: {"ap50_95": float(ap[i].mean()), "ap50": float(ap[i, 0])} for i, c in enumerate(present.tolist())
    }
    return Accuracy(map50_95=float(ap.mean()), map50=float(ap[:, 0].mean()), per_class=per_class)


def _match(truth: Truth, found: Detections) -> NDArray[np.bool_]:
    """Return which detections are correct at each IoU threshold, (N, 10)."""
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import box_iou

    if not len(found) or not len(truth.class_ids):
        return np.zeros((len(found), len(IOU_THRESHOLDS)), dtype=bool)
    iou = box_iou(torch.from_numpy(truth.boxes).float(), torch.from_numpy(found.boxes))
    matcher: Any = SimpleNamespace(iouv=IOU_THRESHOLDS)
    correct = BaseValidator.match_predictions(
        matcher, torch.from_numpy(found.class_ids), torch.from_numpy(truth.class_ids), iou
    )
    return np.asarray(correct.numpy(), dtype=bool)
