"""Which of a target's builds is pruned for: the one that reaches the budget in milliseconds at the least loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo_slim.backends.layers import LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.measuring.latency import LatencyTable, of_machine, table_name
from yolo_slim.measuring.latency_cut import BuildChoice
from yolo_slim.measuring.layer_grids import MEASURE_AGAIN
from yolo_slim.models.activation import with_activation
from yolo_slim.models.checkpoint import Checkpoint
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.allocation import Problem, allocate_global
from yolo_slim.pruning.latency_budget import LatencyGoal
from yolo_slim.pruning.latency_limits import InFamily, SmallestCut, unreachable_in_all
from yolo_slim.pruning.scope import PER_MS, REACH
from yolo_slim.pruning.scoring import Ranked
from yolo_slim.stages.context import Context
from yolo_slim.stages.latency import decided_by, without_table
from yolo_slim.workspace.folder import differences


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The build that is pruned for, and those that it was chosen from."""

    smallest: SmallestCut
    """Its narrowest network, and its goal."""
    choices: tuple[BuildChoice, ...]
    without_table: dict[str, str]
    """The target's further builds, with the reason."""


def goals_of(
    loaded: Checkpoint, config: PruneConfig, tables: Mapping[BuildName, Path], context: Context, activation: str
) -> dict[BuildName, LatencyGoal]:
    """What a frame may take in every build that has a table.

    Args:
        loaded: the unpruned network.
        config: what is asked for.
        tables: the builds' tables.
        context: of the call.
        activation: ``recover.activation``: it decides the speed as the widths do.

    Raises:
        SlimError: a table of another network, side, target or device, or of another version of the runtime.
    """
    frame_ms = config.frame_ms
    assert frame_ms is not None
    found = {build: LatencyTable.load(path) for build, path in tables.items()}
    for build, table in found.items():
        _require_fitting(table, build, measured_for_now(loaded, build, context, activation))
    exported = exported_layers(loaded.model, end2end=context.end2end)
    kinds = layer_kinds(with_activation(loaded.model, activation), context.imgsz, exported)
    setting = f"prune.{config.budget[0]}"
    return {
        build: LatencyGoal(table=table, kinds=kinds, frame_ms=frame_ms, setting=setting, stride=loaded.stride)
        for build, table in found.items()
    }


def measured_for_now(loaded: Checkpoint, build: BuildName, context: Context, activation: str) -> JsonObject:
    """What a table must have been measured for to say anything of a call's cuts: as ``LatencyTable.measured_for``."""
    device, profile = context.device, context.profile
    return {
        "model_sha256": loaded.sha256, "imgsz": context.imgsz, "build": str(build), "target": profile.name,
        "threads": profile.threads, "activation": activation,
        "device": "this machine" if device.is_here else device.name, **of_machine(device.facts(), build),
        **decided_by(profile, build),
    }  # fmt: skip


def _require_fitting(table: LatencyTable, build: BuildName, now: JsonObject) -> None:
    """Refuse a table that says nothing of these cuts: the Python API takes any file."""
    if differing := differences(table.measured_for, now):
        raise SlimError(
            f"The latency table of {build} was measured for something else.",
            culprits=differing,
            remedy=f"{MEASURE_AGAIN[:-1]}, with the settings and the device of this call.",
            topic="the-latency-table-doesnt-fit",
        )


def choose(
    goals: Mapping[BuildName, LatencyGoal],
    left_out: Mapping[BuildName, LatencyGoal],
    ranked: Ranked,
    context: Context,
    family: Callable[[LatencyGoal], InFamily | None],
) -> Chosen:
    """The build that reaches the budget at the least loss of score, by one cut of each.

    Args:
        goals: the builds to choose from.
        left_out: further builds, to name where none of them reaches the budget.
        ranked: the network's channels and their scores.
        context: of the call.
        family: what smaller models of the network's family are estimated to take in a build.

    Raises:
        SlimError: no build reaches it.
    """
    goals, left_out = (
        {build: goal.of_a_cut(ranked.graph, ranked.slots) for build, goal in one.items()} for one in (goals, left_out)
    )
    cuts = {build: _smallest(goal, ranked) for build, goal in goals.items()}
    losses = {build: loss for build, goal in goals.items() if (loss := _loss(goal, ranked)) is not None}
    unknown = {build: why for build, why in without_table(context).items() if build not in goals}
    if not losses:
        others = {build: _smallest(goal, ranked) for build, goal in left_out.items()}
        raise unreachable_in_all(cuts, others, unknown, context.imgsz, family)
    best = min(losses, key=lambda build: losses[build])
    choices = tuple(
        BuildChoice(build=build, smallest_ms=cuts[build].frame_ms, loss=_relative(losses.get(build), losses[best]))
        for build in goals
    )
    if len(goals) > 1:
        beside = ", ".join(str(choice) for choice in choices if choice.build != best)
        context.progress.say(f"prune: {best} loses the least score at this budget ({beside})")
    return Chosen(
        smallest=cuts[best], choices=choices, without_table={str(build): why for build, why in unknown.items()}
    )


def _smallest(goal: LatencyGoal, ranked: Ranked) -> SmallestCut:
    return SmallestCut.of(goal, goal.model(ranked.graph, ranked.slots), ranked.slots)


def _loss(goal: LatencyGoal, ranked: Ranked) -> float | None:
    """The score that a cut to the budget loses; None: no cut reaches it."""
    if goal.leaves_nothing:
        # A poor table may predict less than nothing for the narrowest network.
        return None
    cost = goal.model(ranked.graph, ranked.slots)
    problem = Problem(slots=ranked.slots, cost=cost, target=goal.infer_ms, round_to=ranked.terms.round_to)
    try:
        return _score_lost(ranked, allocate_global(problem, per_mac=PER_MS, reach=REACH))
    except SlimError:
        return None


def _relative(loss: float | None, least: float) -> float | None:
    return None if loss is None else loss / max(least, 1e-30)


def _score_lost(ranked: Ranked, keep: np.ndarray) -> float:
    """The score of the channels that go."""
    gone = [slot.unit_scores[: slot.width - int(k)].sum() for slot, k in zip(ranked.slots, keep, strict=True)]
    return float(np.sum(gone))


def other_tables(
    tables: Mapping[BuildName, Path], loaded: Checkpoint, context: Context, activation: str
) -> dict[BuildName, Path]:
    """Tables of the target's further builds that were measured before, beside the given ones, and hold now."""
    given = next(iter(tables.values()))
    kinds = {grid.kind for grid in LatencyTable.load(given).grids}
    beside = {build: given.with_name(table_name(build)) for build in context.profile.builds if build not in tables}
    return {
        build: path for build, path in beside.items()
        if path.is_file() and _holds(path, kinds, measured_for_now(loaded, build, context, activation))
    }  # fmt: skip


def _holds(path: Path, kinds: set[LayerKind], now: JsonObject) -> bool:
    """Whether a table is of these layers and of what is there now; an unreadable one isn't."""
    try:
        table = LatencyTable.load(path)
    except SlimError:
        return False
    return {grid.kind for grid in table.grids} == kinds and table.measured_for == now
