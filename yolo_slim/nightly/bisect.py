"""Which of commit, weights, settings, data, SDKs or device moved a cell between two nights: both bundles, measured now.

What moved with the bundle still differs when both bundles are measured on the same device in the same minutes. What
moved with the device doesn't; but the device is blamed only where something that both nights measured alike shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.history.difference import paired
from yolo_slim.history.judge import accuracy_rule, speed_rule
from yolo_slim.history.moved import moved_between
from yolo_slim.history.rows import Compared, Run, Source
from yolo_slim.history.statistics import answers, compare_accuracy, compare_speed, device_change, is_decided
from yolo_slim.history.store import History
from yolo_slim.measuring.matches import Matches
from yolo_slim.nightly import devices
from yolo_slim.nightly.bisect_answer import CHANGED, Finding, MeasuredAgain, Shift
from yolo_slim.nightly.bundles import KeptBundles
from yolo_slim.nightly.cells import COMPARISONS, attempt
from yolo_slim.nightly.matrix import Matrix, Plan
from yolo_slim.nightly.measure import CANDIDATE, REFERENCE
from yolo_slim.progress import Progress

Pair = tuple[Run, Run]
"""A cell in the earlier and in the later night, measured in both."""


def bisect(
    matrix: Matrix, history: History, before: int, after: int, patterns: Sequence[str], progress: Progress
) -> list[Finding]:
    """Measure both nights' bundles of every cell again, in turns. What can't be measured is the answer of its cell.

    Raises:
        SlimError: no such nights or cells.
    """
    found = paired(history, before, after, patterns)
    return [_finding(matrix, history, name, dict(zip((before, after), runs, strict=True)), progress)
            for name, runs in found.items()]  # fmt: skip


def _finding(
    matrix: Matrix, history: History, name: str, runs: Mapping[int, Run | None], progress: Progress
) -> Finding:
    """Answer for one cell."""
    measured = [run for run in runs.values() if run and run.state == "measured" and run.digests]
    if len(measured) < len(runs):
        problem = "; ".join(text for number, run in runs.items() if (text := _missing(number, run)))
        return Finding(cell=name, problem=problem)
    before, after = measured
    sources = history.sources(before, after)
    moved = moved_between(before, after, sources)
    facts = Finding(
        cell=name, moved=moved, not_recorded=_not_recorded(before, after, sources), problem=moved.incomparable,
        is_one_bundle=_bundle(before) == _bundle(after),
    )  # fmt: skip
    if facts.problem:
        return facts
    pair = (before, after)
    try:
        found = attempt(lambda both: _measured(matrix, history, name, both, progress), pair, matrix.log(name))
    except SlimError as error:
        problem = f"{error.fact} {error.remedy}".strip()
        return replace(facts, problem=problem)
    return replace(facts, measured=found)


def _missing(number: int, run: Run | None) -> str:
    """Why a night has no figures of a cell; empty: it has."""
    if run is None:
        return f"night {number} has no such cell"
    return "" if run.state == "measured" else f"night {number} has no figures of it: {run.state}"


def _not_recorded(before: Run, after: Run, sources: Sequence[Source]) -> dict[str, str]:
    """Part to why equal records don't show that it is the same."""
    found = {}
    if all(source.commit is None for source in sources):
        found["commit"] = "not recorded: no repository"
    elif all(source.dirty for source in sources):
        found["commit"] = "the same, with changes in both nights that no commit has"
    if not (before.workstation and after.workstation):
        found["workstation"] = "not recorded"
    return found


def _bundle(run: Run) -> str:
    return run.digests.bundle if run.digests else ""


def _measured(matrix: Matrix, history: History, name: str, runs: Pair, progress: Progress) -> MeasuredAgain:
    """Detect with both bundles and time them in turns, on the device of the cell's plan."""
    plan = _plan(matrix, name)
    bundles = [_kept(matrix, run) for run in runs]
    config, rule = matrix.config, speed_rule(matrix.config)
    device = devices.open_device(plan)
    try:
        # A folder a plan: two of them may score other images.
        links = matrix.project / "bisect" / plan.name.replace("/", "-")
        meter = devices.meter_of(plan, device, matrix, links, progress)
        placed = {key: meter.place(bundle) for key, bundle in zip((REFERENCE, CANDIDATE), bundles, strict=True)}
        matches = [meter.matches(meter.detect(placed[key], f"{key} of {name}")) for key in placed]

        def enough(reference_ms: list[float], candidate_ms: list[float]) -> bool:
            return is_decided(compare_speed(reference_ms, candidate_ms, rule), config.gates.false_alarms, COMPARISONS)

        timing = meter.time(placed, enough, name)
    finally:
        device.close()
    assert timing.reference is not None  # Both bundles are timed.
    speed, accuracy = _answered(matrix, [
        compare_speed(timing.reference.round_p50_ms, timing.candidate.round_p50_ms, rule),
        compare_accuracy(matches[0], matches[1], accuracy_rule(config)),
    ])  # fmt: skip
    reasons = dict.fromkeys((*timing.reference.invalid_reasons, *timing.candidate.invalid_reasons))
    return MeasuredAgain(
        speed=speed, accuracy=accuracy, invalid_reasons=tuple(reasons),
        latency_shift=latency_shift(*runs, config.gates.device_change),
        accuracy_shift=_accuracy_shift(matrix, history, plan, runs, matches),
    )  # fmt: skip


def _answered(matrix: Matrix, found: Sequence[Compared]) -> list[Compared]:
    """Comparisons with their answers, judged together."""
    answered = answers(found, matrix.config.gates.false_alarms)
    return [one.model_copy(update={"answer": answer}) for one, answer in zip(found, answered, strict=True)]


def _plan(matrix: Matrix, name: str) -> Plan:
    plan = next((one for one in matrix.plans for build in one.builds if one.cell(build).name == name), None)
    if plan is None:
        raise SlimError(f"{name} isn't in the matrix any more.", remedy="Put it into the matrix again.")
    return plan


def _kept(matrix: Matrix, run: Run) -> Path:
    """The kept bundle of a run."""
    found = KeptBundles(folder=matrix.bundles).find(_bundle(run))
    if found is None:
        raise SlimError(
            f"The bundle of night {run.night} of {run.cell.name} is gone.",
            remedy="Choose a later night; keep_nights in the matrix says how many nights' bundles are kept.",
        )
    return found


def latency_shift(before: Run, after: Run, smallest: float) -> Shift:
    """How much the same reference's latency moved between two nights.

    Args:
        before: the earlier run.
        after: the later one.
        smallest: a smaller fraction is no change.
    """
    if before.measurement is None or after.measurement is None:
        return Shift(unknown="a night has no timing")
    speeds = [before.measurement.speed, after.measurement.speed]
    if any(speed.invalid_reasons for speed in speeds):
        return Shift(unknown="the timing of a night doesn't count")
    # The reference of the later night may be the earlier night's own run, as in a baseline's first night.
    is_own = after.reference == before.uid
    old, new = speeds[0].p50_ms if is_own else speeds[0].reference_p50_ms, speeds[1].reference_p50_ms
    is_same = is_own or (before.reference is not None and before.reference == after.reference)
    if not (is_same and old and new):
        return Shift(unknown="the nights timed no bundle that is the same in both")
    change, is_changed = device_change([old], new, smallest)
    return Shift(change=change, is_changed=is_changed)


def _accuracy_shift(matrix: Matrix, history: History, plan: Plan, runs: Pair, now: Sequence[Matches]) -> Shift:
    """How much the device moved the accuracy of a bundle that it had in its own night.

    The device is now as in one of both nights, or as in neither: then nothing follows for the time between them.
    """
    recorded = [history.matches(run) for run in runs]
    digest = load_dataset(Path(plan.config.data)).digest
    if any(run.digests is None or run.digests.data != digest for run in runs):
        return Shift(unknown="the images or labels changed since")
    if recorded[0] is None or recorded[1] is None:
        return Shift(unknown="a night has no detections")
    rule = accuracy_rule(matrix.config)
    before, after = _answered(
        matrix, [compare_accuracy(old, new, rule) for old, new in zip(recorded, now, strict=True) if old]
    )
    changed = [one.answer in CHANGED for one in (before, after)]
    if all(changed):
        return Shift(unknown="both bundles detect otherwise now than in their nights")
    return Shift(change=before.change - after.change, is_changed=any(changed))
