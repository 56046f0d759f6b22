"""Networks that are cut for timing: which channels go makes no difference to the time."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from yolo_slim.pruning.allocation import Problem, allocate_global
from yolo_slim.pruning.goal import Cost
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.magnitude import label_count
from yolo_slim.pruning.plan import kept_labels, make_plan
from yolo_slim.pruning.scope import PER_MS, REACH
from yolo_slim.pruning.slots import Slot, round_up, widths_of
from yolo_slim.pruning.surgery import apply_plan
from yolo_slim.pruning.unreachable import Unreachable

LEAST, MOST = 0.1, 0.7
"""Share of its channels that a layer of the mildest and of the hardest network loses on average."""
SPREAD = 0.25
"""How far a single layer may be from its network's share."""
MOST_OF_A_LAYER = 0.9
"""Largest share that a single layer loses."""
LEAST_MS, MOST_MS = 0.1, 0.6
"""Share of its milliseconds that the mildest and the hardest searched network loses."""
DEEP = 3.0
"""In a deep cut a channel's worth falls with this power of its layer's width. The scores of a trained network do that:
its first, narrow layers keep nearly all channels, and its wide ones lose most of the weights. At a power of 2 such cuts
still had more weights for their milliseconds than real cuts of a yolov8n."""


@dataclass(frozen=True, kw_only=True)
class RandomCuts:
    """Widths of one network: random ones, searched ones, or deep ones (searched, mostly in the wide layers).

    The three kinds differ in how many weights stay for equal milliseconds. If all networks lost both alike, a fit
    couldn't tell what each of them costs.
    """

    graph: ChannelGraph
    slots: list[Slot]
    round_to: int
    """Widths are multiples of this."""
    seed: int

    def widths(self, index: int, *, hardness: float) -> np.ndarray:
        """Kept channels of every slot, shape (slots,).

        Args:
            index: another one gives other widths.
            hardness: from 0, the mildest, to 1, the hardest cut.
        """
        rng = np.random.default_rng([self.seed, index])
        level = LEAST + (MOST - LEAST) * hardness
        keep = widths_of(self.slots)
        for i, slot in enumerate(self.slots):
            share = float(np.clip(level + rng.uniform(-SPREAD, SPREAD), 0.0, MOST_OF_A_LAYER))
            wanted = round_up(max(int(slot.width * (1 - share)), 1), slot.multiple(self.round_to))
            keep[i] = max(min(wanted, slot.width), slot.floor)
        return keep

    def searched(self, index: int, cost: Cost, *, hardness: float, deep: bool = False) -> np.ndarray:
        """Widths as a search for milliseconds finds them, for channels of random worth; shape (slots,).

        Such a search prefers widths that the runtime is fast at, so its networks are faster than random ones whose
        convolutions take as long alone.

        Args:
            index: another one gives other widths.
            cost: milliseconds of the convolutions.
            hardness: from 0, the mildest, to 1, the hardest cut.
            deep: whether channels of wide layers are worth less (:data:`DEEP`).
        """
        rng = np.random.default_rng([self.seed, index])
        slots = [
            # Layers differ in worth by more than the channels of one layer.
            replace(
                slot,
                unit_scores=rng.lognormal() * np.sort(rng.lognormal(size=slot.width)) / slot.width ** (DEEP * deep),
            )
            for slot in self.slots
        ]
        target = cost.total(widths_of(slots)) * (1 - LEAST_MS - (MOST_MS - LEAST_MS) * hardness)
        problem = Problem(slots=slots, cost=cost, target=target, round_to=self.round_to)
        try:
            return allocate_global(problem, per_mac=PER_MS, reach=REACH)
        except Unreachable:
            return self.widths(index, hardness=hardness)

    def cut(self, model: nn.Module, keep: np.ndarray) -> nn.Module:
        """Cut a copy of the network to these widths."""
        scores = np.random.default_rng(self.seed).random(label_count(self.graph))
        plan = make_plan(self.graph, kept_labels(self.graph, self.slots, keep, scores), "", {})
        cut = copy.deepcopy(model)
        apply_plan(cut, plan)
        return cut
