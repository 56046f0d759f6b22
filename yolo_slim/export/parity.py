"""How far an ONNX graph is from the PyTorch network that it was exported from, on real images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.measuring.predict import onnx_outputs, torch_outputs
from yolo_slim.models import checkpoint
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image

MAX_BOX_PX = 0.1
"""Largest difference of a box coordinate between ONNX Runtime and PyTorch, pixels of the input."""
MAX_SCORE = 0.001
"""Largest difference of a score."""
MAX_REST = 0.005
"""Largest difference of mask coefficients, prototypes, keypoints and angles, as a share of their largest value."""
SEEN_SCORE = 0.05
"""Boxes and the rest are compared where a score exceeds this: end2end rows below may change places."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The largest differences between ONNX Runtime and PyTorch."""

    images: int
    max_box_px: float
    max_score: float
    max_rest: float | None
    """Share of the largest value; None for tasks with boxes and scores alone."""

    def to_json(self) -> JsonObject:
        """As the stage's manifest has it, with the tolerances."""
        value: dict[str, Any] = {
            "images": self.images,
            "max_box_px": self.max_box_px,
            "max_score": self.max_score,
            "box_tolerance_px": MAX_BOX_PX,
            "score_tolerance": MAX_SCORE,
        }
        return value if self.max_rest is None else value | {"max_rest": self.max_rest, "rest_tolerance": MAX_REST}


def measure_parity(
    loaded: checkpoint.Checkpoint, onnx: Path, images: list[Path], *, imgsz: int, end2end: bool
) -> Parity:
    """Measure the largest differences of ONNX Runtime and PyTorch on real images.

    Raises:
        SlimError: no images; or a difference above :data:`MAX_BOX_PX`, :data:`MAX_SCORE` or, of what other tasks add,
            :data:`MAX_REST`.
    """
    if not images:
        raise SlimError(
            "There are no images on which the ONNX graph can be compared with PyTorch.",
            remedy="Give a data set with validation or training images.",
        )
    ours, theirs = onnx_outputs(onnx), torch_outputs(loaded.model, end2end=end2end)
    letterbox = Letterbox((imgsz, imgsz))
    worst = np.zeros(3)
    for path in images:
        # A copy: the letterbox reuses its buffer.
        blob = letterbox(read_image(path, convert_channels=True))[0].copy()
        got, wanted = ours(blob), theirs(blob)
        _require_equal_shapes(got, wanted)
        worst = np.maximum(worst, _all_differences(got, wanted, loaded, imgsz=imgsz, end2end=end2end))
    box_px, score, rest = worst.tolist()
    _require_small(box_px, score, rest)
    has_rest = loaded.task not in ("detect", "classify")
    return Parity(images=len(images), max_box_px=box_px, max_score=score, max_rest=rest if has_rest else None)


def _require_equal_shapes(got: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    shapes = [output.shape for output in got], [output.shape for output in wanted]
    if shapes[0] != shapes[1]:
        raise SlimError(
            f"The ONNX outputs have the shapes {shapes[0]}, PyTorch's {shapes[1]}.",
            remedy="Try another export.opset, and report the model if it stays.",
        )


def _require_small(box_px: float, score: float, rest: float) -> None:
    # Not `any(>)`: every comparison with NaN is false, and NaN must be refused.
    if not (box_px <= MAX_BOX_PX and score <= MAX_SCORE and rest <= MAX_REST):
        raise SlimError(
            "The ONNX graph and the PyTorch model disagree.",
            culprits=[
                f"boxes by {box_px:.3g} px (tolerance {MAX_BOX_PX})",
                f"scores by {score:.3g} ({MAX_SCORE})",
                f"masks, keypoints or angles by {rest:.3g} of their largest value ({MAX_REST})",
            ],
            remedy="Try another export.opset, and report the model if it stays.",
        )


def _all_differences(
    got: list[np.ndarray], wanted: list[np.ndarray], loaded: checkpoint.Checkpoint, *, imgsz: int, end2end: bool
) -> np.ndarray:
    """The largest differences of boxes (px), scores and the rest (share), shape (3,)."""
    if loaded.task == "classify":
        return np.array([0.0, np.abs(got[0] - wanted[0]).max(), 0.0])
    boxes, scores, rest = _differences(got[0][0], wanted[0][0], classes=len(loaded.names), imgsz=imgsz, end2end=end2end)
    others = [_share(ours, theirs) for ours, theirs in zip(got[1:], wanted[1:], strict=True)]
    return np.array([boxes, scores, max([rest, *others])])


def _differences(
    got: np.ndarray, wanted: np.ndarray, *, classes: int, imgsz: int, end2end: bool
) -> tuple[float, float, float]:
    """The same of the first output: boxes, scores, and the columns after them."""
    if end2end:
        rows = (got[:, 4] > SEEN_SCORE) & (wanted[:, 4] > SEEN_SCORE)
        got, wanted = got[rows], wanted[rows]
        boxes, scores = _box_px(got[:, :4], wanted[:, :4], imgsz), np.abs(got[:, 4] - wanted[:, 4])
        rest = _share(got[:, 6:], wanted[:, 6:])
    else:
        last = 4 + classes
        seen = wanted[4:last].max(axis=0) > SEEN_SCORE
        boxes, scores = _box_px(got[:4, seen], wanted[:4, seen], imgsz), np.abs(got[4:last] - wanted[4:last])
        rest = _share(got[last:, seen], wanted[last:, seen])
    return float(boxes.max(initial=0.0)), float(scores.max(initial=0.0)), rest


def _box_px(got: np.ndarray, wanted: np.ndarray, imgsz: int) -> np.ndarray:
    """The differences of coordinates in pixels; beyond the input they are scaled down to its side."""
    # An untrained head without DFL draws boxes of 10^5 px, whose float32 steps alone exceed the tolerance.
    return np.asarray(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted) / imgsz))


def _share(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference as a share of the largest value, 0 where there is nothing."""
    # At least 1, because an empty tensor has no largest value to divide by.
    return float(np.abs(got - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), 1.0))
