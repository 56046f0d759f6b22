"""How far an ONNX graph is from the PyTorch network that it was exported from, on real images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
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
"""Boxes and the rest are compared where a score exceeds this: end2end rows below may change places.

In an image whose best score is lower, half the best score takes its place, so that something is compared.
"""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The largest differences between ONNX Runtime and PyTorch."""

    images: int
    boxes: int
    """Boxes that were compared, in all images."""
    max_box_px: float
    max_score: float
    max_rest: float | None
    """Share of the largest value; None for tasks with boxes and scores alone."""

    def to_json(self) -> JsonObject:
        """As the stage's manifest has it, with the tolerances."""
        value: dict[str, Any] = {
            "images": self.images,
            "boxes": self.boxes,
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
    # A copy: the letterbox reuses its buffer.
    blobs = (letterbox(read_image(path, convert_channels=True))[0].copy() for path in images)
    pairs = ((ours(blob), theirs(blob)) for blob in blobs)
    return compare_outputs(pairs, task=loaded.task, classes=len(loaded.names), imgsz=imgsz, end2end=end2end)


def compare_outputs(
    pairs: Iterable[tuple[list[np.ndarray], list[np.ndarray]]], *, task: str, classes: int, imgsz: int, end2end: bool
) -> Parity:
    """Compare the outputs of two graphs, image by image.

    Args:
        pairs: all outputs of the one and of the other graph for one image.
        task: Ultralytics' name of the task.
        classes: number of classes.
        imgsz: input side in pixels.
        end2end: the first output has rows (1, 300, 6 or more) and not columns (1, 4 + classes or more, anchors).

    Raises:
        SlimError: see :func:`measure_parity`; or nothing was compared, because no box has a score.
    """
    found = []
    for got, wanted in pairs:
        _require_equal_shapes(got, wanted)
        if task == "classify":
            found.append(_Difference(boxes=0, score=float(np.abs(got[0] - wanted[0]).max())))
            continue
        first = _first_difference(got[0][0], wanted[0][0], None if end2end else 4 + classes, imgsz)
        others = [_share(ours, theirs) for ours, theirs in zip(got[1:], wanted[1:], strict=True)]
        found.append(replace(first, rest=float(np.max([first.rest, *others]))))
    return _checked(found, task)


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """The largest differences on one image: of boxes (px), scores, and the rest (share of its largest value)."""

    boxes: int
    """Boxes that were compared."""
    box_px: float = 0.0
    score: float
    rest: float = 0.0


def _checked(found: list[_Difference], task: str) -> Parity:
    """Put the images together; refuse a difference, and a comparison of nothing."""
    # numpy's maximum, because NaN is the largest value for it, and Python's max would lose it.
    box_px, score, rest = (float(np.max([getattr(one, key) for one in found])) for key in ("box_px", "score", "rest"))
    _require_small(box_px, score, rest)
    boxes = sum(one.boxes for one in found)
    if not boxes and task != "classify":
        raise SlimError(
            f"The ONNX graph can't be compared with PyTorch: the model gives no box a score above 0 in any of the "
            f"{len(found)} images.",
            remedy="Give a trained model, or images that show its classes.",
        )
    has_rest = task not in ("detect", "classify")
    return Parity(
        images=len(found), boxes=boxes, max_box_px=box_px, max_score=score, max_rest=rest if has_rest else None
    )


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
            topic="onnx-and-pytorch-disagree",
        )


def _first_difference(got: np.ndarray, wanted: np.ndarray, last: int | None, imgsz: int) -> _Difference:
    """Compare the first output; ``last`` is the end of its scores, None where it is end2end."""
    return _end2end_difference(got, wanted, imgsz) if last is None else _one2many_difference(got, wanted, last, imgsz)


def _end2end_difference(got: np.ndarray, wanted: np.ndarray, imgsz: int) -> _Difference:
    """Compare rows (300, 6 or more): every row above the score with the nearest one of the other side."""
    # Not row by row: rows of nearly equal scores may change places.
    least = _least_score(wanted[:, 4])
    ours, theirs = got[got[:, 4] > least], wanted[wanted[:, 4] > least]
    left = np.concatenate([ours, _nearest(got, theirs)])
    right = np.concatenate([_nearest(wanted, ours), theirs])
    return _Difference(
        boxes=len(theirs),
        box_px=float(_box_px(left[:, :4], right[:, :4], imgsz).max(initial=0.0)),
        score=float(np.max([np.abs(left[:, 4] - right[:, 4]).max(initial=0.0), abs(got[0, 4] - wanted[0, 4])])),
        rest=_share(left[:, 6:], right[:, 6:]),
    )


def _nearest(rows: np.ndarray, to: np.ndarray) -> np.ndarray:
    """For each row of ``to``, the row of the same class whose box is nearest."""
    distance = np.abs(rows[None, :, :4] - to[:, None, :4]).max(axis=2)
    distance = np.where(rows[None, :, 5] == to[:, None, 5], distance, np.inf)
    return np.asarray(rows[distance.argmin(axis=1)])


def _one2many_difference(got: np.ndarray, wanted: np.ndarray, last: int, imgsz: int) -> _Difference:
    """Compare columns (4 + classes or more, anchors): all scores, and what else belongs to the likely boxes."""
    best = wanted[4:last].max(axis=0)
    seen = best > _least_score(best)
    return _Difference(
        boxes=int(seen.sum()),
        box_px=float(_box_px(got[:4, seen], wanted[:4, seen], imgsz).max(initial=0.0)),
        score=float(np.abs(got[4:last] - wanted[4:last]).max(initial=0.0)),
        rest=_share(got[last:, seen], wanted[last:, seen]),
    )


def _least_score(scores: np.ndarray) -> float:
    """From which score on boxes of an image are compared."""
    return min(SEEN_SCORE, float(scores.max()) / 2)


def _box_px(got: np.ndarray, wanted: np.ndarray, imgsz: int) -> np.ndarray:
    """The differences of coordinates in pixels; beyond the input they are scaled down to its side."""
    # An untrained head without DFL draws boxes of 10^5 px, whose float32 steps alone exceed the tolerance.
    return np.asarray(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted) / imgsz))


def _share(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference as a share of the largest value, 0 where there is nothing."""
    # At least 1, because an empty tensor has no largest value to divide by.
    return float(np.abs(got - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), 1.0))
