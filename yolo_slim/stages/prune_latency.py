"""Prune to milliseconds: cut, time the cut on the device, correct the table, cut again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from yolo_slim.build_key import BuildName
from yolo_slim.config.run import LatencyConfig, PruneConfig
from yolo_slim.devices.base import Placed
from yolo_slim.errors import SlimError
from yolo_slim.measuring.latency import LatencyTable, table_name
from yolo_slim.measuring.latency_cut import LatencyCut, TimedCut
from yolo_slim.measuring.validation_images import ValidationImages
from yolo_slim.models.checkpoint import Checkpoint
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.allocation import Problem, allocate_global
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.latency_budget import LatencyGoal, limit_of
from yolo_slim.pruning.latency_limits import SmallestCut, unreachable_in_all
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.pruning.scope import PER_MS, REACH
from yolo_slim.pruning.scoring import Ranked
from yolo_slim.pruning.slots import widths_of
from yolo_slim.pruning.unreachable import Unreachable
from yolo_slim.pruning.work import PruneWork
from yolo_slim.runtime.paired import IMAGES
from yolo_slim.stages.context import Context
from yolo_slim.stages.network_meter import NetworkMeter, scratch_folder, until_it_counts

MOST_ROUNDS = 3
"""Cuts that are timed: the first, and at most two after a correction."""
TOO_FAST = 0.955
"""Share of the budget below which a cut removed more than it had to."""
NEAR = 1.01
"""A cut that takes so many budgets is kept after the last try, and told."""


@dataclass(frozen=True, kw_only=True)
class LatencyPruning:
    """Prunes one network to milliseconds."""

    work: PruneWork
    graph: ChannelGraph
    smallest: SmallestCut
    """The smallest cut in the build that was chosen, and its goal."""
    config: LatencyConfig
    context: Context

    @property
    def goal(self) -> LatencyGoal:
        """What a frame may take in the build that was chosen."""
        return self.smallest.goal

    def cut(self, base: Checkpoint) -> tuple[nn.Module, PrunePlan, LatencyCut]:
        """Cut until the device says that the budget is met, at most :data:`MOST_ROUNDS` times."""
        goal, tried, timed = self.goal, [], []
        with scratch_folder() as scratch:
            meter = self._meter(scratch)
            onnx = meter.export(base.model, scratch / "control.onnx")
            unpruned = meter.place(onnx, goal.build)
            for index in range(MOST_ROUNDS):
                try:
                    model, plan, predicted = self._cut_once(base, goal)
                except Unreachable as refused:
                    raise self._explained(refused, goal) from None
                cut = self._timed(meter, model, unpruned, scratch / f"cut-{index}.onnx", goal.frame_of(predicted))
                tried.append((model, plan))
                timed.append(cut)
                self.work.progress.say(
                    f"prune: {goal.build}: predicted {cut.predicted_ms:.2f} ms a frame, "
                    f"measured {cut.measured_ms:.2f}; the budget is {goal.frame_ms:.2f}"
                )
                if TOO_FAST <= cut.measured_ms / goal.frame_ms <= 1:
                    break
                measured = cut.measured_ms - goal.table.overhead_ms
                goal = goal.corrected(predicted, measured)
        kept = _best([cut.measured_ms for cut in timed], goal.frame_ms)
        self._require_near(timed, kept)
        error = goal.table.error
        record = LatencyCut(
            budget_ms=goal.frame_ms, build=goal.build, device=self.context.device.name,
            unpruned_ms=goal.table.control_frame_ms, overhead_ms=goal.table.overhead_ms,
            table_error_median=error.median, table_error_worst=error.worst, cuts=tuple(timed), kept=kept,
        )  # fmt: skip
        return *tried[kept], record

    def _explained(self, refused: Unreachable, goal: LatencyGoal) -> Unreachable:
        """The error of a cut that a corrected table no longer allows, in milliseconds."""
        smallest = replace(self.smallest, goal=goal)
        if smallest.is_enough:
            return refused
        return unreachable_in_all({goal.build: smallest}, {}, self.context.imgsz)

    def _require_near(self, timed: list[TimedCut], kept: int) -> None:
        """Refuse a cut that misses the budget."""
        budget, measured = self.goal.frame_ms, timed[kept].measured_ms
        if measured > NEAR * budget:
            raise Unreachable(
                f"The budget of {budget:.2f} ms a frame was missed: the fastest of {len(timed)} cuts takes "
                f"{measured:.2f} ms in {self.goal.build}.",
                culprits=[f"cut {i}: predicted {one.predicted_ms:.2f} ms, measured {one.measured_ms:.2f} ms"
                          for i, one in enumerate(timed, 1)],
                remedy="Run it again with nothing else on the device, or ask for less: set "
                f"{self.goal.setting} {limit_of(self.goal.setting, measured)}.",
                predicted_ms=timed[kept].predicted_ms,
                measured_ms=measured,
            )  # fmt: skip
        if measured > budget:
            self.work.progress.say(f"prune: the cut takes {measured / budget - 1:.1%} more than the budget")

    def _cut_once(self, base: Checkpoint, goal: LatencyGoal) -> tuple[nn.Module, PrunePlan, float]:
        """Prune a copy; the prediction is of inference, without corrections."""
        model = copy.deepcopy(base.model)
        pruner = self.work.with_latency(goal, self.graph).pruner(base.sha256)
        pruner.begin(model, self.graph)
        plan = pruner.cut(model)
        graph = trace_channels(model, self.context.imgsz)
        terms = make_terms(model, graph, self.work.source.config, pruner.allocation.exported, pruner.widths)
        slots = decide_unscored(graph, terms)
        return model, plan, goal.model(graph, slots).total(widths_of(slots))

    def _meter(self, scratch: Path) -> NetworkMeter:
        images = ValidationImages.of(self.context.dataset, IMAGES).link_timed(scratch / "images")
        return NetworkMeter(
            loaded=self.work.source.loaded, rounds=self.config.rounds, frames=self.config.frames, context=self.context,
            images=images, log=self.work.files.weights.with_name("export.log"),
        )  # fmt: skip

    def _timed(self, meter: NetworkMeter, model: nn.Module, unpruned: Placed, onnx: Path, predicted: float) -> TimedCut:
        """Time a cut in turns with the unpruned network; a disturbed timing is repeated."""
        table = self.goal.table
        cut = meter.place(meter.export(model, onnx), table.build)
        pair = until_it_counts(lambda: meter.compare(unpruned, cut))
        measured = table.control_ms * pair.ratio + table.overhead_ms
        return TimedCut(predicted_ms=predicted, measured_ms=measured, invalid_reasons=pair.invalid_reasons)


def _best(measured: list[float], budget: float) -> int:
    """The slowest cut inside the budget, which lost least; the fastest where none is inside."""
    inside = [i for i, ms in enumerate(measured) if ms <= budget]
    return max(inside, key=lambda i: measured[i]) if inside else int(np.argmin(measured))


def goals_of(
    loaded: Checkpoint, config: PruneConfig, tables: Mapping[BuildName, Path], context: Context
) -> dict[BuildName, LatencyGoal]:
    """What a frame may take in every build that has a table."""
    frame_ms = config.frame_ms
    assert frame_ms is not None
    exported = exported_layers(loaded.model, end2end=context.end2end)
    kinds = layer_kinds(loaded.model, context.imgsz, exported)
    setting = f"prune.{config.budget[0]}"
    return {
        build: LatencyGoal(table=LatencyTable.load(path), kinds=kinds, frame_ms=frame_ms, setting=setting)
        for build, path in tables.items()
    }


def choose(
    goals: Mapping[BuildName, LatencyGoal],
    left_out: Mapping[BuildName, LatencyGoal],
    pruner: Pruner,
    model: nn.Module,
    context: Context,
) -> SmallestCut:
    """The build that reaches the budget at the least loss of score, by one cut of each.

    Args:
        goals: the builds to choose from.
        left_out: further builds, to name where none of them reaches the budget.
        pruner: of the network.
        model: the network.
        context: of the call.

    Raises:
        SlimError: no build reaches it.
    """
    ranked = pruner.rank(model, 0)
    losses, cuts = {}, {}
    for build, goal in goals.items():
        cost = goal.model(ranked.graph, ranked.slots)
        cuts[build] = SmallestCut.of(goal, cost, ranked.slots)
        try:
            keep = allocate_global(
                Problem(slots=ranked.slots, cost=cost, target=goal.infer_ms, round_to=ranked.terms.round_to),
                per_mac=PER_MS, reach=REACH,
            )  # fmt: skip
        except SlimError:
            continue
        losses[build] = _score_lost(ranked, keep)
    if not losses:
        others = {
            build: SmallestCut.of(goal, goal.model(ranked.graph, ranked.slots), ranked.slots)
            for build, goal in left_out.items()
        }
        raise unreachable_in_all(cuts, others, context.imgsz)
    best = min(losses, key=lambda build: losses[build])
    if len(goals) > 1:
        beside = ", ".join(
            f"{build} {losses[build] / max(losses[best], 1e-30):.2f} times as much" if build in losses
            else f"{build} can't reach it"
            for build in goals if build != best
        )  # fmt: skip
        context.progress.say(f"prune: {best} reaches the budget at the least loss of score ({beside})")
    return cuts[best]


def _score_lost(ranked: Ranked, keep: np.ndarray) -> float:
    """The score of the channels that go."""
    gone = [slot.unit_scores[: slot.width - int(k)].sum() for slot, k in zip(ranked.slots, keep, strict=True)]
    return float(np.sum(gone))


def latency_pruning(
    work: PruneWork,
    pruner: Pruner,
    graph: ChannelGraph,
    tables: Mapping[BuildName, Path],
    config: LatencyConfig,
    context: Context,
) -> LatencyPruning:
    """Choose the build to prune for, before anything is made.

    Raises:
        SlimError: a budget that no build reaches, or that the unpruned network reaches.
    """
    loaded = work.source.loaded
    goals = goals_of(loaded, work.source.config, tables, context)
    if met := [str(build) for build, goal in goals.items() if goal.table.control_frame_ms <= goal.frame_ms]:
        raise SlimError(
            f"The unpruned network reaches the budget in {', '.join(met)}: there is nothing to prune.",
            remedy="Ask for more, or use the unpruned model.",
        )
    left_out = goals_of(loaded, work.source.config, other_tables(tables, context), context)
    smallest = choose(goals, left_out, pruner, loaded.model, context)
    return LatencyPruning(work=work, graph=graph, smallest=smallest, config=config, context=context)


def other_tables(tables: Mapping[BuildName, Path], context: Context) -> dict[BuildName, Path]:
    """Tables of the target's further builds that were measured before, beside the given ones and like them."""
    given = next(iter(tables.values()))
    beside = {build: given.with_name(table_name(build)) for build in context.profile.builds if build not in tables}
    return {build: path for build, path in beside.items() if path.is_file() and _is_alike(path, given)}


def _is_alike(one: Path, other: Path) -> bool:
    """Whether two tables are of one network's layers at one side on one machine; an unreadable one isn't."""
    try:
        first, second = LatencyTable.load(one), LatencyTable.load(other)
    except SlimError:
        return False
    keys = ("model_sha256", "imgsz", "target", "threads")
    kinds = [{grid.kind for grid in table.grids} for table in (first, second)]
    return (
        kinds[0] == kinds[1]
        and first.machine.model == second.machine.model
        and all(getattr(first, key) == getattr(second, key) for key in keys)
    )
