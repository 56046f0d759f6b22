"""The cut in steps: trace, score, allocate, cut, re-estimate; then the next step on what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.models.size import Size, exported_layers
from yolo_slim.progress import Progress
from yolo_slim.pruning.allocation import (
    CostModel,
    Goal,
    Slot,
    allocate_apart,
    allocate_global,
    allocate_isomorphic,
    allocate_uniform,
    make_cost_model,
    scheduled,
    widths_of,
)
from yolo_slim.pruning.block_costs import BlockCosts, load_map, prices
from yolo_slim.pruning.decisions import Terms, decide, make_terms, slot_widths
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.importance import score
from yolo_slim.pruning.magnitude import label_count, normalized
from yolo_slim.pruning.plan import PrunePlan, compose, kept_labels, make_plan, ranks_of
from yolo_slim.pruning.surgery import apply_plan, reestimate_batchnorm
from yolo_slim.training.batches import Batch, choose
from yolo_slim.training.guards import memory_for

PER_MAC = 0.5
"""Exponent of the saved MACs in the ranking; 0, .5 and 1 are compared in docs/benchmarks/recovery.md."""
SCORING_GMACS = 210.0
"""Forward passes that scoring may cost in all, in 10^9 MACs: about ten seconds on two cores."""
BN_GMACS = 140.0
"""The same for the batch-normalisation statistics, without backward passes."""
BN_BATCH = 16
"""Most images of one pass for these statistics."""
LOSS_ARGUMENTS = ("box", "cls", "dfl", "pose", "kobj", "rle", "angle", "overlap_mask")
"""Training arguments that the criteria of all tasks read."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is cut out of which model; everything that decides the result."""

    config: PruneConfig
    model_sha256: str
    """Of the checkpoint that is cut."""
    source_sha256: str
    """Of the user's checkpoint: the same unless it was trained sparse first."""
    settings: dict[str, Any]
    """What the plan records."""
    before: Size
    goal: Goal
    images: list[Path]
    """Training images."""
    load: Callable[[list[Path], int], Iterable[Batch]]
    """From images and a batch size to the task's training batches, see :func:`yolo_slim.training.batches.loader`."""
    imgsz: int
    seed: int
    end2end: bool


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A network whose channels have scores."""

    graph: ChannelGraph
    scores: np.ndarray
    """Of every label, shape (labels,)."""
    terms: Terms
    slots: list[Slot]


@dataclass(kw_only=True)
class Pruner:
    """Cuts a model in place, step by step."""

    task: Task
    progress: Progress
    exported: frozenset[str] = frozenset()
    widths: dict[str, int] = field(default_factory=dict)
    """Name of a slot to its width in the unpruned network."""
    full: float = 0.0
    """Cost of the unpruned network in the cost model's own terms."""
    head_full: float = 0.0
    guide: BlockCosts | None = None
    prices: dict[str, float] = field(default_factory=dict)
    """Name of a slot to the factor of its scores under scope ``block_costs``; filled by the first step."""
    graph: ChannelGraph | None = None
    """Of the unpruned network, until the first step has used it."""

    def begin(self, model: nn.Module, graph: ChannelGraph) -> None:
        """Take the measure of the unpruned network, of which ``graph`` is the trace."""
        if self.task.config.block_costs is not None:
            self.guide = load_map(Path(self.task.config.block_costs), self.task.source_sha256, self.task.imgsz)
            self.progress.say(f"prune: follows the milliseconds of {self.guide.told}")
        self.exported = exported_layers(model, end2end=self.task.end2end)
        self.graph = graph
        terms = self._terms(model, graph)
        slots = decide(graph, np.ones(label_count(graph)), terms)
        self.widths = slot_widths(slots)
        cost, keep = self._cost(graph, slots), widths_of(slots)
        self.full = cost.total(keep)
        self.head_full = cost.of_head(_head_rows(graph, terms)).total(keep)

    def require_reachable(self, model: nn.Module, graph: ChannelGraph) -> None:
        """Raise where floors and protected layers don't let the unpruned network reach the whole budget.

        Scores have no part in it, so it is known before the first one; a later step would tell of what is left of the
        network, in its own percents.
        """
        terms = self._terms(model, graph)
        slots, prices = decide(graph, np.ones(label_count(graph)), terms), dict(self.prices)
        try:
            self._keep(graph, slots, terms, self.steps - 1)
        except SlimError as error:
            stay = [f"{block} stays as wide as it is: {why}" for block, why in graph.blocks_kept().items()]
            raise SlimError(error.fact, culprits=[*stay, *error.culprits], remedy=error.remedy) from None
        finally:
            self.prices = prices

    @property
    def steps(self) -> int:
        """Return in how many steps the cut is made; random scores don't get better by scoring anew."""
        config = self.task.config
        return 1 if config.criterion == "random" and not config.recover_epochs_between else config.steps

    def cut(self, model: nn.Module) -> PrunePlan:
        """Prune in all steps at once; return the plan in the unpruned network's channels."""
        total: PrunePlan | None = None
        for index in range(self.steps):
            total = self.cut_step(model, index, total)
            if index < self.steps - 1:
                self.restat(model, last=False)
        assert total is not None
        self.progress.step("prune: score and cut", self.steps, self.steps)
        return total

    def cut_step(self, model: nn.Module, index: int, total: PrunePlan | None) -> PrunePlan:
        """Cut once; return the composed plan of this step and those before it."""
        self.progress.step("prune: score and cut", index, self.steps)
        ranked = self.rank(model, index)
        graph = ranked.graph
        keep = self._keep(graph, ranked.slots, ranked.terms, index)
        kept = kept_labels(graph, ranked.slots, keep, ranked.scores)
        plan = make_plan(graph, kept, self.task.model_sha256, self.task.settings)
        plan = replace(plan, ranks=ranks_of(graph, ranked.scores))
        apply_plan(model, plan)
        return plan if total is None else compose(total, plan)

    def rank(self, model: nn.Module, index: int) -> Ranked:
        """Trace a network and score its channels on the images of step ``index``."""
        graph = (self.graph if index == 0 else None) or trace_channels(model, self.task.imgsz)
        self.graph = None
        scores = normalized(graph, self._score(model, graph, index), self.task.config.normalize)
        terms = self._terms(model, graph)
        return Ranked(graph=graph, scores=scores, terms=terms, slots=decide(graph, scores, terms))

    def restat(self, model: nn.Module, *, last: bool) -> None:
        """Re-estimate the batch-normalisation statistics, unless the settings leave them as they are."""
        if self.task.config.bn_images == 0:
            return
        with memory_for("batch-normalisation statistics were estimated", BN_BATCH, self.task.imgsz):
            reestimate_batchnorm(model, self._inputs(self._bn_count() if last else self._score_count()))

    def _terms(self, model: nn.Module, graph: ChannelGraph) -> Terms:
        """Return what may be cut."""
        return make_terms(model, graph, self.task.config, self.exported, self.widths)

    def _cost(self, graph: ChannelGraph, slots: list[Slot], what: str | None = None) -> CostModel:
        """Return the cost model of the budget, or of ``what``."""
        goal = replace(self.task.goal, what=what) if what else self.task.goal
        return make_cost_model(graph, slots, self.exported.__contains__, goal)

    def _keep(self, graph: ChannelGraph, slots: list[Slot], terms: Terms, index: int) -> np.ndarray:
        """Return the kept channels of every slot after step ``index``, shape (slots,)."""
        config, cost = self.task.config, self._cost(graph, slots)
        target = self.full * (1 - scheduled(self.task.goal.removed, index, self.steps, config.schedule))
        slots, value = self._guided(graph, slots)

        def allocate(cost: CostModel, target: float, start: np.ndarray, free: np.ndarray) -> np.ndarray:
            given: dict[str, Any] = {"target": target, "round_to": terms.round_to, "start": start, "free": free}
            if config.scope in ("global", "block_costs"):
                per_mac = PER_MAC if value is None else 1.0
                return allocate_global(slots, cost, per_mac=per_mac, value=value, **given)
            rule = allocate_uniform if config.scope == "uniform" else allocate_isomorphic
            return rule(slots, cost, share=lambda slot: terms.gentleness if slot.head else 1.0, **given)

        if config.head_removed is None:
            return allocate(cost, target, widths_of(slots), np.ones(len(slots), dtype=bool))
        share = scheduled(config.head_removed, index, self.steps, config.schedule)
        head_target = self.head_full * (1 - share)
        rows = _head_rows(graph, terms)
        return allocate_apart(allocate, slots, cost, target=target, head_rows=rows, head_target=head_target)

    def _guided(self, graph: ChannelGraph, slots: list[Slot]) -> tuple[list[Slot], CostModel | None]:
        """Return slots whose scores per MAC mean mAP per millisecond, and the MACs; unchanged without a map."""
        if self.guide is None:
            return slots, None
        macs = self._cost(graph, slots, "MACs")
        if not self.prices:
            factors = prices(slots, macs, self.guide).tolist()
            self.prices = {slot.name: factor for slot, factor in zip(slots, factors, strict=True)}
        return [replace(s, unit_scores=s.unit_scores * self.prices.get(s.name, 1.0)) for s in slots], macs

    def _score(self, model: nn.Module, graph: ChannelGraph, index: int) -> np.ndarray:
        """Return the labels' scores on images of this step's own."""
        task, count = self.task, self._score_count()
        batch = max(1, min(8, 8 * 320**2 // task.imgsz**2))
        with _LossGains(model, end2end=task.end2end), memory_for("channels were scored", batch, task.imgsz):
            chosen = choose(task.images, count * (index + 1), task.seed)[-count:]
            return score(model, graph, task.config.criterion, lambda: task.load(chosen, batch), task.seed + index)

    def _score_count(self) -> int:
        """Return the images of one step."""
        affordable = SCORING_GMACS / self.task.config.steps / (self.task.before.macs / 1e9)
        return self.task.config.images or int(np.clip(affordable, 8, 64))

    def _bn_count(self) -> int:
        """Return the images of the last re-estimation."""
        affordable = BN_GMACS / (self.task.before.macs / 1e9 * (1 - self.task.goal.removed))
        return self.task.config.bn_images or int(np.clip(affordable, 64, 256))

    def _inputs(self, count: int) -> Iterable[torch.Tensor]:
        """Yield batches of letterboxed training images (N, 3, imgsz, imgsz), of about equal size."""
        chosen = choose(self.task.images, count, self.task.seed + 1)
        size = -(-len(chosen) // max(1, -(-len(chosen) // BN_BATCH)))
        for done, batch in enumerate(self.task.load(chosen, size)):
            self.progress.step("prune: batch-normalisation statistics", done * size, len(chosen))
            yield batch["img"]
        self.progress.step("prune: batch-normalisation statistics", len(chosen), len(chosen))


def _head_rows(graph: ChannelGraph, terms: Terms) -> np.ndarray:
    """Tell which convolutions belong to the head, shape (convs,) bool."""
    return np.array([terms.in_head(name) for name in graph.convs])


class _LossGains:
    """Give a model the loss gains that its criterion reads; checkpoints carry them as a plain dict, or not at all."""

    def __init__(self, model: nn.Module, *, end2end: bool = False) -> None:
        self.model, self.end2end = model, end2end
        self.saved = model.__dict__.get("args")

    def __enter__(self) -> None:
        from ultralytics.cfg import get_cfg

        saved = self.saved if isinstance(self.saved, dict) else getattr(self.saved, "__dict__", {})
        gains = {key: saved[key] for key in LOSS_ARGUMENTS if key in saved}
        self.model.args = get_cfg(overrides=gains)
        self.model.criterion = None  # type: ignore[assignment]
        if self.end2end:
            # A fresh criterion weighs the one-to-one head's loss a quarter of the other's, which alone reaches the
            # backbone: that head, the one that is exported, would seem to matter less than the rest.
            self.model.criterion = self.model.init_criterion()  # type: ignore[operator]
            self.model.criterion.o2m = self.model.criterion.o2o = 1.0  # type: ignore[union-attr]

    def __exit__(self, *_: object) -> None:
        self.model.criterion = None  # type: ignore[assignment]
        if self.saved is not None:
            self.model.args = self.saved
