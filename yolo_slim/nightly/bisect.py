"""Which of weights, settings, commit, SDK or device moved a cell between two nights: both bundles, measured now.

What moved with the bundle still differs when both bundles are measured on the same device in the same minutes. What
moved with the device doesn't.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import SlimError
from yolo_slim.history.difference import Difference, differences
from yolo_slim.history.judge import accuracy_rule, speed_rule
from yolo_slim.history.rows import Answer, Compared, Run
from yolo_slim.history.statistics import answers, compare_accuracy, compare_speed, device_change, is_decided
from yolo_slim.history.store import History
from yolo_slim.nightly import devices
from yolo_slim.nightly.bundles import KeptBundles
from yolo_slim.nightly.matrix import Matrix, Plan
from yolo_slim.nightly.measure import CANDIDATE, REFERENCE
from yolo_slim.progress import Progress

COMPARISONS = 2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What measuring a cell's two bundles again showed."""

    difference: Difference
    speed: Compared
    accuracy: Compared
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count; empty: it does."""
    device_change: float | None = None
    """How much the device itself moved between both nights; None: not beyond noise, or not known."""

    @property
    def is_of_bundle(self) -> bool:
        """Whether the bundles themselves differ beyond noise."""
        changed: tuple[Answer, ...] = ("worse", "better")
        is_faster_or_slower = self.speed.answer in changed and not self.invalid_reasons
        return is_faster_or_slower or self.accuracy.answer in changed

    @property
    def is_one_bundle(self) -> bool:
        """Whether both nights have the same bundle: then it can't have moved."""
        before, after = self.difference.before.digests, self.difference.after.digests
        return before is not None and after is not None and before.bundle == after.bundle

    @property
    def _device_too(self) -> str:
        """What moved on the device between both nights, where that is known of the reference that both timed."""
        if self.device_change is None or not self.difference.moved.environment:
            return ""
        what = "; ".join(self.difference.moved.environment)
        return f". The device moved too, by {self.device_change:+.1%} of the reference's latency: {what}"

    @property
    def conclusion(self) -> str:
        """One sentence: what moved the cell."""
        moved, before, after = self.difference.moved, self.difference.before, self.difference.after
        made = [*moved.weights, *moved.settings]
        if self.is_one_bundle:
            what = "; ".join(moved.environment)
            return "both nights have the same bundle, " + (
                f"so the device moved: {what}" if what else "and nothing that is recorded of the device differs"
            )
        if self.is_of_bundle:
            what = "; ".join(made) or "the code that made it (compare the commits of both nights)"
            return f"the bundle moved, and differs now too: {what}{self._device_too}"
        if self.invalid_reasons:
            return f"unknown: the timing doesn't count: {'; '.join(self.invalid_reasons)}"
        if self.speed.answer == self.accuracy.answer == "same":
            what = (
                "; ".join(moved.environment)
                or f"nothing that is recorded of the nights {before.night} and {after.night}"
            )
            return f"the bundles are the same now, so the device moved: {what}"
        return "unknown: the noise is larger than the difference; give more timing.rounds"


def device_change_between(before: Run, after: Run, smallest: float) -> float | None:
    """How much the same reference's latency moved between two nights, where that is a change of the device.

    None: by less than the fraction ``smallest``, or a night timed no reference, another one, or while the timing
    didn't count.
    """
    if before.measurement is None or after.measurement is None:
        return None
    speeds = [before.measurement.speed, after.measurement.speed]
    if any(speed.invalid_reasons for speed in speeds):
        return None
    # The reference of the later night may be the earlier night's own run, as in a baseline's first night.
    is_own = after.reference == before.uid
    old, new = speeds[0].p50_ms if is_own else speeds[0].reference_p50_ms, speeds[1].reference_p50_ms
    is_same = is_own or (before.reference is not None and before.reference == after.reference)
    if not (is_same and old and new):
        return None
    change, changed = device_change([old], new, smallest)
    return change if changed else None


def bisect(
    matrix: Matrix, history: History, before: int, after: int, patterns: Sequence[str], progress: Progress
) -> list[Finding]:
    """Measure both nights' bundles of every cell again, in turns.

    Raises:
        SlimError: no such nights or cells; data that changed; a bundle or a device that is gone.
    """
    found = differences(history, before, after, patterns)
    return [_finding(matrix, one, progress) for one in found]


def _finding(matrix: Matrix, difference: Difference, progress: Progress) -> Finding:
    name = difference.after.cell.name
    if difference.moved.incomparable:
        raise SlimError(f"{name}: {difference.moved.incomparable}.", remedy="Choose two nights on the same data.")
    plan = next((one for one in matrix.plans for build in one.builds if one.cell(build).name == name), None)
    if plan is None:
        remedy = "Choose cells that are: yolo-slim nightly bisect FILE BEFORE AFTER CELL."
        raise SlimError(f"{name} isn't in the matrix any more.", remedy=remedy)
    return _measured(matrix, plan, difference, progress)


def _measured(matrix: Matrix, plan: Plan, difference: Difference, progress: Progress) -> Finding:
    """Detect with both bundles and time them in turns, on the device of the plan."""
    bundles = [_bundle(matrix, run) for run in (difference.before, difference.after)]
    name, config, rule = difference.after.cell.name, matrix.config, speed_rule(matrix.config)
    device = devices.open_device(plan)
    try:
        # A folder a plan: two of them may score other images.
        links = matrix.project / "bisect" / plan.name.replace("/", "-")
        meter = devices.meter_of(plan, device, matrix, links, progress)
        placed = {key: meter.place(bundle) for key, bundle in zip((REFERENCE, CANDIDATE), bundles, strict=True)}
        old, new = (meter.matches(meter.detect(placed[key], f"{key} of {name}")) for key in placed)

        def enough(reference_ms: list[float], candidate_ms: list[float]) -> bool:
            return is_decided(compare_speed(reference_ms, candidate_ms, rule), config.gates.false_alarms, COMPARISONS)

        timing = meter.time(placed, enough, name)
    finally:
        device.close()
    assert timing.reference is not None  # Both bundles are timed.
    found = [
        compare_speed(timing.reference.round_p50_ms, timing.candidate.round_p50_ms, rule),
        compare_accuracy(old, new, accuracy_rule(config)),
    ]
    speed, accuracy = (
        one.model_copy(update={"answer": answer})
        for one, answer in zip(found, answers(found, config.gates.false_alarms), strict=True)
    )
    reasons = dict.fromkeys((*timing.reference.invalid_reasons, *timing.candidate.invalid_reasons))
    return Finding(
        difference=difference, speed=speed, accuracy=accuracy, invalid_reasons=tuple(reasons),
        device_change=device_change_between(difference.before, difference.after, config.gates.device_change),
    )  # fmt: skip


def _bundle(matrix: Matrix, run: Run) -> Path:
    """The kept bundle of a run."""
    found = KeptBundles(folder=matrix.project / "bundles").find(run.digests.bundle) if run.digests else None
    if found is None:
        raise SlimError(
            f"The bundle of night {run.night} of {run.cell.name} is gone.",
            remedy="Choose a later night; keep_nights in the matrix says how many nights' bundles are kept.",
        )
    return found
