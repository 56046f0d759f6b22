"""Prune to milliseconds: cut, time the cut on the device, correct the table, cut again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from yolo_slim.build_key import BuildName
from yolo_slim.config.run import LatencyConfig
from yolo_slim.devices.base import Placed
from yolo_slim.errors import SlimError
from yolo_slim.measuring.latency_cut import LatencyCut, TimedCut, after_exchange
from yolo_slim.measuring.validation_images import ValidationImages
from yolo_slim.models.activation import with_activation
from yolo_slim.models.checkpoint import Checkpoint
from yolo_slim.models.macs import conv_widths
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.latency_budget import LatencyGoal, limit_of
from yolo_slim.pruning.latency_limits import unreachable_in_all
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.pruning.slots import widths_of
from yolo_slim.pruning.smaller_models import in_family
from yolo_slim.pruning.unreachable import Unreachable
from yolo_slim.pruning.work import PruneWork
from yolo_slim.runtime.paired import IMAGES
from yolo_slim.stages.context import Context
from yolo_slim.stages.latency_choice import Chosen, choose, goals_of, other_tables
from yolo_slim.stages.network_meter import NetworkMeter, may_count_later, scratch_folder

MOST_ROUNDS = 3
"""Cuts that are timed: the first, and at most two after a correction."""
TOO_FAST = 0.98
"""Share of the budget below which a cut removed more than it had to."""
CHANGED = 0.03
"""How far the unpruned network's inference may be from the table's without a word, as a fraction."""


@dataclass(frozen=True, kw_only=True)
class LatencyPruning:
    """Prunes one network to milliseconds."""

    work: PruneWork
    graph: ChannelGraph
    chosen: Chosen
    """The build that is pruned for."""
    config: LatencyConfig
    context: Context
    activation: str
    """``recover.activation``: cuts are timed with it. The pruned network keeps its own; the recovery exchanges it."""

    @property
    def goal(self) -> LatencyGoal:
        """What a frame may take in the build that was chosen."""
        return self.chosen.smallest.goal

    def cut(self, base: Checkpoint) -> tuple[nn.Module, PrunePlan, LatencyCut]:
        """Cut until the device says that the budget is met, at most :data:`MOST_ROUNDS` times."""
        goal = self.goal
        tried: list[tuple[nn.Module, PrunePlan]] = []
        timed: list[TimedCut] = []
        found: list[tuple[float, float]] = []
        with scratch_folder() as scratch:
            meter = self._meter(scratch)
            onnx = meter.export(with_activation(base.model, self.activation), scratch / "control.onnx")
            unpruned = meter.place(onnx, goal.build)
            for index in range(MOST_ROUNDS):
                try:
                    goal, (model, plan, predicted) = self._cut_aimed(base, goal, found)
                except Unreachable as refused:
                    if any(one.measured_ms <= goal.frame_ms for one in timed):
                        break
                    raise self._explained(refused, goal.corrected(found) if found else goal) from None
                if conv_widths(model) == self.work.widths:
                    # Nothing goes by these corrections. Timed against itself, the network would show noise alone.
                    found.append((predicted, goal.table.control_ms))
                    goal = goal.corrected(found)
                    continue
                cut = self._timed(meter, model, unpruned, scratch / f"cut-{index}.onnx", goal.frame_of(predicted))
                tried.append((model, plan))
                timed.append(cut)
                self.work.progress.say(
                    f"prune: {goal.build}: predicted {cut.predicted_ms:.2f} ms a frame, "
                    f"measured {cut.measured_ms:.2f}; the budget is {goal.frame_ms:.2f}"
                )
                if TOO_FAST <= cut.measured_ms / goal.frame_ms <= 1 and not cut.invalid_reasons:
                    break
                found.append((predicted, cut.measured_ms - goal.table.overhead_ms))
                is_inside = any(one.measured_ms <= goal.frame_ms and not may_count_later(one) for one in timed)
                goal = goal.corrected(found, misses=0 if is_inside else len(timed))
        self._tell_change(timed)
        kept = _best(timed, goal.frame_ms)
        self._require_met(timed, kept)
        error = goal.table.error
        record = LatencyCut(
            budget_ms=goal.frame_ms, build=goal.build, device=self.context.device.name,
            unpruned_ms=goal.table.control_frame_ms, overhead_ms=goal.table.overhead_ms,
            table_error_median=error.median, table_error_worst=error.worst, cuts=tuple(timed), kept=kept,
            activation=self.activation, choices=self.chosen.choices, without_table=self.chosen.without_table,
            named=self.config.runtime,
        )  # fmt: skip
        return *tried[kept], record

    def _explained(self, refused: Unreachable, goal: LatencyGoal) -> Unreachable:
        """The error of a cut that a corrected table no longer allows, in milliseconds."""
        smallest = replace(self.chosen.smallest, goal=goal)
        if smallest.is_enough:
            return refused
        family = partial(in_family, self.work.source, self.activation)
        return unreachable_in_all({goal.build: smallest}, {}, {}, self.context.imgsz, family)

    def _tell_change(self, timed: list[TimedCut]) -> None:
        """Say so where the device isn't as fast as when the table was measured."""
        now, table = float(np.median([cut.unpruned_ms for cut in timed])), self.goal.table.control_ms
        if abs(now / table - 1) > CHANGED:
            self.work.progress.say(
                f"prune: the device's speed changed: the unpruned network's inference takes {now:.2f} ms now, and took "
                f"{table:.2f} ms when the latency table was measured. The cuts are shown at the table's speed"
            )

    def _require_met(self, timed: list[TimedCut], kept: int) -> None:
        """Refuse a cut that misses the budget."""
        budget, measured = self.goal.frame_ms, timed[kept].measured_ms
        if measured > budget:
            raise Unreachable(
                f"The budget of {budget:.2f} ms a frame was missed: the fastest of {len(timed)} cuts takes "
                f"{measured:.2f} ms in {self.goal.build}.",
                culprits=[f"cut {i}: predicted {one.predicted_ms:.2f} ms, measured {one.measured_ms:.2f} ms"
                          for i, one in enumerate(timed, 1)],
                remedy="Run it again with nothing else on the device, or ask for less: set "
                f"{self.goal.setting} {limit_of(self.goal.setting, measured)}.",
                topic="the-frame-rate-cant-be-reached",
                predicted_ms=timed[kept].predicted_ms,
                measured_ms=measured,
            )  # fmt: skip

    def _cut_aimed(
        self, base: Checkpoint, goal: LatencyGoal, found: list[tuple[float, float]]
    ) -> tuple[LatencyGoal, tuple[nn.Module, PrunePlan, float]]:
        """Prune a copy; where the aim was lowered out of reach, with the aim of the first cut."""
        try:
            return goal, self._cut_once(base, goal)
        except Unreachable:
            if not goal.misses:
                raise
        goal = goal.corrected(found)
        return goal, self._cut_once(base, goal)

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
            images=images, log=self.work.files.weights.with_name("export.log"), kept_float=self.goal.table.kept_float,
        )  # fmt: skip

    def _timed(self, meter: NetworkMeter, model: nn.Module, unpruned: Placed, onnx: Path, predicted: float) -> TimedCut:
        """Time a cut in turns with the unpruned network; a disturbed timing is repeated."""
        table = self.goal.table
        cut = meter.place(meter.export(with_activation(model, self.activation), onnx), table.build)
        pair = meter.compare(unpruned, cut, table.paired_ms)
        measured = table.control_ms * pair.ratio + table.overhead_ms
        return TimedCut(
            predicted_ms=predicted, measured_ms=measured, unpruned_ms=pair.ms_before,
            invalid_reasons=pair.invalid_reasons,
        )  # fmt: skip


def _best(timed: list[TimedCut], budget: float) -> int:
    """The slowest cut inside the budget, which lost least; the fastest where none is inside.

    A timing that doesn't count is asked only where no other one is inside.
    """
    inside = [i for i, cut in enumerate(timed) if cut.measured_ms <= budget]
    sure = [i for i in inside if not timed[i].invalid_reasons]
    if inside:
        return max(sure or inside, key=lambda i: timed[i].measured_ms)
    return min(range(len(timed)), key=lambda i: timed[i].measured_ms)


def latency_pruning(
    work: PruneWork,
    pruner: Pruner,
    graph: ChannelGraph,
    tables: Mapping[BuildName, Path],
    config: LatencyConfig,
    context: Context,
    activation: str,
) -> LatencyPruning:
    """Choose the build to prune for, before anything is made.

    Args:
        work: what is pruned, and its budget.
        pruner: begun with the network.
        graph: the network's channels.
        tables: the device's latency tables.
        config: how cuts are timed.
        context: of the call.
        activation: ``recover.activation``.

    Raises:
        SlimError: no table, or one of something else; a budget that no build reaches, or that the unpruned network
            reaches.
    """
    if not tables:
        raise SlimError(
            f"A cut to milliseconds ({work.goal.setting}) needs a latency table, and none is given.",
            remedy="Measure one: `yolo-slim latency`, or yolo_slim.latency() in Python. `yolo-slim prune` and `run` do "
            "that by themselves.",
            topic="the-latency-table-doesnt-fit",
        )
    loaded, asked = work.source.loaded, work.source.config
    goals = goals_of(loaded, asked, tables, context, activation)
    if met := [str(build) for build, goal in goals.items() if goal.table.control_frame_ms <= goal.frame_ms]:
        raise SlimError(
            f"The unpruned network{after_exchange(activation)} reaches the budget in {', '.join(met)}: there is "
            "nothing to prune.",
            remedy="Ask for more, or use the unpruned model.",
            topic="the-frame-rate-is-reached-already",
        )
    left_out = goals_of(loaded, asked, other_tables(tables, loaded, context, activation), context, activation)
    family = partial(in_family, work.source, activation)
    chosen = choose(goals, left_out, pruner.rank(loaded.model, 0), context, family)
    return LatencyPruning(
        work=work, graph=graph, chosen=chosen, config=config, context=context, activation=activation
    )  # fmt: skip
