"""A bundle run for minutes: frames per second over time, and what is left of them at the end.

Memory stays flat, however long the run is. Single frames are kept only of the first and the last half minute. The
others become points of the curve, at most :data:`MAX_POINTS`.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.machine import memory_mb, throttle_reasons, throttled_now
from yolo_slim.runtime.load import Load, load_since, slower_reasons, start, taken_reasons
from yolo_slim.runtime.readings import Extremes, Reading, Watch, watts

if TYPE_CHECKING:
    from yolo_slim.runtime.detector import Detector

WINDOW_S = 30.0
"""Length of the first and the last part, which are compared."""
POINT_S = 5.0
"""Shortest time of one point of the curve."""
MAX_POINTS = 240
"""Most points; a run of more than 20 minutes has longer ones."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One part of a sustained run. Null: the machine doesn't say."""

    seconds: float
    """End of this part since the beginning of the run."""
    frames: int
    """Frames in it."""
    fps: float
    """1000 divided by their median end-to-end latency in milliseconds."""
    p99_ms: float
    """99th percentile of their latency."""
    celsius: float | None
    """Temperature at its end."""
    cpu_mhz: float | None
    """Clock of the fastest core at its end."""
    gpu_mhz: float | None
    """Clock of a Jetson's GPU at its end."""
    watts: float | None
    """Power at its end; where the machine only counts energy, the mean of this part."""
    fan_rpm: float | None
    """Speed of the fastest fan at its end."""
    memory_mb: float | None
    """Memory of the process at its end, megabytes."""
    limits: tuple[str, ...]
    """What limited the clocks at its end."""


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """A run of minutes. Throttling is what it looks for, so throttling alone doesn't make it invalid."""

    seconds: float
    """Duration."""
    frames: int
    """Frames in all."""
    window_s: float
    """Length of the first and the last part that are compared: 30 s, at most half of the run."""
    first_fps: float
    """1000 divided by the median end-to-end latency of the first part in milliseconds."""
    last_fps: float
    """The same of the last part: what a device does that runs all day."""
    retention: float
    """``last_fps`` divided by ``first_fps``."""
    first_ms: tuple[float, ...]
    """End-to-end latency of every frame of the first part, milliseconds."""
    last_ms: tuple[float, ...]
    """The same of the last part."""
    points: tuple[Point, ...]
    """Frames per second, temperature and clocks over time."""
    sensors: Extremes
    """The smallest and largest readings."""
    load: Load
    """What else used the cores."""
    limited_by: tuple[str, ...]
    """What the device did to protect itself: throttled, frequency capped, ... Empty: nothing that it says."""
    invalid_reasons: tuple[str, ...]
    """Why the run doesn't count: other programs had the cores, or the machine became slower and doesn't say why."""

    @property
    def is_disturbed(self) -> bool:
        """Whether something else than the device's own protection decided the figures."""
        return bool(self.invalid_reasons)


@dataclass(kw_only=True)
class Curve:
    """Takes frames in and keeps little of them."""

    window_s: float
    point_s: float
    first_ms: array[float] = field(default_factory=lambda: array("f"))
    last: deque[tuple[float, float]] = field(default_factory=deque)
    points: list[Point] = field(default_factory=list)
    frames: int = 0
    _part: array[float] = field(default_factory=lambda: array("f"))

    def add(self, seconds: float, ms: float) -> None:
        """Take one frame that ended at a moment of the run."""
        self.frames += 1
        self._part.append(ms)
        # A first frame that is longer than the whole part is the first part.
        if seconds <= self.window_s or not self.first_ms:
            self.first_ms.append(ms)
        self.last.append((seconds, ms))
        while self.last[0][0] < seconds - self.window_s:
            self.last.popleft()

    def is_due(self, seconds: float) -> bool:
        """Whether a point is complete."""
        begin = self.points[-1].seconds if self.points else 0.0
        return bool(self._part) and seconds - begin >= self.point_s

    def close_point(self, seconds: float, readings: Sequence[Reading]) -> Point:
        """Make a point of the frames since the last one; the last reading was just made."""
        state = readings[-1].state
        point = Point(
            seconds=seconds,
            frames=len(self._part),
            fps=fps_of(self._part),
            p99_ms=float(np.percentile(self._part, 99)),
            celsius=state.celsius,
            cpu_mhz=max(state.cpu_mhz, default=None),
            gpu_mhz=state.gpu_mhz,
            watts=next(iter(reversed(watts(readings[-2:]))), None),
            fan_rpm=state.fan_rpm,
            memory_mb=memory_mb(),
            limits=tuple(throttled_now(state)),
        )
        self.points.append(point)
        self._part = array("f")
        return point


def sustain(
    detector: Detector,
    images: Sequence[Any],
    seconds: float,
    *,
    on_point: Callable[[Point], object] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Sustained:
    """Run a detector for some time on images, one after another and again from the first.

    Args:
        detector: the loaded bundle, warmed up.
        images: (H, W, 3) uint8 BGR each; at least one.
        seconds: duration.
        on_point: is called with every point of the curve.
        clock: seconds of a clock that only goes forward.
    """
    watch = Watch(clock=clock)
    curve = Curve(window_s=min(WINDOW_S, seconds / 2), point_s=max(min(POINT_S, seconds / 4), seconds / MAX_POINTS))
    threads = detector.describe().threads
    begin = start()
    watch.read()
    begun = clock()
    while (now := clock() - begun) < seconds or not curve.first_ms:
        if curve.is_due(now):
            watch.read()
            on_point(curve.close_point(now, watch.readings))
            detector.detect(images[curve.frames % len(images)])  # after the pause caches are cold: not counted
        ms = detector.timed(images[curve.frames % len(images)])[1].total_ms
        curve.add(clock() - begun, ms)
    load = load_since(begin, threads)
    watch.read()
    if curve.is_due(now + curve.point_s):  # frames that were too few for a point
        on_point(curve.close_point(now, watch.readings))
    return _summary(curve, watch, load, now)


def fps_of(samples_ms: Sequence[float]) -> float:
    """Frames per second: 1000 divided by the median latency in milliseconds."""
    return 1000 / float(np.median(samples_ms))


def _summary(curve: Curve, watch: Watch, load: Load, seconds: float) -> Sustained:
    last_ms = array("f", (ms for _, ms in curve.last))
    first, last = fps_of(curve.first_ms), fps_of(last_ms)
    limited = throttle_reasons(watch.states[0], watch.states[-1], watch.states[1:-1])
    # Throttling explains a slower reference kernel; without it something unknown spoiled the run.
    reasons = [*taken_reasons(load), *([] if limited else slower_reasons(load))]
    return Sustained(
        seconds=seconds,
        frames=curve.frames,
        window_s=curve.window_s,
        first_fps=first,
        last_fps=last,
        retention=last / first,
        first_ms=_rounded(curve.first_ms),
        last_ms=_rounded(last_ms),
        points=tuple(curve.points),
        sensors=watch.extremes(),
        load=load,
        limited_by=tuple(limited),
        invalid_reasons=tuple(reasons),
    )


def _rounded(samples_ms: Sequence[float]) -> tuple[float, ...]:
    # To microseconds: the samples are kept in single precision.
    return tuple(round(ms, 3) for ms in samples_ms)
