"""The images of the report: what the control and the slim model see in the ones with the most objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_slim.measuring.detect import Answers
from yolo_slim.measuring.images import ScoredImages
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.draw import draw
from yolo_slim.runtime.sources import read_image

EXAMPLES = 4
MIN_SCORE = 0.25
"""Detections below it aren't drawn; it is the usual threshold of a detector in use."""
LONGEST_SIDE = 640


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image as two models see it."""

    file: str
    truth: int
    """Labelled objects."""
    control: NDArray[np.uint8]
    """(H, W, 3) BGR with the control's boxes."""
    slim: NDArray[np.uint8]
    """The same with the slim model's."""


def examples(images: ScoredImages, control: Answers, slim: Answers, names: Mapping[int, str]) -> Sequence[Example]:
    """Draw the images with the most labelled objects."""
    order = np.argsort([-len(truth.class_ids) for truth in images.truths], kind="stable")[:EXAMPLES]
    return [
        Example(
            file=images.paths[i].name,
            truth=len(images.truths[i].class_ids),
            control=_drawn(images, i, control, names),
            slim=_drawn(images, i, slim, names),
        )
        for i in order.tolist()
    ]


def _drawn(images: ScoredImages, index: int, answers: Answers, names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Draw one image with the boxes above the usual threshold, small enough for a page."""
    image = read_image(images.paths[index], convert_channels=True)
    drawn = draw(image, _one_class_per_box(answers[index]), names)
    scale = min(1.0, LONGEST_SIDE / max(drawn.shape[:2]))
    small: NDArray[np.uint8] = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return small


def _one_class_per_box(found: Detections) -> Detections:
    """Keep the detections above the threshold, without second classes of the same box."""
    # Detections for mAP list a box once for every class that scores, the best score first.
    kept: list[int] = []
    for i in np.flatnonzero(found.scores > MIN_SCORE).tolist():
        if not any(np.array_equal(found.boxes[i], found.boxes[j]) for j in kept):
            kept.append(i)
    return Detections(boxes=found.boxes[kept], scores=found.scores[kept], class_ids=found.class_ids[kept])
