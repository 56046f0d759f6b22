"""What a night says of its cells: each compared with its baseline, all judged together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from yolo_slim.config.nightly import NightlyConfig
from yolo_slim.history.device_changes import slower_or_faster
from yolo_slim.history.moved import CHOICE, PROFILE, Moved, is_other_device, moved_between
from yolo_slim.history.rows import NIGHT, Answer, Compared, Judgement, Night, Run, Status, Timing
from yolo_slim.history.statistics import Rule, answers, compare_accuracy, compare_speed, device_change
from yolo_slim.history.store import History

ORDER: tuple[Answer, ...] = ("unknown", "better", "same")
"""The answer for a cell is the first one that speed or accuracy has, where none became worse."""
FIRST_NIGHT = "first night of this cell"
"""Reason of a baseline that nobody chose."""


NOTHING_MOVED = Moved()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of a night with what it is compared with."""

    run: Run
    baseline: Run | None
    """None: the cell has none yet."""
    is_trial: bool = False
    """Compared with a branch's last night, not with the baseline."""
    speed: Compared | None = None
    """None: not comparable."""
    accuracy: Compared | None = None
    """None: not comparable."""
    status: Status | None = None
    """Why there is no answer, or not a complete one; None: there is one."""
    reason: str = ""
    device_change: float | None = None
    device_changed: bool = False
    moved: Moved = NOTHING_MOVED

    @property
    def reference(self) -> str:
        """Whose bundle tonight's is timed with."""
        return "the bundle of the branch's last night" if self.is_trial else "the baseline's bundle"

    def noting(self, reason: str, status: Status | None = None) -> Case:
        """The same case with one more reason; a status that it has stays."""
        reasons = [self.reason, reason] if self.reason else [reason]
        return replace(self, status=self.status or status, reason="; ".join(reasons))


def speed_rule(config: NightlyConfig) -> Rule:
    """When a cell became slower."""
    gate = config.gates.speed
    return Rule(smallest=gate.smallest, tolerance=gate.tolerance, looks=len(config.timing.rounds))


def accuracy_rule(config: NightlyConfig) -> Rule:
    """When a cell became less accurate."""
    gate = config.gates.accuracy
    return Rule(smallest=gate.smallest, tolerance=gate.tolerance, resamples=gate.resamples)


def judge_night(history: History, night: Night, config: NightlyConfig) -> dict[str, Judgement]:
    """Judge every run of a night, by its ``uid``; everything is read from the history."""
    cases = [case_of(history, night, run, config) for run in history.runs(night=night.number)]
    return judgements(cases, config.gates.false_alarms)


def judgements(cases: Sequence[Case], false_alarms: float) -> dict[str, Judgement]:
    """Answer all comparisons of a night together, so that a false alarm in any cell is as rare as asked for."""
    found = [(case.run.uid, part) for case in cases for part in ("speed", "accuracy") if getattr(case, part)]
    by_uid = {case.run.uid: case for case in cases}
    compared = [getattr(by_uid[uid], part) for uid, part in found]
    answered = {
        key: one.model_copy(update={"answer": answer})
        for key, one, answer in zip(found, compared, answers(compared, false_alarms), strict=True)
    }

    def with_answers(case: Case) -> Case:
        speed, accuracy = (answered.get((case.run.uid, part)) for part in ("speed", "accuracy"))
        return replace(case, speed=speed, accuracy=accuracy)

    return {case.run.uid: _judgement(with_answers(case)) for case in cases}


def case_of(history: History, night: Night, run: Run, config: NightlyConfig) -> Case:
    """Compare a run with its reference, as far as they can be compared."""
    baseline = _baseline_of(history, night, run)
    case = Case(run=run, baseline=baseline, is_trial=night.kind != NIGHT)
    if run.state != "measured":
        return case.noting(run.error or "", run.state)
    if baseline is None:
        return _without_baseline(case)
    case = replace(case, moved=moved_between(baseline, run, history.sources(baseline, run)))
    if why := case.moved.incomparable:
        case = case.noting(why, "incomparable")
    else:
        case = replace(case, accuracy=_accuracy(history, run, baseline, config))
    # Other images change what accuracy means, and not which of two bundles is faster; another profile changes both.
    if baseline.settings.get(PROFILE) != run.settings.get(PROFILE):
        return case
    return _with_speed(history, case, config)


def _without_baseline(case: Case) -> Case:
    """A run that nothing is compared with."""
    new = "the branch's nights didn't measure this cell, so there is nothing to compare it with"
    case = case.noting(new if case.is_trial else "there was no baseline; this run is it now", "first")
    invalid = case.run.measurement.speed.invalid_reasons if case.run.measurement else ()
    # The bundle is what stays: a busy first night spoils no comparison.
    again = "" if case.is_trial else "; later nights time this bundle again"
    return case.noting(f"the timing doesn't count: {'; '.join(invalid)}{again}") if invalid else case


def _baseline_of(history: History, night: Night, run: Run) -> Run | None:
    """The run whose bundle was timed in turns, else the baseline of the cell."""
    if run.reference:
        return history.run(run.reference)
    # A trial is compared with one branch: the baseline may be another's.
    known = history.baseline(run.cell.name) if night.kind == NIGHT else None
    return history.run(known.run) if known and known.run != run.uid else None


def _accuracy(history: History, run: Run, baseline: Run, config: NightlyConfig) -> Compared | None:
    """Compare the matches on the same images."""
    tonight, before = history.matches(run), history.matches(baseline)
    if tonight is None or before is None:
        return None
    return compare_accuracy(before, tonight, accuracy_rule(config))


def _with_speed(history: History, case: Case, config: NightlyConfig) -> Case:
    """Compare the rounds that count, and tell a device that changed from a bundle that did."""
    timing = history.timing(case.run)
    if case.moved.other_device:
        return case.noting(case.moved.other_device, "excluded")
    if timing is not None and timing.candidate.is_emulated:
        return case.noting("speed isn't judged on an emulated device")
    if timing is None or timing.reference is None:
        return case.noting(_no_reference(case, timing), "incomparable")
    if reasons := _invalid(timing.reference.invalid_reasons, timing.candidate.invalid_reasons):
        return case.noting(f"the timing doesn't count: {reasons}", "excluded")
    speed = compare_speed(timing.reference.round_p50_ms, timing.candidate.round_p50_ms, speed_rule(config))
    tonight = timing.reference.stages.total.p50_ms
    change, changed = device_change(_earlier(history, case), tonight, config.gates.device_change)
    return replace(case, speed=speed, device_change=change, device_changed=changed)


def _no_reference(case: Case, timing: Timing | None) -> str:
    """Why tonight's bundle was timed alone."""
    if timing is None or timing.reference_error is None:
        return f"{case.reference} is gone, so speed can't be compared"
    error, _, _ = timing.reference_error.partition("\n")
    return f"{case.reference} can't be run any more, so speed can't be compared: {error.rstrip('.')}"


def _invalid(reference: Sequence[str], candidate: Sequence[str]) -> str:
    """Why a timing doesn't count, each bundle's reasons beside its name; empty: it does."""
    if reference == candidate:
        return "; ".join(candidate)
    named = (("the reference's", reference), ("tonight's", candidate))
    return "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in named if reasons)


def _earlier(history: History, case: Case) -> list[float]:
    """The latencies of the same reference in earlier nights, those that count."""
    baseline = case.baseline
    assert baseline is not None  # Only a run with a baseline gets here.
    trials = {night.number for night in history.nights() if night.kind != NIGHT}
    found = []
    for run in history.runs(cell=case.run.cell.name):
        if run.night >= case.run.night or run.night in trials or run.measurement is None:
            continue
        # Other images, or another board under this name: then the reference moves, and the device doesn't.
        if not _on_the_same_images(run, case.run) or is_other_device(run, case.run):
            continue
        speed = run.measurement.speed
        # In its own night the reference was the candidate.
        latency = speed.p50_ms if run.uid == baseline.uid else speed.reference_p50_ms
        if latency is not None and baseline.uid in (run.uid, run.reference) and not speed.invalid_reasons:
            found.append(latency)
    return found


def _on_the_same_images(one: Run, other: Run) -> bool:
    """Whether two runs were timed on the same images."""
    data = {run.digests.data if run.digests else None for run in (one, other)}
    return len(data) == 1 and all(one.settings.get(key) == other.settings.get(key) for key in CHOICE)


def _judgement(case: Case) -> Judgement:
    """Put one cell's answers together."""
    parts = [("speed", case.speed), ("accuracy", case.accuracy)]
    answered = [one.answer for _, one in parts if one]
    # What became worse is said even where the other half has no answer.
    first: Status | None = "worse" if "worse" in answered else case.status
    answered_as: Status = next((answer for answer in ORDER if answer in answered), "unknown")
    texts = [sentence(name, one) for name, one in parts if one]
    if case.device_changed and case.device_change is not None:
        texts.append(f"the device changed: the reference itself is {slower_or_faster(case.device_change)}")
    return Judgement(
        status=first or answered_as,
        reason="; ".join([*([case.reason] if case.reason else []), *texts]),
        baseline=case.baseline.uid if case.baseline else None,
        speed=case.speed,
        accuracy=case.accuracy,
        device_change=case.device_change,
        device_changed=case.device_changed,
        moved=case.moved.texts,
        device_moved=case.moved.environment,
    )


def sentence(name: str, found: Compared) -> str:
    """Say what one comparison found."""
    if name == "speed":
        span = f"{found.lowest:+.1%} to {found.highest:+.1%}"
        return f"speed {found.answer}: latency {found.change:+.1%} ({span}, {found.samples} rounds)"
    span = f"{found.lowest:+.4f} to {found.highest:+.4f}"
    return f"accuracy {found.answer}: mAP50-95 {found.change:+.4f} ({span}, {found.samples} images)"
