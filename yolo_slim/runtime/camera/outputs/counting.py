"""Counts of lines and zones as an output: every shown frame goes in, counts and events come out."""

from __future__ import annotations

import threading
from collections.abc import Callable

from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.outputs.layout import Layout
from yolo_slim.runtime.camera.outputs.record import slim_detections
from yolo_slim.runtime.camera.outputs.worker import Faults, Say
from yolo_slim.runtime.camera.outputs.zones import Event, LineCounter, ZoneCounter, check_countable, seen_in

Listener = Callable[[Event], object]


class Counting:
    """The counters of a layout. Frames come from one thread; another one may ask for counts or change the layout."""

    def __init__(self, layout: Layout, say: Say, *, is_tracked: bool) -> None:
        """Begin at zero.

        Raises:
            SlimError: there are lines, and nothing is tracked.
        """
        self.faults = Faults("Counting", say)
        self._is_tracked = is_tracked
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._layout = Layout()
        self._lines: tuple[LineCounter, ...] = ()
        self._zones: tuple[ZoneCounter, ...] = ()
        self.change(layout)

    @property
    def layout(self) -> Layout:
        """What is counted now."""
        return self._layout

    def change(self, layout: Layout) -> None:
        """Count other lines and zones; those that stay as they are keep their counts.

        Raises:
            SlimError: there are lines, and nothing is tracked.
        """
        check_countable(layout, is_tracked=self._is_tracked)
        with self._lock:
            is_same_anchor = layout.anchor == self._layout.anchor
            lines = {one.line: one for one in self._lines if is_same_anchor}
            zones = {one.zone: one for one in self._zones if is_same_anchor}
            self._lines = tuple(lines.get(line) or LineCounter(line) for line in layout.lines)
            self._zones = tuple(zones.get(zone) or ZoneCounter(zone=zone) for zone in layout.zones)
            self._layout = layout

    def on_event(self, listener: Listener) -> None:
        """Call a function, which must not block, with every event."""
        self._listeners.append(listener)

    def shown(self, shown: Shown) -> None:
        """Count a frame."""
        with self.faults.counted():
            for event in self._events(shown):
                for listener in self._listeners:
                    listener(event)

    def counts(self) -> JsonObject:
        """``lines`` and ``zones`` by name."""
        with self._lock:
            return {
                "lines": {one.line.name: one.to_json() for one in self._lines},
                "zones": {one.zone.name: one.to_json() for one in self._zones},
            }

    def by_name(self) -> JsonObject:
        """The same counts in one object: no line has the name of a zone."""
        counts = self.counts()
        return {**counts["lines"], **counts["zones"]}

    def close(self) -> None:
        """Nothing to free."""

    def _events(self, shown: Shown) -> list[Event]:
        size = (shown.frame.image.shape[0], shown.frame.image.shape[1])
        with self._lock:
            objects = seen_in(slim_detections(shown), shown.track_ids, size, self._layout.anchor)
            time_s = shown.frame.captured_s
            crossed = [event for one in self._lines for event in one.update(objects, time_s)]
            return crossed + [event for one in self._zones for event in one.update(objects, time_s)]
