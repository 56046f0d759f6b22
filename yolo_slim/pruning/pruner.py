"""The cut in steps: trace, score, allocate, cut, re-estimate statistics; then the next step on what is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from yolo_slim.models.macs import exported_layers
from yolo_slim.progress import Progress
from yolo_slim.pruning.block_costs import load_block_costs
from yolo_slim.pruning.decisions import Terms, decide_unscored, make_terms, slot_widths
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.plan import PrunePlan, compose, kept_labels, make_plan, ranks_of
from yolo_slim.pruning.scope import ScopedAllocation
from yolo_slim.pruning.scoring import Ranked, images_per_step, rank
from yolo_slim.pruning.surgery import apply_plan, reestimate_batchnorm
from yolo_slim.pruning.task import Task
from yolo_slim.training.batches import choose
from yolo_slim.training.guards import memory_for

__all__ = ["Pruner", "Ranked", "Task"]

BN_GMACS = 140.0
"""Forward passes that the last batch-normalisation statistics may cost, in 10^9 MACs: ten seconds on two cores."""
BN_BATCH = 16
"""Most images of one pass for these statistics."""


@dataclass(kw_only=True)
class Pruner:
    """Cuts a model in place, step by step."""

    task: Task
    progress: Progress
    allocation: ScopedAllocation = field(init=False)
    widths: dict[str, int] = field(default_factory=dict)
    """Name of a slot to its width in the unpruned network."""
    graph: ChannelGraph | None = None
    """Of the unpruned network, until the first step has used it."""

    def __post_init__(self) -> None:
        self.allocation = ScopedAllocation(task=self.task)

    @property
    def steps(self) -> int:
        """How many steps the cut takes."""
        return self.task.steps

    @property
    def prices(self) -> dict[str, float]:
        """What the first step found out about block costs; an interrupted prune stores it for the steps that follow."""
        return self.allocation.prices

    @prices.setter
    def prices(self, prices: dict[str, float]) -> None:
        self.allocation.prices = prices

    def begin(self, model: nn.Module, graph: ChannelGraph) -> None:
        """Measure the unpruned network, of which ``graph`` is the trace."""
        if self.task.config.block_costs is not None:
            path = Path(self.task.config.block_costs)
            # The table names the user's checkpoint, also where sparse training has made another file of it.
            self.allocation.costs = load_block_costs(path, self.task.source_sha256, self.task.imgsz)
            measured_on = self.allocation.costs.measured_on or "a runtime that the table doesn't name"
            self.progress.say(f"prune: uses the milliseconds measured on {measured_on}")
        self.allocation.exported = exported_layers(model, end2end=self.task.end2end)
        self.graph = graph
        terms = self._terms(model, graph)
        slots = decide_unscored(graph, terms)
        self.widths = slot_widths(slots)
        self.allocation.begin(graph, slots, terms)

    def require_reachable(self, model: nn.Module, graph: ChannelGraph) -> None:
        """Raise where floors and protected layers don't let the unpruned network reach its budget."""
        self.allocation.require_reachable(graph, self._terms(model, graph))

    def cut(self, model: nn.Module) -> PrunePlan:
        """Prune in all steps; the plan is in the unpruned network's channels."""
        total: PrunePlan | None = None
        for index in range(self.steps):
            total = self.cut_step(model, index, total)
            if index < self.steps - 1:
                self.restat(model, last=False)
        assert total is not None
        self.progress.step("prune: score and cut", self.steps, self.steps)
        return total

    def cut_step(self, model: nn.Module, index: int, total: PrunePlan | None) -> PrunePlan:
        """Cut once; the plan is that of this step and those before it together."""
        self.progress.step("prune: score and cut", index, self.steps)
        ranked = self.rank(model, index)
        graph = ranked.graph
        keep = self.allocation.keep(graph, ranked.slots, ranked.terms, index)
        kept = kept_labels(graph, ranked.slots, keep, ranked.scores)
        plan = make_plan(graph, kept, self.task.model_sha256, self.task.settings)
        # For edits by hand: a wider or narrower layer takes the next channels by rank.
        plan = replace(plan, ranks=ranks_of(graph, ranked.scores))
        apply_plan(model, plan)
        return plan if total is None else compose(total, plan)

    def rank(self, model: nn.Module, index: int) -> Ranked:
        """Trace a network and score its channels on the images of step ``index``."""
        graph = (self.graph if index == 0 else None) or trace_channels(model, self.task.imgsz)
        # The cut makes it wrong.
        self.graph = None
        return rank(self.task, model, graph, self._terms(model, graph), index)

    def restat(self, model: nn.Module, *, last: bool) -> None:
        """Re-estimate the batch-normalisation statistics, unless the settings leave them as they are.

        Between steps the images that scoring takes are enough: the next cut changes the statistics again.
        """
        if self.task.config.bn_images == 0:
            return
        with memory_for("batch-normalisation statistics were estimated", BN_BATCH, self.task.imgsz):
            reestimate_batchnorm(model, self._inputs(self._bn_count() if last else images_per_step(self.task)))

    def _terms(self, model: nn.Module, graph: ChannelGraph) -> Terms:
        return make_terms(model, graph, self.task.config, self.allocation.exported, self.widths)

    def _bn_count(self) -> int:
        """How many images the last statistics are estimated on."""
        affordable = BN_GMACS / (self.task.before.macs / 1e9 * (1 - self.task.goal.removed))
        return self.task.config.bn_images or int(np.clip(affordable, 64, 256))

    def _inputs(self, count: int) -> Iterable[torch.Tensor]:
        """Batches of letterboxed training images (N, 3, imgsz, imgsz), of about equal size."""
        # Another seed than scoring's, whose images already decided about the channels.
        chosen = choose(self.task.images, count, self.task.seed + 1)
        # Not BN_BATCH and a small rest: variances are those within a batch.
        size = -(-len(chosen) // max(1, -(-len(chosen) // BN_BATCH)))
        for done, batch in enumerate(self.task.load(chosen, size)):
            self.progress.step("prune: batch-normalisation statistics", done * size, len(chosen))
            yield batch["img"]
        self.progress.step("prune: batch-normalisation statistics", len(chosen), len(chosen))
