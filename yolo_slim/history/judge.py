"""What a night says of its cells: each compared with its baseline, all judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from yolo_slim.config.nightly import NightlyConfig
from yolo_slim.history.moved import Moved, moved_between
from yolo_slim.history.rows import NIGHT, Answer, Compared, Judgement, Night, Run, Status
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
    cases = [case_of(history, run, config) for run in history.runs(night=night.number)]
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


def case_of(history: History, run: Run, config: NightlyConfig) -> Case:
    """Compare a run with its reference, as far as they can be compared."""
    baseline = _baseline_of(history, run)
    if run.state != "measured":
        return Case(run=run, baseline=baseline, status=run.state, reason=run.error or "")
    if baseline is None:
        reason = "there was no baseline; this run is it now"
        invalid = run.measurement.speed.invalid_reasons if run.measurement else ()
        noted = f"; the timing doesn't count: {'; '.join(invalid)}" if invalid else ""
        return Case(run=run, baseline=None, status="first", reason=reason + noted)
    moved = moved_between(baseline, run, history.sources(baseline, run))
    if why := moved.incomparable:
        return Case(run=run, baseline=baseline, status="incomparable", reason=why, moved=moved)
    case = Case(run=run, baseline=baseline, moved=moved, accuracy=_accuracy(history, run, baseline, config))
    return _with_speed(history, case, config)


def _baseline_of(history: History, run: Run) -> Run | None:
    """The run whose bundle was timed in turns, else the baseline of the cell."""
    if run.reference:
        return history.run(run.reference)
    known = history.baseline(run.cell.name)
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
        return replace(case, status="excluded", reason=case.moved.other_device)
    if timing is None or timing.reference is None:
        return replace(case, status="incomparable", reason="the baseline's bundle is gone, so speed can't be compared")
    if reasons := _invalid(timing.reference.invalid_reasons, timing.candidate.invalid_reasons):
        return replace(case, status="excluded", reason=f"the timing doesn't count: {reasons}")
    speed = compare_speed(timing.reference.round_p50_ms, timing.candidate.round_p50_ms, speed_rule(config))
    tonight = timing.reference.stages.total.p50_ms
    change, changed = device_change(_earlier(history, case), tonight, config.gates.device_change)
    return replace(case, speed=speed, device_change=change, device_changed=changed)


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
        speed = run.measurement.speed
        # In its own night the reference was the candidate.
        latency = speed.p50_ms if run.uid == baseline.uid else speed.reference_p50_ms
        if latency is not None and baseline.uid in (run.uid, run.reference) and not speed.invalid_reasons:
            found.append(latency)
    return found


def _judgement(case: Case) -> Judgement:
    """Put one cell's answers together."""
    parts = [("speed", case.speed), ("accuracy", case.accuracy)]
    answered = [one.answer for _, one in parts if one]
    # What became worse is said even where the other half has no answer.
    first: Status | None = "worse" if "worse" in answered else case.status
    answered_as: Status = next((answer for answer in ORDER if answer in answered), "unknown")
    texts = [sentence(name, one) for name, one in parts if one]
    if case.device_changed and case.device_change is not None:
        texts.append(f"the device changed: the reference itself is {_percent(case.device_change)}")
    return Judgement(
        status=first or answered_as,
        reason="; ".join([*([case.reason] if case.reason else []), *texts]),
        baseline=case.baseline.uid if case.baseline else None,
        speed=case.speed,
        accuracy=case.accuracy,
        device_change=case.device_change,
        device_changed=case.device_changed,
        moved=case.moved.texts,
    )


def sentence(name: str, found: Compared) -> str:
    """Say what one comparison found."""
    if name == "speed":
        span = f"{found.lowest:+.1%} to {found.highest:+.1%}"
        return f"speed {found.answer}: latency {found.change:+.1%} ({span}, {found.samples} rounds)"
    span = f"{found.lowest:+.4f} to {found.highest:+.4f}"
    return f"accuracy {found.answer}: mAP50-95 {found.change:+.4f} ({span}, {found.samples} images)"


def _percent(change: float) -> str:
    return f"{abs(change):.0%} {'slower' if change > 0 else 'faster'} than in earlier nights"


def is_alarm(found: Mapping[str, Judgement]) -> bool:
    """Whether any cell became worse."""
    return any(one.status == "worse" for one in found.values())
