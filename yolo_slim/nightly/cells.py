"""The cells of one night: each is measured beside its reference and recorded, once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from yolo_slim.build_key import BuildName
from yolo_slim.errors import DeviceGone, SlimError, StorageError, explain_os_error, os_errors_explained
from yolo_slim.files import sha256_json, write_text
from yolo_slim.history.judge import speed_rule
from yolo_slim.history.rows import Accuracy, Cell, Measurement, Night, Run, Speed, State
from yolo_slim.history.statistics import compare_speed, is_decided
from yolo_slim.history.store import MATCHES, RESULT, TIMING, History, now
from yolo_slim.nightly.bundles import KeptBundles
from yolo_slim.nightly.chain import Chain
from yolo_slim.nightly.environment import environment_of
from yolo_slim.nightly.matrix import Matrix, Plan
from yolo_slim.nightly.measure import Measured, Meter
from yolo_slim.nightly.references import reference_run
from yolo_slim.progress import Progress
from yolo_slim.verdict.result import ClassAccuracy

COMPARISONS = 2
"""Comparisons of one cell: speed and accuracy."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Work:
    """One cell whose bundle is made."""

    chain: Chain
    build: BuildName

    @property
    def cell(self) -> Cell:
        """What it is called in the history."""
        return self.chain.plan.cell(self.build)

    @property
    def name(self) -> str:
        """The cell's name."""
        return self.cell.name


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Measures and records the cells of one night."""

    history: History
    night: Night
    matrix: Matrix
    bundles: KeptBundles
    progress: Progress
    against: str | None

    def is_recorded(self, cell: Cell) -> bool:
        """Whether the night has the cell already."""
        return bool(self.history.runs(night=self.night.number, cell=cell.name))

    def missing(self, plan: Plan) -> bool:
        """Whether a cell of a plan isn't recorded yet."""
        return not all(self.is_recorded(plan.cell(build)) for build in plan.builds)

    def measure(self, work: Work, meter: Meter) -> None:
        """Measure a cell and record it.

        Raises:
            SlimError: the bundle doesn't exist, or the device can't run it.
            StorageError: the history or the bundle can't be written.
        """
        cell = work.cell
        candidate = work.chain.bundle(work.build)
        before = reference_run(self.history, cell.name, self.against)
        reference = self.bundles.find(before.digests.bundle) if before and before.digests else None
        # Kept before it is recorded: a history never names a bundle that was not there.
        self.bundles.keep(candidate)
        found = meter.measure(candidate, reference, self._is_decided, cell.name)
        measurement = _measurement(found, work.chain, meter)
        run = self._run(cell, "measured", reference=before.uid if before else None).model_copy(
            update={
                "measurement": measurement,
                "digests": work.chain.digests(work.build),
                "environment": environment_of(found.timing.candidate),
                "settings": work.chain.settings,
                "workstation": work.chain.result.versions,
            }
        )
        payloads = {
            RESULT: work.chain.result.to_json(),
            TIMING: found.timing.to_json(),
            MATCHES: found.matches.to_json(),
        }
        self.history.record(run, payloads)
        rounds = f", {measurement.speed.rounds} rounds" if measurement.shown_speed else ""
        self.progress.say(f"nightly: {cell.name}: {measurement.figures_text}{rounds}")

    def fail(self, cells: Sequence[Cell], error: SlimError, state: State | None = None) -> None:
        """Record why cells have no measurement.

        Raises:
            StorageError: the error itself, if it is one: it says nothing of the cells, and they are measured later.
        """
        if isinstance(error, StorageError):
            raise error
        state = state or ("missing" if isinstance(error, DeviceGone) else "failed")
        for cell in cells:
            self.progress.say(f"nightly: {cell.name}: {state}: {error.fact}")
            self.history.record(self._run(cell, state).model_copy(update={"error": str(error)}), {})

    def _run(self, cell: Cell, state: State, reference: str | None = None) -> Run:
        # The same cell of the same night has the same uid, however often it is tried.
        uid = sha256_json([self.night.uid, cell.name])[:32]
        return Run(uid=uid, night=self.night.number, cell=cell, state=state, recorded_at=now(), reference=reference)

    def _is_decided(self, reference_ms: list[float], candidate_ms: list[float]) -> bool:
        found = compare_speed(reference_ms, candidate_ms, speed_rule(self.matrix.config))
        return is_decided(found, self.matrix.config.gates.false_alarms, COMPARISONS * len(self.matrix.cells))


def attempt(work: Callable[[T], R], of: T, log: Path | None = None) -> R:
    """Do one cell's work; whatever goes wrong is an error that can be recorded.

    Raises:
        SlimError: anything that ``work`` raises; a surprise leaves its traceback in ``log``.
    """
    try:
        return work(of)
    except SlimError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (explained := explain_os_error(error, log or Path.cwd())):
            raise explained from error
        if log is not None:
            with os_errors_explained(log):
                log.parent.mkdir(exist_ok=True)
                write_text(log, traceback.format_exc())
        raise SlimError(
            f"{type(error).__name__}: {error}", remedy=f"The traceback is in {log}." if log else ""
        ) from error


def _measurement(found: Measured, chain: Chain, meter: Meter) -> Measurement:
    """The figures of one cell, without the samples behind them."""
    latency, timing = found.timing.candidate.stages.total, found.timing
    reference = timing.reference
    reasons = dict.fromkeys((*timing.candidate.invalid_reasons, *(reference.invalid_reasons if reference else ())))
    accuracy = found.accuracy
    return Measurement(
        accuracy=Accuracy(
            map50_95=accuracy.map50_95,
            map50=accuracy.map50,
            per_class={class_id: ClassAccuracy(**one) for class_id, one in accuracy.per_class.items()},
            names=dict(meter.names),
            images=len(meter.images.paths),
            boxes=meter.images.boxes,
        ),
        speed=Speed(
            p50_ms=latency.p50_ms,
            p90_ms=latency.p90_ms,
            p99_ms=latency.p99_ms,
            fps=timing.candidate.fps,
            rounds=len(timing.candidate.round_p50_ms),
            reference_p50_ms=reference.stages.total.p50_ms if reference else None,
            invalid_reasons=tuple(reasons),
        ),
        size_mb=found.size_mb,
        peak_memory_mb=timing.candidate.peak_memory_mb,
        verdict=chain.result.verdict.status,
    )
