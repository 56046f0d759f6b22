"""Which layers give up how many channels in each step, as ``prune.scope`` and the budget say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.pruning.allocation import (
    Problem,
    allocate_apart,
    allocate_global,
    allocate_isomorphic,
    allocate_uniform,
    scheduled,
)
from yolo_slim.pruning.block_costs import BlockCosts, prices
from yolo_slim.pruning.decisions import Terms, decide_unscored
from yolo_slim.pruning.goal import Cost, CostModel, make_cost_model
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.slots import Slot, widths_of
from yolo_slim.pruning.task import Task

PER_MS = 0.75
"""Exponent of the saved milliseconds in the ranking; .5, .75 and 1 are compared in docs/benchmarks/latency.md."""
REACH = 4
"""Most multiples of ``round_to`` that go from a layer at once under a budget in milliseconds, whose steps are wide."""
PER_MAC = 0.5
"""Exponent of the saved MACs in the ranking: a score is divided by the root of the MACs that it saves."""


@dataclass(kw_only=True)
class ScopedAllocation:
    """Allocates every step of one prune."""

    task: Task
    exported: frozenset[str] = frozenset()
    """Convolutions that the fused graph has."""
    costs: BlockCosts | None = None
    """The table that scope ``block_costs`` follows."""
    prices: dict[str, float] = field(default_factory=dict)
    """Name of a slot to the factor of its scores under scope ``block_costs``; filled by the first step."""
    full: float = 0.0
    """Cost of the unpruned network by the cost model, which lacks a few constant layers of the measured one."""
    head_full: float = 0.0

    def begin(self, graph: ChannelGraph, slots: list[Slot], terms: Terms) -> None:
        """Measure the unpruned network, of which steps remove shares."""
        cost, keep = self._cost(graph, slots), widths_of(slots)
        self.full = cost.total(keep)
        self.head_full = cost.of_head(_head_rows(graph, terms)).total(keep)

    def require_reachable(self, graph: ChannelGraph, terms: Terms) -> None:
        """Raise where floors and protected layers don't let the unpruned network reach its budget.

        Scores have no part in it, so it is known before the first one. A later step would only know what is left of the
        network, and give its percents of that.
        """
        before = dict(self.prices)
        try:
            self.keep(graph, decide_unscored(graph, terms), terms, self.task.steps - 1)
        except SlimError as error:
            kept = [f"{block} keeps channels: {why}" for block, why in graph.blocks_kept().items()]
            raise error.as_kind(type(error), culprits=[*kept, *error.culprits]) from None
        finally:
            # Equal scores must not price the blocks; the first step does, by its own scores.
            self.prices = before

    def keep(self, graph: ChannelGraph, slots: list[Slot], terms: Terms, index: int) -> np.ndarray:
        """Kept channels of every slot after step ``index``, shape (slots,)."""
        config, cost = self.task.config, self._cost(graph, slots)
        target = self.full * (1 - self._removed_by(index, self.task.goal.removed))
        slots, value = self._priced(graph, slots)
        problem = Problem(slots=slots, cost=cost, target=target, round_to=terms.round_to)

        def allocate(problem: Problem) -> np.ndarray:
            if self.task.latency is not None:
                return allocate_global(problem, per_mac=PER_MS, reach=REACH)
            if config.scope in ("global", "block_costs"):
                # Priced scores mean mAP per millisecond only when they are divided by all of the MACs.
                return allocate_global(problem, per_mac=PER_MAC if value is None else 1.0, value=value)
            rule = allocate_uniform if config.scope == "uniform" else allocate_isomorphic
            return rule(problem, lambda slot: terms.head_rate if slot.head else 1.0)

        if config.head_removed is None:
            return allocate(problem)
        head_target = self.head_full * (1 - self._removed_by(index, config.head_removed))
        return allocate_apart(allocate, problem, head_rows=_head_rows(graph, terms), head_target=head_target)

    def _removed_by(self, index: int, removed: float) -> float:
        """Share to have removed after step ``index``, of all that the last step has ``removed``."""
        return scheduled(removed, index, self.task.steps, self.task.config.schedule)

    def _priced(self, graph: ChannelGraph, slots: list[Slot]) -> tuple[list[Slot], CostModel | None]:
        """Slots whose scores per MAC mean mAP per millisecond, and the MACs; unchanged without block costs."""
        if self.costs is None:
            return slots, None
        macs = self._counted(graph, slots, "MACs")
        # Once: later steps score what is left of a block, to which the measured cost doesn't belong.
        if not self.prices:
            factors = prices(slots, macs, self.costs).tolist()
            self.prices = {slot.name: factor for slot, factor in zip(slots, factors, strict=True)}
        return [replace(s, unit_scores=s.unit_scores * self.prices.get(s.name, 1.0)) for s in slots], macs

    def _cost(self, graph: ChannelGraph, slots: list[Slot]) -> Cost:
        """The cost model of the budget."""
        if self.task.latency is not None:
            return self.task.latency.model(graph, slots, self.task.goal)
        return self._counted(graph, slots)

    def _counted(self, graph: ChannelGraph, slots: list[Slot], what: str | None = None) -> CostModel:
        """The cost model of MACs or parameters: of the budget, or of ``what``."""
        goal = replace(self.task.goal, what=what) if what else self.task.goal
        return make_cost_model(graph, slots, self.exported.__contains__, goal)


def _head_rows(graph: ChannelGraph, terms: Terms) -> np.ndarray:
    """Which convolutions belong to the head, shape (convs,) bool."""
    return np.array([terms.in_head(name) for name in graph.convs])
