"""Frames of a camera with boxes in them, as its outputs get them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_slim.runtime.camera.frame import Answer, Frame, Shown
from yolo_slim.runtime.camera.outputs.record import Context
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import StageTimes

Box = tuple[float, float, float, float]
CONTEXT = Context(source="hall", names={0: "person", 1: "dog"})
TIMES = StageTimes(pre_ms=1, infer_ms=2, post_ms=1, total_ms=4)


def detections(boxes: Sequence[Box], scores: Sequence[float] = (), class_ids: Sequence[int] = ()) -> Detections:
    """Boxes, xyxy in pixels; without scores .9, without classes 0."""
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores or [0.9] * len(boxes), np.float32),
        class_ids=np.array(class_ids or [0] * len(boxes), np.int64),
    )


def shown(found: Detections, time_s: float, *, track_ids: Sequence[int] = (), sequence: int = 0) -> Shown:
    """A grey frame of 200 x 100 pixels, captured at a time and ready 40 ms later."""
    image = np.full((100, 200, 3), 90, np.uint8)
    return Shown(
        frame=Frame(image=image, index=2 * sequence, captured_s=time_s),
        answers={"slim": Answer(detections=found, times=TIMES)},
        sequence=sequence,
        ready_s=time_s + 0.04,
        track_ids=tuple(track_ids),
    )
