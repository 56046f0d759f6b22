"""Everything that one validation measured, judged by a target's profile. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yolo_slim.build_key import CONTROL, BuildKey, BuildName
from yolo_slim.config.profile import Profile, RungBudgets
from yolo_slim.measuring.accuracy import Accuracy
from yolo_slim.measuring.builds import MeasuredBuild
from yolo_slim.measuring.emulated import Emulated
from yolo_slim.measuring.ladder import ScoredRung
from yolo_slim.measuring.measure import Measured
from yolo_slim.measuring.rounds import ratios
from yolo_slim.verdict import gates
from yolo_slim.verdict.control import classes_gate, control_gate
from yolo_slim.verdict.emulated import emulated_gates, emulation_note, failed_builds
from yolo_slim.verdict.remarks import remarks
from yolo_slim.verdict.result import Build, ClassAccuracy, Rung, SpeedUp, Verdict


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The judged part of a result."""

    ladder: tuple[Rung, ...]
    builds: tuple[Build, ...]
    winner: BuildKey | None
    verdict: Verdict
    speedups: tuple[SpeedUp, ...]
    notes: tuple[str, ...]


def judge(
    measured: Measured,
    profile: Profile,
    *,
    on_target: bool,
    device_name: str,
    bad_layer: str | None = None,
    unlabelled: Mapping[int, str] | None = None,
    emulated: Emulated | None = None,
) -> Judgement:
    """Compare every rung and the best build with the profile's budgets.

    Args:
        measured: what was measured.
        profile: the target.
        on_target: the device that ran the bundles is the target.
        device_name: what people call that device.
        bad_layer: the layer of the int8 graph to look at first.
        unlabelled: classes, with their names, of which no scored image has a label.
        emulated: what the bundles did on an emulated processor of the target.
    """
    ladder = judged_ladder(measured.ladder, profile.rungs)
    builds = tuple(_build(build) for build in measured.builds)
    failed = [rung.build for rung in ladder if rung.status == "fail" and rung.build]
    # Such a bundle crashes or answers otherwise on the board: it can't win.
    failed += failed_builds(emulated)
    control, budget = ladder[0].map50_95, profile.budget
    winner = gates.winner(
        builds, control=control, max_drop=budget.max_map50_95_drop, on_target=on_target, failed=failed
    )
    best = next((build for build in builds if build.key == winner), None)
    missing = "" if on_target else f"{device_name} is not a {profile.name}; run the bundle on one"
    largest = max([budget.max_map50_95_drop, *(rung.budget for rung in ladder if rung.budget is not None)])
    found = [control_gate(control, largest), classes_gate(unlabelled or {})]
    found += gates.rung_gates(ladder, _others(builds, winner))
    found += emulated_gates(emulated, _others(builds, winner))
    found += gates.device_gates(budget, best, _drop(builds, best, control), missing)
    unproven = f"speed on {profile.name} is unproven, so the profile's first choice is the winner"
    return Judgement(
        ladder=ladder,
        builds=builds,
        winner=winner,
        verdict=gates.verdict(found, proven=on_target),
        speedups=speedups(builds),
        notes=(
            *([] if on_target or winner is None else [unproven]),
            *emulation_note(emulated, profile, on_target=on_target, device_name=device_name),
            *(f"{build} can't win: it failed on the emulated processor" for build in failed_builds(emulated)),
            *remarks(measured, ladder, bad_layer),
        ),
    )


def judged_ladder(scored: Sequence[ScoredRung], budgets: RungBudgets) -> tuple[Rung, ...]:
    """Compare every rung with the one that it came from."""
    by_name = {rung.rung: rung.accuracy for rung in scored}
    return tuple(_rung(rung, by_name[rung.against] if rung.against else None, budgets) for rung in scored)


def _rung(scored: ScoredRung, before: Accuracy | None, budgets: RungBudgets) -> Rung:
    """Judge one rung."""
    after = scored.accuracy
    drop = None if before is None else before.map50_95 - after.map50_95
    # A bundle's own budget is for what building cost; against the control the pruning is in its drop too.
    is_judged = drop is not None and not (scored.build and scored.against == CONTROL)
    budget = gates.rung_budget(scored.rung, scored.build, budgets) if is_judged else None
    within = budget is None or drop is None or drop <= budget
    return Rung(
        rung=scored.rung,
        build=scored.build,
        label=scored.label,
        where=scored.where,
        map50_95=after.map50_95,
        map50=after.map50,
        against=scored.against,
        drop=drop,
        budget=budget,
        status="info" if budget is None else "pass" if within else "fail",
        per_class=_classes(after),
        worst_class=None if before is None else gates.worst_class(_classes(before), _classes(after)),
    )


def _classes(accuracy: Accuracy) -> dict[int, ClassAccuracy]:
    return {class_id: ClassAccuracy(**found) for class_id, found in accuracy.per_class.items()}


def _build(measured: MeasuredBuild) -> Build:
    return Build(
        key=measured.key,
        map50_95=measured.accuracy.map50_95,
        map50=measured.accuracy.map50,
        size_mb=measured.size_mb,
        bench=measured.bench,
    )


def _others(builds: Sequence[Build], winner: BuildKey | None) -> set[BuildName]:
    """The slim builds whose rungs don't count, because another one won."""
    # A build that lost the competition must not spoil the verdict of the one that won.
    return {build.key.build for build in builds if build.key.is_slim and build.key != winner} if winner else set()


def _drop(builds: Sequence[Build], best: Build | None, control: float) -> float | None:
    """How much the winner lost; without one, how much the most accurate slim build did."""
    # Without a winner the gate shows by how much even the best build is off.
    chosen = [best] if best else [build for build in builds if build.key.is_slim]
    return min((control - build.map50_95 for build in chosen if build.map50_95 is not None), default=None)


def speedups(builds: Sequence[Build]) -> tuple[SpeedUp, ...]:
    """Compare every slim build with its control in speed, where both were timed."""
    by_key = {build.key: build for build in builds}
    found = []
    for build in builds:
        control = by_key.get(BuildKey("control", build.key.build))
        if build.key.is_slim and build.bench and control and control.bench:
            found.append(SpeedUp(build=build.key.build, **vars(ratios(control.bench, build.bench))))
    return tuple(found)
