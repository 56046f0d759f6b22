"""What a device answers, as the host keeps it: a timing of one round or of several put together, and a self-check."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.config.record import OpenRecord, Record, read_record
from yolo_slim.errors import SlimError
from yolo_slim.machine import MachineState
from yolo_slim.runtime.bench import BENCH_SCHEMA, summarize
from yolo_slim.runtime.breakdown import Breakdown
from yolo_slim.runtime.cold_start import ColdStart
from yolo_slim.runtime.load import Load, busy_reasons
from yolo_slim.runtime.readings import Extremes, Range
from yolo_slim.runtime.selfcheck import ImageCheck
from yolo_slim.runtime.sustained import Sustained

SAME_VERSION = "Use the same yolo_slim on the device and here."
NOT_ITS_SPEED = "emulated: a timing says nothing of the device's speed"
"""Why no timing of an emulated device counts. Histories have this text: with another one, old timings would count."""


class DeviceFacts(OpenRecord):
    """A machine. A Jetson has further keys: Linux release, JetPack and power mode."""

    model: str = "not recorded"
    """Model of the board, or of the processor."""
    arch: str = "not recorded"
    """Processor architecture (``uname -m``)."""
    cores: int | None = None
    """Processor cores of the machine."""

    @property
    def runtimes(self) -> dict[str, str]:
        """Python package of a runtime to its version, where the device itself was asked; empty: not recorded."""
        found = (self.model_extra or {}).get("runtimes")
        return found if isinstance(found, dict) else {}


class RuntimeRecord(OpenRecord):
    """What really ran: the runtime with its version and settings. Each runtime adds keys of its own."""

    runtime: str = "not recorded"
    """Name of the runtime."""
    provider: str = "not recorded"
    """Processor or library that computed."""
    threads: int | None = None
    """Inference threads."""


class Latency(Record):
    """Statistics of one stage of a frame, milliseconds."""

    mean_ms: float
    """Mean."""
    p50_ms: float
    """Median."""
    p90_ms: float
    """90th percentile."""
    p99_ms: float
    """99th percentile."""


class StageLatencies(Record):
    """Statistics of every stage. Each has its own percentiles, so they don't add up to those of the total."""

    pre: Latency
    """Pre-processing: decoded image to model input."""
    infer: Latency
    """Inference: model input to raw output."""
    post: Latency
    """Post-processing: raw output to the list of boxes."""
    total: Latency
    """All three. Reading the frame from a camera or a disk is not included."""


def _known(kind: type[Record], value: object) -> dict[str, object]:
    """The keys that a class has; a device may say more."""
    return {key: item for key, item in value.items() if key in kind.model_fields} if isinstance(value, dict) else {}


class StageSamples(Record):
    """The time of every timed frame, in order, milliseconds. No frame is removed."""

    pre: tuple[float, ...]
    """Pre-processing."""
    infer: tuple[float, ...]
    """Inference."""
    post: tuple[float, ...]
    """Post-processing."""
    total: tuple[float, ...]
    """End to end."""

    @classmethod
    def joined(cls, parts: Sequence[StageSamples]) -> StageSamples:
        """Put several rounds one after the other."""
        return cls(**{
            stage: tuple(sample for part in parts for sample in getattr(part, stage)) for stage in cls.model_fields
        })  # fmt: skip

    def latencies(self) -> StageLatencies:
        """Compute the statistics of every stage."""
        found = {stage: Latency(**vars(summarize(samples))) for stage, samples in self}
        return StageLatencies(**found)


class SelfCheck(Record):
    """How a bundle's detections on its own images compare with those of the workstation."""

    images: tuple[ImageCheck, ...]
    """Every image with what differs."""
    unmet_requirements: tuple[str, ...]
    """What the bundle requires of a device and this one hasn't."""
    passed: bool
    """Whether nothing differs and nothing is missing."""

    @classmethod
    def from_device(cls, value: object) -> SelfCheck:
        """Read the JSON value of a :class:`yolo_slim.runtime.selfcheck.CheckReport`.

        Raises:
            SlimError: a damaged value.
        """
        return read_record(cls, _known(cls, value), "The device's self-check", SAME_VERSION)


class Bench(Record):
    """One timing, of one round or of several put together."""

    fps: float
    """Frames per second end to end: 1000 divided by the median of ``stages.total`` in milliseconds."""
    stages: StageLatencies
    """Statistics of every stage."""
    samples_ms: StageSamples
    """The time of every frame, from which they are computed."""
    round_p50_ms: tuple[float, ...]
    """Median end-to-end latency of every round."""
    round_network_p50_ms: tuple[float, ...]
    """The same without post-processing."""
    queries: int
    """Number of timed frames."""
    seconds: float
    """Duration of the timed part."""
    warmup: int
    """Frames that ran before the timed ones, in every round."""
    images: int
    """Number of different images; they are repeated."""
    peak_memory_mb: float | None
    """Peak memory of the process; null: unknown."""
    invalid_reasons: tuple[str, ...]
    """Why the timing doesn't count: throttled, too hot, busy with other programs, ... Empty: it counts."""
    before: MachineState
    """Clocks, temperature and throttling before the timing."""
    after: MachineState
    """The same after it."""
    load: Load | None = None
    """What else used the cores; null: an earlier version timed it and didn't look."""
    p50_spread_ms: Range | None = None
    """Smallest and largest median of ten equal parts of a round, over all rounds, milliseconds; null: not recorded."""
    cold_start: ColdStart | None = None
    """First detection of a new process; of several rounds the one with the median total; null: not measured."""
    sensors: Extremes | None = None
    """Temperature, clocks, power and fan before, during and after the timing; null: not recorded."""
    sustained: Sustained | None = None
    """A run of minutes (``validate.sustained_minutes``), of the winner alone; null: not asked for."""
    breakdown: Breakdown | None = None
    """Where the time of a frame goes, from a run of its own after the timing; null: not asked for."""
    machine: DeviceFacts
    """The machine that was timed."""
    runtime: RuntimeRecord
    """What really ran there."""
    measured_at: str
    """End of the timing, ISO 8601."""

    @property
    def is_valid(self) -> bool:
        """Whether the timing counts."""
        return not self.invalid_reasons

    @property
    def is_emulated(self) -> bool:
        """Whether the device was emulated: then no timing of it can ever count."""
        return NOT_ITS_SPEED in self.invalid_reasons

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs had the cores that the timing needed."""
        if self.sustained is not None and self.sustained.is_disturbed:
            return True
        return self.load is not None and bool(busy_reasons(self.load))

    @classmethod
    def from_device(cls, value: object, source: str = "The device's timing") -> Bench:
        """Read the JSON value of a :class:`yolo_slim.runtime.bench.BenchResult`: one round.

        Raises:
            SlimError: another version's layout, or a damaged value.
        """
        if not isinstance(value, dict) or value.get("schema") != BENCH_SCHEMA:
            found = value.get("schema") if isinstance(value, dict) else None
            raise SlimError(f"{source} has schema {found}, expected {BENCH_SCHEMA}.", remedy=SAME_VERSION)
        # A value of the right schema may still be cut off: then read_record names what is missing.
        try:
            medians = {stage: found["p50_ms"] for stage, found in value["stages"].items()}
            rounds = {
                "round_p50_ms": [medians["total"]],
                "round_network_p50_ms": [medians["pre"] + medians["infer"]],
            }
        except (KeyError, TypeError, AttributeError):
            rounds = {}
        return read_record(cls, {**rounds, **_known(cls, value)}, source, SAME_VERSION)


def tuning_from_json(value: object) -> str:
    """The best setting that a device found, or why it kept none, in one line.

    Raises:
        SlimError: a damaged value.
    """
    try:
        best, gain, reasons = value["best"], float(value["gain"]), value["invalid_reasons"]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise SlimError("The device's answer to tune is damaged or incomplete.", remedy=SAME_VERSION) from None
    if reasons:
        return f"not tuned: {'; '.join(reasons)}"
    return f"{best}, {gain:.2f} times as fast as untuned" if gain > 1 else f"{best}: nothing is faster"
