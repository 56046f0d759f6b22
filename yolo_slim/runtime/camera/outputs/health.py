"""Whether a camera serves frames, and whether it hangs: one answer for /health and for the watchdog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from yolo_slim.files import JsonObject

SERVING_S = 5.0
"""Age of the newest frame, in seconds, up to which a camera counts as healthy."""
STUCK_S = 60.0
"""Age above which a camera that believes to have a source hangs: no back-off takes so long."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """A camera at one moment."""

    is_serving: bool
    """A frame came a moment ago, or someone paused the camera, or a file is at its end."""
    is_stuck: bool
    """Nothing comes, and nothing is being done about it: only a new start helps."""
    state: str
    """``connecting``, ``live``, ``stale``, ``lost``, ``ended`` or ``paused``."""
    age_s: float | None
    """Of the newest frame; None: there was none yet."""
    reason: str
    """Why there is none, for people."""

    def to_json(self) -> JsonObject:
        """All fields."""
        return asdict(self)


def health(stats: Mapping[str, object], limit_s: float = SERVING_S) -> Health:
    """What the figures of a camera (``Live.stats().to_json()``) say of its health."""
    state, age = str(stats.get("state", "connecting")), stats.get("age_s")
    age_s = float(age) if isinstance(age, (int, float)) else None
    is_fresh = age_s is not None and age_s <= limit_s
    # In the other states the camera itself opens its source again; a new start would do no better.
    is_stuck = state in ("live", "stale") and age_s is not None and age_s > STUCK_S
    return Health(
        is_serving=state in ("paused", "ended") or (is_fresh and state in ("live", "stale")),
        is_stuck=is_stuck,
        state=state,
        age_s=age_s,
        reason=str(stats.get("reason") or ""),
    )
