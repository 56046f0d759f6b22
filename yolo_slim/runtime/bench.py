"""How fast a bundle is here, measured so that the number can be trusted and checked later.

Warm-up, then at least ``min_queries`` frames and at least ``min_seconds``. Every sample is kept and none is removed. A
run during which the machine was throttled is marked invalid, with the reasons.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.machine import MachineState, describe_machine, peak_memory_mb, read_state, throttle_reasons

if TYPE_CHECKING:
    from yolo_slim.runtime.detector import Detector, StageTimes

BENCH_SCHEMA = 1
STAGES = ("pre", "infer", "post", "total")
FPS_MEANS = "1000 / median end-to-end latency in ms (pre + infer + post; reading the frame is not included)"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Statistics of one stage, milliseconds."""

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One timing run with everything needed to judge it."""

    schema: int
    """Version of this layout."""
    bundle: dict[str, Any]
    """Name, target, runtime, precision, imgsz of the bundle."""
    runtime: dict[str, Any]
    """What really ran: version, provider, threads."""
    machine: dict[str, Any]
    """Device model, CPU, memory, versions."""
    measured_at: str
    """UTC time of the run's end, ISO 8601."""
    warmup: int
    """Frames run and not counted before timing."""
    images: int
    """Distinct frames, taken in turn."""
    queries: int
    """Timed frames."""
    seconds: float
    """Duration of the timed part."""
    stages: dict[str, Latency]
    """Statistics of pre, infer, post and total (end to end)."""
    fps: float
    """Frames per second as ``fps_means`` says."""
    fps_means: str
    """What ``fps`` is."""
    samples_ms: dict[str, list[float]]
    """Every timed frame of every stage, in order."""
    before: MachineState
    """Clocks, temperature and throttling when timing began."""
    after: MachineState
    """The same when it ended."""
    peak_memory_mb: float | None
    """Peak resident memory of this process, megabytes."""
    invalid_reasons: tuple[str, ...]
    """Why the run doesn't count; empty: it counts."""

    @property
    def is_valid(self) -> bool:
        """Return whether the run counts."""
        return not self.invalid_reasons

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value of everything."""
        return {**asdict(self), "valid": self.is_valid}


def bench(
    detector: Detector,
    images: Sequence[Any],
    *,
    warmup: int = 10,
    min_queries: int = 64,
    min_seconds: float = 10.0,
    max_celsius: float | None = None,
) -> BenchResult:
    """Time a detector on images, taken in turn.

    Args:
        detector: the loaded bundle.
        images: (H, W, 3) uint8 BGR each; at least one.
        warmup: frames run and not counted.
        min_queries: least timed frames.
        min_seconds: least duration of the timed part.
        max_celsius: a run that starts or ends hotter is invalid.
    """
    if not images:
        raise SlimError("Nothing to time: no image was given.", remedy="Give at least one image.")
    for index in range(warmup):
        detector.detect(images[index % len(images)])
    before = read_state()
    times, seconds = _timed(detector, images, min_queries, min_seconds)
    after = read_state()
    samples = {stage: [getattr(sample, f"{stage}_ms") for sample in times] for stage in STAGES}
    stages = {stage: summarize(values) for stage, values in samples.items()}
    spec = detector.bundle.spec
    return BenchResult(
        schema=BENCH_SCHEMA,
        bundle={key: getattr(spec, key) for key in ("name", "target", "runtime", "precision", "imgsz")},
        runtime=detector.describe(),
        machine=describe_machine(),
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        warmup=warmup,
        images=len(images),
        queries=len(times),
        seconds=seconds,
        stages=stages,
        fps=1000 / stages["total"].p50_ms,
        fps_means=FPS_MEANS,
        samples_ms=samples,
        before=before,
        after=after,
        peak_memory_mb=peak_memory_mb(),
        invalid_reasons=tuple(throttle_reasons(before, after) + _heat_reasons(before, after, max_celsius)),
    )


def summarize(samples_ms: Sequence[float]) -> Latency:
    """Return mean and percentiles (linear interpolation) of all samples."""
    p50, p90, p99 = (float(value) for value in np.percentile(samples_ms, [50, 90, 99]))
    return Latency(mean_ms=float(np.mean(samples_ms)), p50_ms=p50, p90_ms=p90, p99_ms=p99)


def _timed(
    detector: Detector, images: Sequence[Any], min_queries: int, min_seconds: float
) -> tuple[list[StageTimes], float]:
    """Return every sample, and the seconds taken."""
    times: list[StageTimes] = []
    start = time.perf_counter()
    while len(times) < min_queries or time.perf_counter() - start < min_seconds:
        times.append(detector.timed(images[len(times) % len(images)])[1])
    return times, time.perf_counter() - start


def _heat_reasons(before: MachineState, after: MachineState, max_celsius: float | None) -> list[str]:
    if max_celsius is None:
        return []
    moments = {"before": before.celsius, "after": after.celsius}
    return [
        f"{celsius:.1f} C {moment} the run, above {max_celsius:g} C"
        for moment, celsius in moments.items()
        if celsius is not None and celsius > max_celsius
    ]
