"""The camera's figures of the last minute. Fed with events and their times; reads no clock and no machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from statistics import median
from typing import Any

import numpy as np

from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.frame import Shown

WINDOW_S = 60.0
NOW_S = 5.0
"""Window of ``fps_now``, for graphs that must follow."""
INTERVALS = 15
"""Last intervals between frames that say how often one comes. A median: one long stall changes nothing."""
MOST_EVENTS = 6000
"""Kept events of one kind: 100 a second for a minute. Faster sources get a shorter window, never more memory."""


@dataclass(frozen=True, kw_only=True)
class BundleFigures:
    """One bundle's own figures, medians of the last minute; None: it saw no frame."""

    fps: float | None = None
    """Frames per second that it alone could reach: 1000 / median of its end-to-end time."""
    pre_ms: float | None = None
    infer_ms: float | None = None
    post_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the events of the last minute say. Milliseconds; None: there was no event."""

    fps: float = 0.0
    """Frames shown per second: everything from the source to the outputs is in it."""
    fps_now: float = 0.0
    """The same over the last :data:`NOW_S` seconds."""
    source_fps: float = 0.0
    """Frames that the source gave per second."""
    latency_ms: Mapping[str, float | None] = field(default_factory=lambda: {"p50": None, "p99": None})
    """From a frame's arrival to its detections, p50 and p99."""
    queue_age_ms: float | None = None
    """Median age of a frame when the first bundle takes it."""
    dropped_last_minute: int = 0
    """Frames that came and were never looked at, because a newer one was there."""
    bundles: Mapping[str, BundleFigures] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Counts since the start."""

    captured: int = 0
    shown: int = 0
    dropped: int = 0
    """Never looked at, because a newer frame was there."""
    bad: int = 0
    """Frames that aren't images of (H, W, 3) uint8."""
    failed: int = 0
    """Frames that a bundle failed on."""
    callback_errors: int = 0
    """Times that an output failed."""
    lost: int = 0
    """Times that the source was lost."""
    abandoned: int = 0
    """Threads that were left behind in a source that blocked."""
    resized: int = 0
    """Times that the size of the frames changed."""
    refused: int = 0
    """Times that a bundle on disk was new, but damaged."""
    reloaded: int = 0
    """Times that a bundle was replaced while running."""


@dataclass(frozen=True, kw_only=True)
class LiveStats:
    """Everything that the page, the log and the outputs say about the running camera."""

    state: str
    reason: str
    next_try_s: float | None
    """Seconds until the source is opened again."""
    age_s: float | None
    """Seconds since the newest shown frame was captured; None: none was shown yet."""
    freshness: str
    """live, stale or grey: how the newest frame may be shown."""
    uptime_s: float
    source: str
    """Name of the source."""
    figures: Figures
    totals: Totals
    celsius: float | None = None
    cpu_mhz: float | None = None
    """Fastest core."""
    gpu_mhz: float | None = None
    throttled: tuple[str, ...] = ()
    """Why the clocks are limited now; empty: they aren't, or the machine doesn't say."""
    rss_mb: float | None = None
    last_error: str = ""

    def to_json(self) -> JsonObject:
        """One flat object; the median times at the top are the first bundle's. ``dropped``: since the start."""
        figures = asdict(self.figures)
        first: dict[str, Any] = next(iter(figures["bundles"].values()), asdict(BundleFigures()))
        times = {name: {"p50": first[name]} for name in ("pre_ms", "infer_ms", "post_ms")}
        own = {key: value for key, value in asdict(self).items() if key not in ("figures", "totals")}
        totals = asdict(self.totals)
        return {**own, **figures, **times, "throttled": list(self.throttled), "dropped": totals["dropped"],
                "totals": totals}  # fmt: skip

    def as_line(self) -> str:
        """One line for a terminal: ``29.8 FPS, 41 ms, infer 24 ms, 0 dropped, 61 C``."""
        if self.state not in ("live", "stale"):
            return _state_text(self)
        first = next(iter(self.figures.bundles.values()), BundleFigures())
        latency = self.figures.latency_ms.get("p50")
        parts = [f"{self.figures.fps_now:.1f} FPS", *_given("{:.0f} ms", latency)]
        parts += [*_given("infer {:.0f} ms", first.infer_ms), f"{self.totals.dropped} dropped"]
        parts += [*_given("{:.0f} C", self.celsius), *(f"THROTTLED: {reason}" for reason in self.throttled)]
        return ", ".join(([_state_text(self)] if self.state == "stale" else []) + parts)

    def as_summary(self) -> str:
        """Some lines for people when the camera ends."""
        totals, figures = self.totals, self.figures
        each = totals.shown / self.uptime_s if self.uptime_s > 0 else 0.0
        lines = [f"{totals.shown} frames shown in {self.uptime_s:.0f} s, {each:.1f} FPS; {totals.dropped} dropped."]
        p50, p99 = figures.latency_ms.get("p50"), figures.latency_ms.get("p99")
        if p50 is not None and p99 is not None:
            latency = f"from arrival to detections {p50:.0f} ms, p99 {p99:.0f} ms"
            lines.append(f"Last minute: {figures.fps:.1f} FPS, {latency}.")
        for name, own in figures.bundles.items():
            if own.fps is not None:
                lines.append(
                    f"{name}: {own.total_ms:.1f} ms a frame (infer {own.infer_ms:.1f}), enough for {own.fps:.1f} FPS."
                )
        counts = {"source lost": totals.lost, "frames failed": totals.failed, "bad frames": totals.bad,
                  "output errors": totals.callback_errors, "blocked threads": totals.abandoned}  # fmt: skip
        told = [f"{name}: {count}" for name, count in counts.items() if count]
        return "\n".join([*lines, *(["; ".join(told) + "."] if told else [])])


@dataclass(frozen=True)
class _Passed:
    """One shown frame, without its pixels."""

    at_s: float
    captured_s: float
    taken_s: float
    ready_s: float
    dropped: int
    times: Mapping[str, tuple[float, float, float, float]]


class LastMinute:
    """Collects events; one thread may add while others ask."""

    def __init__(self) -> None:
        self._captured: deque[float] = deque(maxlen=MOST_EVENTS)
        self._shown: deque[_Passed] = deque(maxlen=MOST_EVENTS)
        self._first_s: float | None = None
        self._lock = threading.Lock()

    def captured(self, at_s: float) -> None:
        """A frame arrived."""
        with self._lock:
            self._first_s = at_s if self._first_s is None else self._first_s
            self._captured.append(at_s)

    def shown(self, shown: Shown, *, taken_s: float, at_s: float, dropped: int) -> None:
        """A frame was shown.

        Args:
            shown: the frame and its answers.
            taken_s: when the first bundle took it.
            at_s: when every output had it.
            dropped: frames between the one before and this one.
        """
        all_times = {name: answer.times for name, answer in shown.answers.items()}
        times = {name: (one.pre_ms, one.infer_ms, one.post_ms, one.total_ms) for name, one in all_times.items()}
        passed = _Passed(at_s, shown.frame.captured_s, taken_s, shown.ready_s, dropped, times)
        with self._lock:
            self._shown.append(passed)

    def figures(self, now_s: float) -> Figures:
        """The figures of the minute before ``now_s``."""
        with self._lock:
            captured, shown, first_s = tuple(self._captured), tuple(self._shown), self._first_s
        if first_s is None:
            return Figures()
        shown = tuple(one for one in shown if one.at_s > now_s - WINDOW_S)
        times = [one.at_s for one in shown]
        latencies = [(one.ready_s - one.captured_s) * 1e3 for one in shown]
        return Figures(
            fps=_rate(times, now_s, first_s, WINDOW_S),
            fps_now=_rate(times, now_s, first_s, NOW_S),
            source_fps=_rate(captured, now_s, first_s, WINDOW_S),
            latency_ms={"p50": _percentile(latencies, 50), "p99": _percentile(latencies, 99)},
            queue_age_ms=_percentile([(one.taken_s - one.captured_s) * 1e3 for one in shown], 50),
            dropped_last_minute=sum(one.dropped for one in shown),
            bundles={name: _bundle_figures([one.times[name] for one in shown]) for name in _names(shown)},
        )

    @property
    def interval_s(self) -> float | None:
        """Usual seconds between two shown frames: the median of the last few; None: unknown."""
        with self._lock:
            times = [one.at_s for one in islice(reversed(self._shown), INTERVALS + 1)]
        return median(new - old for new, old in pairwise(times)) if len(times) > 1 else None


def _rate(times: Sequence[float], now_s: float, first_s: float, window_s: float) -> float:
    """Events per second of a window, or of the time since the first event or the oldest kept one."""
    start_s = max(now_s - window_s, first_s)
    if len(times) == MOST_EVENTS:
        start_s = max(start_s, times[0])
    count = sum(at_s > now_s - window_s for at_s in times)
    return count / (now_s - start_s) if now_s > start_s else 0.0


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _names(shown: Sequence[_Passed]) -> Sequence[str]:
    """The bundles of the newest frame; all frames have the same ones."""
    return list(shown[-1].times) if shown else []


def _bundle_figures(times: Sequence[tuple[float, float, float, float]]) -> BundleFigures:
    pre, infer, post, total = (float(value) for value in np.median(times, axis=0))
    fps = 1000 / total if total > 0 else None
    return BundleFigures(fps=fps, pre_ms=pre, infer_ms=infer, post_ms=post, total_ms=total)


def _given(text: str, value: float | None) -> list[str]:
    return [] if value is None else [text.format(value)]


def _state_text(stats: LiveStats) -> str:
    parts = [stats.state.upper()]
    if stats.state == "stale" and stats.age_s is not None:
        parts = [f"STALE, {stats.age_s:.0f} s old"]
    # A reason may be a message of several lines.
    parts += [" ".join(stats.reason.split())] if stats.reason and stats.state != "stale" else []
    return ": ".join(parts) + ("" if stats.next_try_s is None else f" (next try in {stats.next_try_s:.0f} s)")
