"""Which detections of which image are right: from these mAP follows for any choice of the images.

The confidence interval of a difference in mAP is computed from mAP of many random choices. The average precision is
that of :func:`yolo_slim.measuring.accuracy.score`, for images that count any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.measuring.accuracy import IOU_THRESHOLDS, match
from yolo_slim.measuring.truth import Truth
from yolo_slim.runtime.decode import Detections

RECALLS = np.linspace(0, 1, 101)
"""Where the precision is read, as in COCO and Ultralytics."""
BITS = 1 << np.arange(IOU_THRESHOLDS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """All detections and labels of a set of images."""

    files: tuple[str, ...]
    """Path of every image, those without any detection or label included."""
    image: NDArray[np.int64]
    """(N,): number of the image of each detection."""
    boxes: NDArray[np.int64]
    """(N, 4): xyxy in the image's own pixels, rounded; for pictures."""
    scores: NDArray[np.float32]
    """(N,)."""
    class_ids: NDArray[np.int64]
    """(N,)."""
    correct: NDArray[np.bool_]
    """(N, 10): whether it is right at each IoU threshold."""
    label_image: NDArray[np.int64]
    """(M,): number of the image of each label."""
    label_class: NDArray[np.int64]
    """(M,)."""

    @classmethod
    def of(cls, paths: Sequence[Path], truths: Sequence[Truth], detections: Sequence[Detections]) -> Matches:
        """Match the detections of images with their labels."""
        found = [match(truth, one) for truth, one in zip(truths, detections, strict=True)]
        return cls(
            files=tuple(map(str, paths)),
            image=np.repeat(np.arange(len(detections)), [len(one) for one in detections]),
            boxes=np.rint(np.concatenate([one.boxes for one in detections])).astype(np.int64).reshape(-1, 4),
            scores=np.concatenate([one.scores for one in detections]),
            class_ids=np.concatenate([one.class_ids for one in detections]),
            correct=np.concatenate(found),
            label_image=np.repeat(np.arange(len(truths)), [len(truth.class_ids) for truth in truths]),
            label_class=np.concatenate([truth.class_ids for truth in truths]),
        )

    def to_json(self) -> dict[str, object]:
        """Columns; what is right at which threshold is one number a detection, a bit a threshold."""
        # Nine digits are the fewest that surely give a float32 back (IEEE 754).
        return {
            "files": list(self.files),
            "image": self.image.tolist(),
            "boxes": self.boxes.tolist(),
            "scores": [float(f"{score:.9g}") for score in self.scores.tolist()],
            "class_ids": self.class_ids.tolist(),
            "correct": (self.correct @ BITS).tolist(),
            "label_image": self.label_image.tolist(),
            "label_class": self.label_class.tolist(),
        }

    @classmethod
    def from_json(cls, value: Any) -> Matches:
        """Read what :meth:`to_json` made."""
        whole = {key: np.array(value[key], np.int64) for key in ("image", "class_ids", "label_image", "label_class")}
        correct = np.bitwise_and(np.array(value["correct"], np.int64).reshape(-1, 1), BITS).astype(bool)
        boxes = np.array(value["boxes"], np.int64).reshape(-1, 4)
        scores = np.array(value["scores"], np.float32)
        return cls(files=tuple(value["files"]), boxes=boxes, scores=scores, correct=correct, **whole)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.files)

    @cached_property
    def by_class(self) -> list[_Class]:
        """The classes that have labels, each with its detections in the order of their scores."""
        order = np.argsort(-self.scores)
        return [self._of_class(class_id, order) for class_id in np.unique(self.label_class)]

    def _of_class(self, class_id: int, order: NDArray[np.int64]) -> _Class:
        rows = order[self.class_ids[order] == class_id]
        return _Class(
            image=self.image[rows], correct=self.correct[rows],
            label_image=self.label_image[self.label_class == class_id],
        )  # fmt: skip

    def map50_95(self, weights: NDArray[np.int64] | None = None) -> float:
        """mAP50-95 of the images, each counted as often as ``weights`` (images,) says; None: once."""
        counts = np.ones(self.images, np.int64) if weights is None else weights
        found = [one.average_precision(counts) for one in self.by_class]
        # A class none of whose labels is among the chosen images has no accuracy.
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else 0.0

    def per_image(self) -> NDArray[np.float64]:
        """mAP50-95 of every image alone, (images,); NaN where an image has no label."""
        found = np.full(self.images, np.nan)
        for number in np.unique(self.label_image):
            weights = np.zeros(self.images, np.int64)
            weights[number] = 1
            found[number] = self.map50_95(weights)
        return found


class _Class:
    """One class's detections, best score first, and labels."""

    def __init__(self, image: NDArray[np.int64], correct: NDArray[np.bool_], label_image: NDArray[np.int64]) -> None:
        self.image, self.label_image = image, label_image
        # Between two right ones, wrong detections only lower the precision: the first and the last of them say it all.
        right: NDArray[np.bool_] = np.asarray(correct.any(axis=1))
        kept = right.copy()
        kept[:-1] |= right[1:]
        kept[-1:] = True
        self.rows = np.flatnonzero(kept)
        self.correct = correct[self.rows].astype(np.float64)

    def average_precision(self, counts: NDArray[np.int64]) -> float | None:
        """Mean AP over the IoU thresholds; None: no chosen image has a label of this class."""
        labels = int(counts[self.label_image].sum())
        if not labels:
            return None
        weights = counts[self.image]
        seen = np.cumsum(weights)[self.rows].astype(np.float64) if len(self.rows) else np.zeros(0)
        keep: NDArray[np.bool_] = np.greater(seen, 0)
        if not keep.any():
            return 0.0
        right = np.cumsum(self.correct * weights[self.rows].reshape(-1, 1), axis=0)[keep]
        recall, precision = right / labels, right / seen[keep].reshape(-1, 1)
        return float(np.mean([_area(recall[:, i], precision[:, i]) for i in range(IOU_THRESHOLDS)]))


def _area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area below the envelope of a precision-recall curve, read at 101 recalls (Ultralytics' ``compute_ap``)."""
    x = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    y = np.concatenate(([1.0], precision, [0.0, 0.0]))
    envelope = np.maximum.accumulate(y[::-1])[::-1]
    read = np.interp(RECALLS, x, envelope)
    return float(((read[1:] + read[:-1]) / 2).mean())
