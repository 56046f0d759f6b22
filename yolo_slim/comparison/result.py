"""What ``compare.json`` contains, as typed values. docs/compare.md explains every key.

``to_json`` and ``from_json`` are the only places that know the file's keys; pages, texts and plots read attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from yolo_slim.comparison.frontier import Judgement
from yolo_slim.comparison.migration import SCHEMA, migrated
from yolo_slim.devices.answers import Bench
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, read_json
from yolo_slim.measuring.rounds import round_ratios

KIND = "comparison"
MEASURED, FAILED, NOT_POSSIBLE = "measured", "failed", "not possible"
"""Status of a method at one size."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """The checkpoint that everything starts from."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """The device profile."""

    name: str
    description: str
    is_this_machine: bool
    """Where false, speed on the target is unproven."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The images that mAP is measured on."""

    yaml: str
    split: str
    images: int


@dataclass(frozen=True, kw_only=True)
class SharedTraining:
    """The training that every trained network gets."""

    epochs: int
    batch: int
    distill: float
    """Weight of the distillation from the control; 0: none."""
    overrides: Mapping[str, Any]
    images_seen: int


@dataclass(frozen=True, kw_only=True)
class About:
    """What was compared on what, known before anything is measured."""

    name: str
    command: str
    model: ModelFile
    target: Target
    data: Scored
    settings: Mapping[str, Any]
    """Everything that must be equal for networks to be imported, by dotted keys."""
    imgsz: int
    """Input side in pixels of all methods but ``small-input``."""
    training: SharedTraining
    runtimes: tuple[str, ...]
    """Builds that are compared; the first one decides the verdict."""
    machine: Mapping[str, Any]
    """The device that scored and timed the bundles."""
    budget_ms: float | None = None
    """Milliseconds of a frame that ours was cut to; None: all were cut to shares of the MACs."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy of one network in one runtime."""

    map50_95: float
    map50: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where, when and how a network was trained."""

    machine: str
    finished_at: str
    seconds: float | None
    """None where it was interrupted and resumed, because only the last part is known."""
    mixed_precision: bool | None
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One network of a method at one size."""

    seed: int | None
    """None where nothing is random."""
    macs: int
    """Of the network that was trained."""
    cut_macs: int
    """Of its cut on this machine; differs from ``macs`` only where the network is imported."""
    scores: Mapping[str, Score]
    """By runtime."""
    timed: Mapping[str, str]
    """Runtime to the name of the timing that stands for this network."""
    folder: str
    made: Training | None
    """None where it isn't trained."""
    imported: bool
    """It was trained for an earlier comparison."""


@dataclass(frozen=True, kw_only=True)
class MissingSeed:
    """A seed that gave no figures where others did."""

    seed: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """mAP50-95 over the seeds."""

    mean: float
    lowest: float
    highest: float
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A timing end to end, without its raw samples, which are in timing/timing.json."""

    fps: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    round_p50_ms: tuple[float, ...]
    """Median of every round."""
    round_network_p50_ms: tuple[float, ...]
    """The same without post-processing."""
    queries: int
    seconds: float
    valid: bool
    invalid_reasons: tuple[str, ...]
    runtime: Mapping[str, Any]
    measured_at: str

    @classmethod
    def of(cls, bench: Bench) -> Timing:
        """Take the statistics out of a timing of several rounds."""
        total = bench.stages.total
        return cls(
            fps=bench.fps,
            mean_ms=total.mean_ms,
            p50_ms=total.p50_ms,
            p90_ms=total.p90_ms,
            p99_ms=total.p99_ms,
            round_p50_ms=bench.round_p50_ms,
            round_network_p50_ms=bench.round_network_p50_ms,
            queries=bench.queries,
            seconds=bench.seconds,
            valid=bench.is_valid,
            invalid_reasons=bench.invalid_reasons,
            runtime=bench.runtime.to_json(),
            measured_at=bench.measured_at,
        )


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """How many times as fast as the control: the median, smallest and largest ratio of the rounds."""

    ratio: float
    lowest: float
    highest: float
    rounds: int
    valid: bool

    @classmethod
    def of(cls, control: Timing, own: Timing) -> Speedup:
        """Compare two timings that were taken in the same rounds."""
        return cls(**asdict(round_ratios(control.round_p50_ms, own.round_p50_ms, valid=control.valid and own.valid)))


@dataclass(frozen=True, kw_only=True)
class RuntimeFigures:
    """A method at one size in one runtime."""

    map50_95: Accuracy | None
    """None where its networks were imported from a comparison without this runtime."""
    bench: Timing | None
    speedup: Speedup | None
    on_frontier: bool
    """No other network is at least as accurate and as fast."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method at one size."""

    method: str
    about: str
    removed: float | None
    """Share of the MACs that was to go; None for a method without sizes."""
    reference: bool
    trained: bool
    distilled: bool
    status: str
    """``measured``, ``not possible`` (there is no such network) or ``failed``."""
    reason: str
    """Why it wasn't measured."""
    implementation: str
    """What really made the network."""
    imgsz: int | None
    macs: int | None
    params: int | None
    macs_removed: float | None
    at_size: bool
    """The MACs are within 3 points of what was asked for."""
    timed_untrained: bool
    """A cut before training was timed, so post-processing is left out of the judgement."""
    seeds: tuple[Seed, ...]
    seeds_missing: tuple[MissingSeed, ...]
    runtimes: Mapping[str, RuntimeFigures]

    @property
    def size(self) -> str:
        """Its size for people, empty where the method has none."""
        return "" if self.removed is None else f"-{self.removed * 100:g} %"

    @property
    def name(self) -> str:
        """Method and size for people."""
        return f"{self.method} {self.size}".strip()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who won, in the runtime that decides."""

    status: str
    text: str
    runtime: str


@dataclass(frozen=True, kw_only=True)
class RuntimeJudgement:
    """Who won in one runtime, and why."""

    status: str
    text: str
    methods: tuple[Judgement, ...]


@dataclass(frozen=True, kw_only=True)
class CompareResult(About):
    """All of ``compare.json``."""

    measured_at: str
    """End of the last timing."""
    methods: tuple[Entry, ...]
    verdict: Verdict
    judgements: Mapping[str, RuntimeJudgement]
    """By runtime."""
    versions: Mapping[str, str]
    notes: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """Give the value of ``compare.json``; without ``budget_ms``, where all were cut to shares of the MACs."""
        value = {"schema": SCHEMA, "kind": KIND, **_results().dump_python(self, mode="json")}
        return {key: item for key, item in value.items() if key != "budget_ms" or item is not None}

    @classmethod
    def from_json(cls, value: Any) -> CompareResult:
        """Read a value of ``compare.json``, also of an older schema.

        Raises:
            ValueError: it isn't one.
        """
        return _results().validate_python(migrated(value))


def load(path: Path) -> CompareResult:
    """Read a ``compare.json``.

    Raises:
        SlimError: it can't be read, or isn't the result of a comparison.
    """
    try:
        return CompareResult.from_json(read_json(path))
    except OSError:
        raise SlimError(f"{path} can't be read.", remedy="Give the compare.json of a comparison.") from None
    except ValidationError as error:
        culprits = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise _no_result(path, culprits) from None
    except ValueError as error:
        raise _no_result(path, [str(error)]) from None


def _no_result(path: Path, culprits: list[str]) -> SlimError:
    return SlimError(
        f"{path} isn't the result of a comparison.",
        culprits=culprits,
        remedy="Give the compare.json that `yolo-slim compare` wrote.",
    )


# Made on first use and once, because pydantic needs a moment for it.
@cache
def _results() -> TypeAdapter[CompareResult]:
    """Checks and converts values of ``compare.json``."""
    return TypeAdapter(CompareResult)
