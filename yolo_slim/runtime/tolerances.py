"""When the detections of two machines count as equal. Self-check and emulation compare by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yolo_slim.runtime.boxes import box_iou
from yolo_slim.runtime.decode import Detections

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_IOU = 0.9
"""A detection is the expected one from this IoU on: fp16 moves a box by a few pixels at most."""
MAX_SHIFT = 2.0
"""Or where no side is further away, in pixels of the network's input: a box of 40 pixels that moves so far along one
side still has :data:`MIN_IOU` (38 / 42), and a smaller one may move no further."""
MAX_SCORE_DIFFERENCE = 0.05
"""Largest difference of score. Detections this close to the score threshold may be missing or new."""
MAX_INT8_SCORE_DIFFERENCE = 0.1
"""The same for int8: ONNX Runtime computes its graph in integers on Arm, and partly in floats on x86. On an emulated
Cortex-A76 scores of good bundles differed by more than half of the other precisions' limit."""
NMS_MARGIN = 0.1
"""How far an IoU may be from NMS's threshold on one machine that is on the other side of it on another."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one machine found in one image."""

    detections: Detections
    """What is left after non-maximum suppression (NMS)."""
    candidates: Detections | None = None
    """What NMS chose from; None: not known."""


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How far equal detections of one image may be apart."""

    score: float
    """Largest difference of score."""
    nms_iou: float
    """NMS's threshold."""
    image_hw: Sequence[int]
    """Height and width of the image, pixels."""
    imgsz: Sequence[int]
    """Height and width of the network's input, pixels."""

    @property
    def pixel(self) -> float:
        """Pixels of the image in one of the network's input."""
        return input_pixel(self.image_hw, self.imgsz)


def max_score_difference(precision: str) -> float:
    """The tolerance of a precision's scores."""
    return MAX_INT8_SCORE_DIFFERENCE if precision == "int8" else MAX_SCORE_DIFFERENCE


def input_pixel(image_hw: Sequence[int], imgsz: Sequence[int]) -> float:
    """How many pixels of an image one pixel of the network's input is; both as height and width."""
    return max(image_hw[0] / imgsz[0], image_hw[1] / imgsz[1])


def largest_shift(a: NDArray[np.float32], b: NDArray[np.float32], pixel: float) -> float:
    """How far apart the sides of two xyxy boxes are at most, in pixels of the network's input.

    Args:
        a: (4,), pixels of the image.
        b: the same.
        pixel: as of :func:`input_pixel`.
    """
    return float(np.abs(a - b).max()) / pixel


def same_box(a: NDArray[np.float32], b: NDArray[np.float32], pixel: float) -> bool:
    """Whether two xyxy boxes are one, within the tolerances; ``pixel`` as of :func:`input_pixel`."""
    return box_iou(a, b) >= MIN_IOU or largest_shift(a, b, pixel) <= MAX_SHIFT


def is_suppressed(found: Detections, index: int, other: Answer, tolerances: Tolerances) -> bool:
    """Whether another machine computed a detection too, but its NMS kept another box of the object.

    Two boxes of an object may score the same, or overlap as much as NMS allows. Then the last digit decides which one
    is shown. The detection must be a candidate there, and a box that is shown there must overlap it and score no less.
    Nothing is excused on a machine that shows two boxes which NMS wouldn't leave beside each other.
    """
    if other.candidates is None or _is_doubled(found, index, tolerances):
        return False
    box, shown = found.boxes[index], _of_class(other.detections, found.class_ids[index])
    overlapping = [i for i in shown if box_iou(box, other.detections.boxes[i]) >= tolerances.nms_iou - NMS_MARGIN]
    best = max(other.detections.scores[overlapping], default=-1.0)
    near = _of_class(other.candidates, found.class_ids[index])
    scores = other.candidates.scores[near]
    near = near[(np.abs(scores - found.scores[index]) <= tolerances.score) & (scores <= best)]
    return any(same_box(box, one, tolerances.pixel) for one in other.candidates.boxes[near])


def _is_doubled(found: Detections, index: int, tolerances: Tolerances) -> bool:
    """Whether a box is shown that is no worse, of the same class, and overlaps more than NMS allows."""
    better = _of_class(found, found.class_ids[index])
    better = better[(better != index) & (found.scores[better] >= found.scores[index])]
    box, most = found.boxes[index], tolerances.nms_iou + NMS_MARGIN
    # NMS compares boxes before they are clipped to the image: at the border they may overlap less than they seem to.
    return any(
        box_iou(box, one) > (MIN_IOU if _ends_at_border(box, one, tolerances.image_hw) else most)
        for one in found.boxes[better]
    )


def _ends_at_border(a: NDArray[np.float32], b: NDArray[np.float32], image_hw: Sequence[int]) -> bool:
    """Whether one of two xyxy boxes reaches the border of the image."""
    height, width = image_hw
    both = np.stack([a, b])
    return bool((both[:, :2] <= 0).any() or (both[:, 2:] >= [width, height]).any())


def _of_class(found: Detections, class_id: np.int64) -> NDArray[np.intp]:
    return np.flatnonzero(found.class_ids == class_id)
