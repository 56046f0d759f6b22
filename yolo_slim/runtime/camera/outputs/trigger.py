"""When something is worth a clip: a class was seen long enough, in the whole picture or in a zone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolo_slim.runtime.camera.outputs.layout import Zone
from yolo_slim.runtime.camera.outputs.zones import Seen, contains


@dataclass(frozen=True, kw_only=True)
class TriggerSettings:
    """What starts a clip."""

    class_ids: frozenset[int]
    """Any of these; empty: nothing does."""
    zone: Zone | None = None
    """Only with the anchor point in it."""
    least_s: float = 0.5
    """Seconds that something must be seen: a single wrong box starts nothing."""
    gap_s: float = 1.0
    """Seconds without it, after which it counts as gone, and may start another clip."""


class Trigger:
    """Fires once for every stay of something."""

    def __init__(self, settings: TriggerSettings) -> None:
        self._settings = settings
        self._since_s: float | None = None
        self._last_s = 0.0
        self._has_fired = False

    def update(self, objects: Sequence[Seen], time_s: float) -> bool:
        """Whether a clip begins with this frame."""
        if self._since_s is not None and time_s - self._last_s > self._settings.gap_s:
            self._since_s, self._has_fired = None, False
        if not any(self._matters(seen) for seen in objects):
            return False
        self._since_s = time_s if self._since_s is None else self._since_s
        self._last_s = time_s
        fires = not self._has_fired and time_s - self._since_s >= self._settings.least_s
        self._has_fired = self._has_fired or fires
        return fires

    def _matters(self, seen: Seen) -> bool:
        zone = self._settings.zone
        return seen.class_id in self._settings.class_ids and (zone is None or contains(zone.points, seen.at))
