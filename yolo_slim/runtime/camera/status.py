"""What state the camera is in, and how old a frame may be before it no longer counts as live. Pure: times are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "live", "stale", "lost", "ended", "paused"]
"""connecting: a source is being opened; live: frames arrive; stale: none did for a while; lost: waiting before the
next try; ended: no more frames will come; paused: on request."""
Phase = Literal["connecting", "open", "lost", "ended"]
"""What the source itself does."""
Freshness = Literal["live", "stale", "grey"]

STALE_AFTER_S = 1.0
"""A newest frame of this age is stale, unless frames come more rarely anyway."""
STALE_INTERVALS = 3
"""So many intervals between frames without one, where that is longer."""
GREY_TIMES = 3
"""A picture is shown grey from so many times the age at which it is stale."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The camera's state for people."""

    state: State
    reason: str = ""
    """Why, where it isn't live."""
    next_try_s: float | None = None
    """Seconds until the source is opened again; None: nothing waits for it."""


@dataclass(frozen=True, kw_only=True)
class SourceStatus:
    """What the source does and why. Times are on the clock of the frames."""

    phase: Phase = "connecting"
    reason: str = ""
    next_try_at_s: float | None = None
    opened_s: float | None = None
    """When its first frame arrived, since it was opened last."""


def freshness(age_s: float | None, interval_s: float | None, stale_after_s: float = STALE_AFTER_S) -> Freshness:
    """Whether a picture may be shown as live.

    Args:
        age_s: seconds since its frame was captured; None: there is no picture yet.
        interval_s: usual seconds between two shown frames; None: unknown.
        stale_after_s: least age of a stale picture.
    """
    limit = max(stale_after_s, STALE_INTERVALS * (interval_s or 0.0))
    if age_s is None or age_s < limit:
        return "live"
    return "stale" if age_s < GREY_TIMES * limit else "grey"


def status_of(source: SourceStatus, age: Freshness, *, is_paused: bool, now_s: float) -> Status:
    """The camera's state; a source that is gone counts more than a pause, and a pause more than an old picture."""
    if source.phase != "open":
        wait_s = None if source.next_try_at_s is None else max(source.next_try_at_s - now_s, 0.0)
        return Status(state=source.phase, reason=source.reason, next_try_s=wait_s)
    if is_paused:
        return Status(state="paused", reason="Paused on request.")
    if age == "live":
        return Status(state="live")
    return Status(state="stale", reason="The source is open, but no new frame was shown.")


def back_off_s(steps: tuple[float, ...], failures: int) -> float:
    """Seconds before the next try after so many failures in a row; the last step is used again and again."""
    return steps[min(max(failures, 1), len(steps)) - 1]
