"""A shown frame as JSON: the same words for files, messages and clips."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.outputs.tracking import NO_TRACK

if TYPE_CHECKING:
    from yolo_slim.runtime.camera.frame import Shown
    from yolo_slim.runtime.decode import Detections

SCHEMA = 1
SLIM = "slim"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every record of a camera repeats."""

    source: str
    """Name of the source, without a password."""
    names: Mapping[int, str]
    """Class id to class name."""

    def name_of(self, class_id: int) -> str:
        """A class's name; its number where it has none."""
        return self.names.get(class_id, str(class_id))


def distinct(names: Mapping[int, str]) -> dict[int, str]:
    """Class id to a name that no other class has.

    Counts are told by name, and two classes of one name must not add up.
    """
    times = Counter(names.values())
    return {key: f"{name} ({key})" if times[name] > 1 else name for key, name in names.items()}


def slim_detections(shown: Shown) -> Detections:
    """The detections that outputs are about: those of the slim bundle."""
    return shown.answers[SLIM].detections


def record(shown: Shown, context: Context) -> JsonObject:
    """Everything about a shown frame but its picture."""
    frame = shown.frame
    height, width = frame.image.shape[:2]
    return {
        "schema": SCHEMA,
        "time": utc(frame.captured_s),
        "sequence": shown.sequence,
        "frame": frame.index,
        "source": context.source,
        "size": [width, height],
        "latency_ms": round((shown.ready_s - frame.captured_s) * 1000, 2),
        "counts": class_counts(shown, context),
        "detections": _objects(shown, context),
    }


def class_counts(shown: Shown, context: Context) -> dict[str, int]:
    """Objects of each class in a frame; classes without any are left out."""
    return dict(Counter(context.name_of(class_id) for class_id in slim_detections(shown).class_ids.tolist()))


def utc(monotonic_s: float) -> str:
    """A moment of ``time.monotonic()`` as ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time.time() - time.monotonic() + monotonic_s, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _objects(shown: Shown, context: Context) -> list[JsonObject]:
    detections = slim_detections(shown)
    ids = shown.track_ids or (NO_TRACK,) * len(detections)
    rows = zip(detections.class_ids.tolist(), detections.scores.tolist(), detections.boxes.tolist(), ids, strict=True)
    return [
        {
            "class_id": class_id,
            "class": context.name_of(class_id),
            "score": round(score, 4),
            "box": [round(value, 1) for value in box],
            "track": None if track == NO_TRACK else track,
        }
        for class_id, score, box, track in rows
    ]
