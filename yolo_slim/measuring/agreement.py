"""Whether one bundle finds the same on two machines. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolo_slim.runtime.boxes import box_iou
from yolo_slim.runtime.decode import VAL, Detections
from yolo_slim.runtime.infer import ImageDetections
from yolo_slim.runtime.selfcheck import MAX_SHIFT, MIN_IOU, max_score_difference, same_box

SAME_OBJECT = 0.5
"""IoU from which on two boxes of a class are of one object."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the detections of two machines compare."""

    matched: int
    """Pairs of one object."""
    unmatched: tuple[str, ...]
    """Detections that only one machine has."""
    largest_score_difference: float | None
    """Of all pairs; None: there is no pair."""
    lowest_iou: float | None
    """Of all pairs; None: there is no pair."""
    moved: tuple[str, ...] = ()
    """Pairs whose boxes are further apart than the tolerances."""

    def problems(self, precision: str) -> list[str]:
        """What is outside the tolerances of a precision; empty: the machines agree."""
        most = max_score_difference(precision)
        found = [f"only one side has: {text}" for text in self.unmatched]
        # Not `>`: NaN must not agree.
        if self.largest_score_difference is not None and not self.largest_score_difference <= most:
            found.append(f"a score differs by {self.largest_score_difference:.4f}, at most {most:g} allowed")
        found += [f"a box moved: {text}; IoU {MIN_IOU:g} or {MAX_SHIFT:g} px needed" for text in self.moved]
        return found


def allowed_map_difference(images: int) -> float:
    """How far mAP50-95 of two machines may be apart: one detection more or less counts much among few images."""
    return 0.005 + 1 / images


def threshold(answers: Sequence[Detections], usual: float) -> float:
    """The score from which on detections are compared: the bundle's, or less where a weak model has none above it."""
    best = max((float(one.scores.max()) for one in answers if len(one)), default=0.0)
    return usual if best > usual else max(best / 2, VAL.conf)


def shown(image: ImageDetections) -> Detections:
    """What a user sees of an image's detections: those that mAP is computed from may reach over the border."""
    height, width = image.image_hw
    boxes = np.clip(image.detections.boxes, 0, np.array([width, height, width, height], np.float32))
    return replace(image.detections, boxes=boxes)


def agreement(
    expected: Sequence[Detections], found: Sequence[Detections], conf: float, pixels: Sequence[float]
) -> Agreement:
    """Pair the detections of two machines in the same images.

    Args:
        expected: one machine's, image by image, down to the lowest scores.
        found: the other's.
        conf: every detection from this score on, of either machine, must have a partner on the other, however low the
            partner's score is.
        pixels: how many pixels of each image one pixel of the network's input is.
    """
    unmatched: list[str] = []
    moved: list[str] = []
    pairs: list[tuple[float, float]] = []
    for number, (one, other, pixel) in enumerate(zip(expected, found, pixels, strict=True)):
        joined = _pairs(one, other, conf)
        pairs += [
            (abs(float(one.scores[i] - other.scores[j])), box_iou(one.boxes[i], other.boxes[j])) for i, j in joined
        ]
        moved += [
            f"image {number + 1}, class {one.class_ids[i]}, IoU {box_iou(one.boxes[i], other.boxes[j]):.3f}, sides "
            f"{np.abs(one.boxes[i] - other.boxes[j]).max() / pixel:.1f} px of the input apart"
            for i, j in joined
            if not same_box(one.boxes[i], other.boxes[j], pixel)
        ]
        for side, taken in ((one, {i for i, _ in joined}), (other, {j for _, j in joined})):
            unmatched += [f"image {number + 1}, {_text(side, i)}" for i in _sure(side, conf) if i not in taken]
    return Agreement(
        matched=len(pairs),
        unmatched=tuple(unmatched),
        moved=tuple(moved),
        largest_score_difference=max((score for score, _ in pairs), default=None),
        lowest_iou=min((iou for _, iou in pairs), default=None),
    )


def _pairs(one: Detections, other: Detections, conf: float) -> list[tuple[int, int]]:
    """Indices of detections of one object: those of ``one`` from ``conf`` on first, then those of ``other``."""
    free_one, free_other = list(range(len(one))), list(range(len(other)))
    found = []
    for i in _sure(one, conf):
        partner = _partner(one, i, other, free_other)
        if partner is not None:
            found.append((i, partner))
            free_one.remove(i)
            free_other.remove(partner)
    for j in _sure(other, conf):
        partner = _partner(other, j, one, free_one) if j in free_other else None
        if partner is not None:
            found.append((partner, j))
            free_one.remove(partner)
    return found


def _sure(detections: Detections, conf: float) -> Iterator[int]:
    """Indices from a score on; detections are sorted, best score first."""
    return (index for index in range(len(detections)) if detections.scores[index] >= conf)


def _partner(one: Detections, index: int, other: Detections, free: Sequence[int]) -> int | None:
    """The free detection of the same class that overlaps most, if it is of the same object."""
    same = [j for j in free if other.class_ids[j] == one.class_ids[index]]
    best = max(same, key=lambda j: box_iou(one.boxes[index], other.boxes[j]), default=None)
    return best if best is not None and box_iou(one.boxes[index], other.boxes[best]) >= SAME_OBJECT else None


def _text(detections: Detections, index: int) -> str:
    box = ", ".join(f"{value:.1f}" for value in detections.boxes[index])
    return f"class {detections.class_ids[index]}, score {detections.scores[index]:.3f}, box ({box})"
