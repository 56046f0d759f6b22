"""Where FPS is measured: a bundle timed on this machine.

Warm-up, then at least ``min_queries`` frames and at least ``min_seconds``. Every sample is kept and none is removed. A
run during which the machine was throttled, or other programs used its cores, is marked invalid, with the reasons. A
machine that isn't what the bundle requires, for example in another power mode, is named in the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.machine import MachineState, describe_machine, heat_reasons, peak_memory_mb, throttle_reasons
from yolo_slim.runtime.arguments import MAX_BENCH_IMAGES
from yolo_slim.runtime.breakdown import Breakdown
from yolo_slim.runtime.cold_start import ColdStart
from yolo_slim.runtime.load import Load, busy_reasons, load_since, start
from yolo_slim.runtime.machine_check import unmet
from yolo_slim.runtime.readings import Extremes, Range, Watch
from yolo_slim.runtime.selfcheck import FOLDER
from yolo_slim.runtime.sources import Skipped, frames
from yolo_slim.runtime.sustained import Sustained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.bundle import Bundle, BundleSpec
    from yolo_slim.runtime.detector import Detector, StageTimes

BENCH_SCHEMA = 1
STAGES = ("pre", "infer", "post", "total")
MAX_IMAGE_BYTES = 128 * 2**20
"""Decoded images of this size are enough: they count in the process's memory, which a profile may limit."""
PAUSE_S = 5.0
"""Wait before a busy machine is timed again: most disturbances are short."""
UNMET = "unmet_requirements"
"""Key of ``machine`` in a result: what the bundle requires and this machine isn't."""
SPREAD_PARTS = 10
FPS_MEANS = "1000 / median end-to-end latency in ms (pre + infer + post; reading the frame is not included)"


class Disturbed(Protocol):
    """A timing that other programs may have spoiled."""

    @property
    def is_disturbed(self) -> bool:
        """Whether they did."""


Timing = TypeVar("Timing", bound=Disturbed)


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
    load: Load
    """What else used the cores in between."""
    p50_spread_ms: Range
    """Smallest and largest median latency of ten equal parts of the run, milliseconds."""
    sensors: Extremes
    """Smallest and largest temperature, clocks and power, before, during and after the run."""
    peak_memory_mb: float | None
    """Peak resident memory of this process, megabytes."""
    invalid_reasons: tuple[str, ...]
    """Why the run doesn't count; empty: it counts."""
    cold_start: ColdStart | None = None
    """How long the process took until its first detection; None: it had run before."""
    sustained: Sustained | None = None
    """A run of minutes; None: not asked for."""
    breakdown: Breakdown | None = None
    """Where the time of a frame goes; None: not asked for."""

    @property
    def is_valid(self) -> bool:
        """Return whether the run counts."""
        return not self.invalid_reasons

    @property
    def is_disturbed(self) -> bool:
        """Return whether other programs had the cores that the run needed."""
        return bool(busy_reasons(self.load)) or (self.sustained is not None and self.sustained.is_disturbed)

    def with_sustained(self, found: Sustained) -> BenchResult:
        """Add a run of minutes; what spoiled it spoils the whole."""
        reasons = [f"in the sustained run: {reason}" for reason in found.invalid_reasons]
        return replace(
            self,
            sustained=found,
            peak_memory_mb=peak_memory_mb(),
            invalid_reasons=(*self.invalid_reasons, *reasons),
        )

    def to_json(self) -> JsonObject:
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
    """Time a detector on images, one after another and again from the first.

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
    # The first frames pay for allocations, caches and clocks that rise.
    for index in range(warmup):
        detector.detect(images[index % len(images)])
    threads = detector.describe().threads  # a GPU needs one, whatever the bundle says
    watch = Watch()
    before, begin = watch.read(), start()
    times, seconds = _timed(detector, images, watch, min_queries, min_seconds)
    # The load ends here: reading the sensors starts programs such as vcgencmd.
    load, after = load_since(begin, threads), watch.read()
    samples = {stage: [getattr(sample, f"{stage}_ms") for sample in times] for stage in STAGES}
    stages = {stage: summarize(values) for stage, values in samples.items()}
    spec = detector.bundle.spec
    return BenchResult(
        schema=BENCH_SCHEMA,
        bundle={key: getattr(spec, key) for key in ("name", "target", "runtime", "precision", "imgsz")},
        runtime=detector.describe().to_json(),
        machine=_machine(spec),  # looked at after timing: it starts programs such as nvpmodel
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
        load=load,
        p50_spread_ms=spread(samples["total"]),
        sensors=watch.extremes(),
        peak_memory_mb=peak_memory_mb(),
        invalid_reasons=(
            *throttle_reasons(before, after, watch.states[1:-1]),
            *_heat_reasons(before, after, watch.extremes(), max_celsius),
            *busy_reasons(load),
        ),
    )


def repeated(time_once: Callable[[], Timing], repeats: int, pause: Callable[[float], object] = time.sleep) -> Timing:
    """Time again, up to ``repeats`` times, while other programs disturb the timing; the last timing is the answer."""
    result = time_once()
    for _ in range(repeats):
        if not result.is_disturbed:
            break
        pause(PAUSE_S)
        result = time_once()
    return result


def bench_images(bundle: Bundle, source: Path | None, skipped: Skipped) -> list[NDArray[np.uint8]]:
    """The frames to time: the first of an image, folder or video, else the bundle's self-check images.

    Raises:
        SlimError: nothing there, or nothing readable in it.
    """
    if source is None and not (bundle.folder / FOLDER).is_dir():
        raise SlimError("The bundle has no self-check images to time.", remedy="Give images with --images.")
    images: list[NDArray[np.uint8]] = []
    # The self-check's other files belong there, so they aren't noted.
    found = frames(source, skipped, convert_channels=True) if source else frames(bundle.folder / FOLDER, Skipped())
    for _, image in islice(found, MAX_BENCH_IMAGES):
        images.append(image)
        # Checked after an image is added, so that one image above the limit can still be timed.
        if sum(one.nbytes for one in images) >= MAX_IMAGE_BYTES:
            break
    return images


def summarize(samples_ms: Sequence[float]) -> Latency:
    """Mean and percentiles (linear interpolation) of all samples."""
    p50, p90, p99 = (float(value) for value in np.percentile(samples_ms, [50, 90, 99]))
    return Latency(mean_ms=float(np.mean(samples_ms)), p50_ms=p50, p90_ms=p90, p99_ms=p99)


def spread(samples_ms: Sequence[float]) -> Range:
    """The smallest and largest median of :data:`SPREAD_PARTS` equal parts of a run, in order."""
    parts = [part for part in np.array_split(np.asarray(samples_ms), SPREAD_PARTS) if len(part)]
    medians = [float(np.median(part)) for part in parts]
    return Range(lowest=min(medians), highest=max(medians))


def _timed(
    detector: Detector, images: Sequence[Any], watch: Watch, min_queries: int, min_seconds: float
) -> tuple[list[StageTimes], float]:
    """Every sample, and the seconds taken."""
    times: list[StageTimes] = []
    start = time.perf_counter()
    # Both least numbers must be reached: few slow frames are too few, many fast ones are over before clocks settle.
    while len(times) < min_queries or time.perf_counter() - start < min_seconds:
        image = images[len(times) % len(images)]
        if watch.read_if_due():
            detector.detect(image)  # after the pause caches are cold, as before the warm-up: not counted
        times.append(detector.timed(image)[1])
    return times, time.perf_counter() - start


def _machine(spec: BundleSpec) -> dict[str, object]:
    """The machine's facts; with what it should be and isn't, only where there is such a thing."""
    reasons = unmet(spec)
    return {**describe_machine(), **({UNMET: list(reasons)} if reasons else {})}


def _heat_reasons(before: MachineState, after: MachineState, seen: Extremes, max_celsius: float | None) -> list[str]:
    reasons = heat_reasons(before, after, max_celsius)
    if max_celsius is None or reasons or not seen.celsius or seen.celsius.highest <= max_celsius:
        return reasons
    return [f"{seen.celsius.highest:.1f} C during the run, above {max_celsius:g} C"]
