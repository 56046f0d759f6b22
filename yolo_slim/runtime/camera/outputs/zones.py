"""What crossed the lines and what is in the zones: pure bookkeeping, fed with boxes, ids and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.outputs.layout import Layout, Line, Point, Zone
from yolo_slim.runtime.camera.outputs.tracking import NO_TRACK

if TYPE_CHECKING:
    from yolo_slim.runtime.decode import Detections

MARGIN = 0.005
"""Share of the picture that an object must be beyond a line: one that stands on it isn't counted to and fro."""
LEAVE_S = 1.0
"""Seconds outside a zone, or unseen, after which an object has left it."""
FORGET_S = 10.0
"""Seconds after which a track that isn't seen is forgotten."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One object in one frame."""

    class_id: int
    track: int
    """Its id, or :data:`NO_TRACK`."""
    at: Point
    """Its anchor point."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that is worth a message."""

    kind: str
    """``crossed`` a line, ``entered`` or ``left`` a zone."""
    name: str
    """Of the line or zone."""
    class_id: int
    track: int
    time_s: float
    """``time.monotonic()`` of the frame."""
    direction: str = ""
    """``in`` or ``out``, of a line."""
    dwell_s: float | None = None
    """Seconds in the zone, when it was left."""

    def to_json(self) -> JsonObject:
        """Without the time, whose zero means nothing elsewhere."""
        return {key: value for key, value in asdict(self).items() if key != "time_s" and value not in ("", None)}


def seen_in(detections: Detections, tracks: Sequence[int], size_hw: tuple[int, int], anchor: str) -> tuple[Seen, ...]:
    """The objects of a frame of (height, width) pixels; ``tracks`` is empty where nothing is tracked."""
    height, width = size_hw
    ids = tracks or (NO_TRACK,) * len(detections)
    return tuple(
        Seen(
            class_id=int(class_id),
            track=track,
            at=((left + right) / 2 / width, (bottom if anchor == "bottom" else (top + bottom) / 2) / height),
        )
        for class_id, track, (left, top, right, bottom) in zip(
            detections.class_ids.tolist(), ids, detections.boxes.tolist(), strict=True
        )
    )


def check_countable(layout: Layout, *, is_tracked: bool) -> None:
    """Refuse lines without tracking.

    Raises:
        SlimError: a line needs to know which box is which object.
    """
    if layout.lines and not is_tracked:
        names = [line.name for line in layout.lines]
        raise SlimError("Lines can't count without tracking:", culprits=names, remedy="Add --track, or use zones.")


class LineCounter:
    """Counts the tracks whose anchor crosses one line."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.crossed = {"in": 0, "out": 0}
        self._settled: dict[int, tuple[Point, float]] = {}
        """By track: where and when it was last clearly beside the line."""

    def update(self, objects: Sequence[Seen], time_s: float) -> Iterator[Event]:
        """Yield the crossings since the last frame."""
        for seen in objects:
            distance = _side(self.line, seen.at)
            if seen.track == NO_TRACK or abs(distance) < MARGIN:
                continue
            before = self._settled.get(seen.track)
            self._settled[seen.track] = (seen.at, time_s)
            if before and _crosses(self.line, before[0], seen.at):
                yield self._count(seen, "in" if distance > 0 else "out", time_s)
        self._settled = {key: value for key, value in self._settled.items() if time_s - value[1] <= FORGET_S}

    def to_json(self) -> JsonObject:
        """Crossings by direction."""
        return dict(self.crossed)

    def _count(self, seen: Seen, direction: str, time_s: float) -> Event:
        self.crossed[direction] += 1
        return Event(
            kind="crossed",
            name=self.line.name,
            class_id=seen.class_id,
            track=seen.track,
            time_s=time_s,
            direction=direction,
        )


@dataclass(kw_only=True)
class _Visit:
    class_id: int
    since_s: float
    last_s: float


@dataclass(kw_only=True)
class ZoneCounter:
    """Counts what is in one zone now, and with tracking what came, left, and how long it stayed."""

    zone: Zone
    entered: int = 0
    longest_s: float = 0.0
    inside: Counter[int] = field(default_factory=Counter)
    """Objects in the newest frame, by class."""
    _visits: dict[int, _Visit] = field(default_factory=dict)

    def update(self, objects: Sequence[Seen], time_s: float) -> Iterator[Event]:
        """Yield who came and left since the last frame."""
        here = [seen for seen in objects if contains(self.zone.points, seen.at)]
        self.inside = Counter(seen.class_id for seen in here)
        for seen in here:
            if seen.track != NO_TRACK:
                yield from self._meet(seen, time_s)
        for track, visit in list(self._visits.items()):
            self.longest_s = max(self.longest_s, visit.last_s - visit.since_s)
            if time_s - visit.last_s > LEAVE_S:
                yield self._dismiss(track, visit)

    def to_json(self) -> JsonObject:
        """Objects inside now, and what happened since the start."""
        return {"inside": self.inside.total(), "entered": self.entered, "longest_s": round(self.longest_s, 2)}

    def _meet(self, seen: Seen, time_s: float) -> Iterator[Event]:
        visit = self._visits.get(seen.track)
        if visit is not None and time_s - visit.last_s <= LEAVE_S:
            visit.last_s = time_s
            return
        if visit is not None:
            yield self._dismiss(seen.track, visit)
        self._visits[seen.track] = _Visit(class_id=seen.class_id, since_s=time_s, last_s=time_s)
        self.entered += 1
        yield Event(kind="entered", name=self.zone.name, class_id=seen.class_id, track=seen.track, time_s=time_s)

    def _dismiss(self, track: int, visit: _Visit) -> Event:
        del self._visits[track]
        dwell_s = visit.last_s - visit.since_s
        return Event(
            kind="left",
            name=self.zone.name,
            class_id=visit.class_id,
            track=track,
            time_s=visit.last_s,
            dwell_s=round(dwell_s, 2),
        )


def contains(points: Sequence[Point], at: Point) -> bool:
    """Whether a point lies in a polygon (even-odd rule)."""
    x, y = at
    is_inside = False
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            is_inside = not is_inside
    return is_inside


def _side(line: Line, at: Point) -> float:
    """Distance of a point from the endless line: positive on the right, looking from start to end."""
    along = (line.end[0] - line.start[0], line.end[1] - line.start[1])
    length = (along[0] ** 2 + along[1] ** 2) ** 0.5
    # y grows downwards, so this cross product is positive on the right.
    return (along[0] * (at[1] - line.start[1]) - along[1] * (at[0] - line.start[0])) / length


def _crosses(line: Line, before: Point, after: Point) -> bool:
    """Whether the way between two points, neither on the line, goes through it and not past its ends."""
    first, second = _side(line, before), _side(line, after)
    if (first > 0) == (second > 0):
        return False
    path = Line(name="", start=before, end=after)
    return _side(path, line.start) * _side(path, line.end) <= 0
