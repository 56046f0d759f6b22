"""A shown frame as the page and other programs read it: JSON with boxes as shares of the picture."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.runtime.camera.outputs.tracking import NO_TRACK

if TYPE_CHECKING:
    from yolo_slim.runtime.camera.frame import Answer, Shown

MOST_BOXES = 300
"""Of one answer; a bundle's own limit is as high."""


def frame_details(shown: Shown) -> dict[str, Any]:
    """Sequence, size, latency and what every bundle found; ready for JSON.

    ``size``: (width, height) in pixels. ``boxes``: xyxy in [0, 1] of width and height. ``track_ids``: of the slim
    boxes, null where an object has none yet; empty without tracking.
    """
    height, width = shown.frame.image.shape[:2]
    return {
        "type": "frame",
        "sequence": shown.sequence,
        "index": shown.frame.index,
        "size": [width, height],
        "latency_ms": round((shown.ready_s - shown.frame.captured_s) * 1e3, 2),
        "answers": {name: _answer(answer, width, height) for name, answer in shown.answers.items()},
        "track_ids": [None if track == NO_TRACK else track for track in shown.track_ids],
    }


def _answer(answer: Answer, width: int, height: int) -> dict[str, Any]:
    found = answer.detections
    scale = np.array([width, height, width, height], np.float32)
    # JSON has no NaN: one from a broken model would end every page.
    return {
        "boxes": np.round(np.nan_to_num(found.boxes[:MOST_BOXES] / scale, posinf=0, neginf=0), 5).tolist(),
        "scores": np.round(np.nan_to_num(found.scores[:MOST_BOXES].astype(np.float64), posinf=0, neginf=0), 3).tolist(),
        "class_ids": found.class_ids[:MOST_BOXES].tolist(),
        "times": {name: round(value, 2) for name, value in asdict(answer.times).items()},
    }
