"""Whether one bundle finds the same on two machines. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from yolo_slim.runtime.boxes import box_iou
from yolo_slim.runtime.decode import VAL, Detections
from yolo_slim.runtime.infer import ImageDetections
from yolo_slim.runtime.tolerances import (
    MAX_SHIFT,
    MIN_IOU,
    Answer,
    Tolerances,
    is_suppressed,
    largest_shift,
    same_box,
)

SAME_OBJECT = 0.5
"""IoU from which on two boxes of a class are of one object."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the detections of two machines compare."""

    matched: int
    """Pairs of one object."""
    suppressed: int
    """Detections that one machine doesn't show, because its NMS kept another box of the object."""
    unmatched: tuple[str, ...]
    """Detections that only one machine has."""
    largest_score_difference: float | None
    """Of all pairs; None: there is no pair."""
    lowest_iou: float | None
    """Of all pairs; None: there is no pair."""
    largest_shift_px: float | None
    """Of the sides of all pairs, in pixels of the network's input; None: there is no pair."""
    moved: tuple[str, ...] = ()
    """Pairs whose boxes are further apart than the tolerances."""

    def problems(self, most: float) -> list[str]:
        """What is outside the tolerances; ``most`` is the largest difference of score. Empty: the machines agree."""
        found = [f"only one side has: {text}" for text in self.unmatched]
        # Not `>`: NaN must not agree.
        if self.largest_score_difference is not None and not self.largest_score_difference <= most:
            found.append(f"a score differs by {self.largest_score_difference:.4f}, at most {most:g} allowed")
        found += [f"a box moved: {text}; IoU {MIN_IOU:g} or {MAX_SHIFT:g} px needed" for text in self.moved]
        return found


def allowed_map_difference(images: int) -> float:
    """How far mAP50-95 of two machines may be apart: one detection more or less counts much among few images."""
    return 0.005 + 1 / images


def threshold(answers: Sequence[Answer], usual: float) -> float:
    """The score from which on detections are compared: the bundle's, or less where a weak model has none above it."""
    scores = [one.detections.scores for one in answers if len(one.detections)]
    best = max((float(one.max()) for one in scores), default=0.0)
    return usual if best > usual else max(best / 2, VAL.conf)


def shown(image: ImageDetections) -> Answer:
    """What a user sees of an image's detections: those that mAP is computed from may reach over the border."""
    height, width = image.image_hw
    boxes = np.clip(image.detections.boxes, 0, np.array([width, height, width, height], np.float32))
    return Answer(detections=replace(image.detections, boxes=boxes), candidates=image.candidates)


def agreement(
    expected: Sequence[Answer], found: Sequence[Answer], conf: float, tolerances: Sequence[Tolerances]
) -> Agreement:
    """Pair the detections of two machines in the same images.

    Args:
        expected: one machine's, image by image, down to the lowest scores.
        found: the other's.
        conf: every detection from this score on, of either machine, must have a partner on the other, however low the
            partner's score is, or be suppressed there.
        tolerances: how far equal detections may be apart, image by image.
    """
    compared = [
        _Image(number=number, one=one, other=other, conf=conf, tolerances=limits)
        for number, (one, other, limits) in enumerate(zip(expected, found, tolerances, strict=True), 1)
    ]
    kept = [(image, pair) for image in compared for pair in image.pairs]
    lone = [(image, side, i) for image in compared for side, i in image.lone()]
    reported = [(image, side, i) for image, side, i in lone if not image.is_suppressed(side, i)]
    return Agreement(
        matched=len(kept),
        suppressed=len(lone) - len(reported),
        unmatched=tuple(f"image {image.number}, {_text(image.seen(side), i)}" for image, side, i in reported),
        moved=tuple(image.moved(pair) for image, pair in kept if not image.is_same_box(pair)),
        largest_score_difference=max((image.score_difference(pair) for image, pair in kept), default=None),
        lowest_iou=min((image.iou(pair) for image, pair in kept), default=None),
        largest_shift_px=max((image.shift(pair) for image, pair in kept), default=None),
    )


Pair = tuple[int, int]
"""Indices of one object's detection on the one machine and on the other."""


@dataclass(frozen=True, kw_only=True)
class _Image:
    """Two machines' answers for one image."""

    number: int
    """For people, from 1."""
    one: Answer
    other: Answer
    conf: float
    tolerances: Tolerances

    def seen(self, side: int) -> Detections:
        """What one of the machines shows."""
        return (self.one, self.other)[side].detections

    @cached_property
    def pairs(self) -> list[Pair]:
        """Detections of one object; not those that only NMS chose otherwise."""
        found = _pairs(self.one.detections, self.other.detections, self.conf)
        return [pair for pair in found if self._is_equal(pair) or not self._is_chance(pair)]

    def _is_chance(self, pair: Pair) -> bool:
        """Whether the two only overlap: what either machine surely shows, the other one's NMS suppressed."""
        sure = [(side, i) for side, i in enumerate(pair) if self.seen(side).scores[i] >= self.conf]
        return all(self.is_suppressed(side, i) for side, i in sure)

    def lone(self) -> Iterator[tuple[int, int]]:
        """Machine and index of what has no partner."""
        for side in (0, 1):
            taken = {pair[side] for pair in self.pairs}
            yield from ((side, i) for i in _sure(self.seen(side), self.conf) if i not in taken)

    def is_suppressed(self, side: int, index: int) -> bool:
        """Whether the other machine computed a detection too, and its NMS kept another box."""
        return is_suppressed(self.seen(side), index, (self.other, self.one)[side], self.tolerances)

    def _is_equal(self, pair: Pair) -> bool:
        return self.score_difference(pair) <= self.tolerances.score and self.is_same_box(pair)

    def _boxes(self, pair: Pair) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.one.detections.boxes[pair[0]], self.other.detections.boxes[pair[1]]

    def is_same_box(self, pair: Pair) -> bool:
        return same_box(*self._boxes(pair), self.tolerances.pixel)

    def score_difference(self, pair: Pair) -> float:
        return abs(float(self.one.detections.scores[pair[0]] - self.other.detections.scores[pair[1]]))

    def iou(self, pair: Pair) -> float:
        return box_iou(*self._boxes(pair))

    def shift(self, pair: Pair) -> float:
        return largest_shift(*self._boxes(pair), self.tolerances.pixel)

    def moved(self, pair: Pair) -> str:
        """A pair whose boxes are apart, for people."""
        class_id = self.one.detections.class_ids[pair[0]]
        apart = f"sides {self.shift(pair):.1f} px of the input apart"
        return f"image {self.number}, class {class_id}, IoU {self.iou(pair):.3f}, {apart}"


def _pairs(one: Detections, other: Detections, conf: float) -> list[Pair]:
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
