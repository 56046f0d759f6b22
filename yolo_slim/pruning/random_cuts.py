"""Networks that are cut at random, for timing: which channels go makes no difference to the time."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from torch import nn

from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.magnitude import label_count
from yolo_slim.pruning.plan import kept_labels, make_plan
from yolo_slim.pruning.slots import Slot, round_up, widths_of
from yolo_slim.pruning.surgery import apply_plan

LEAST, MOST = 0.1, 0.7
"""Share of its channels that a layer of the mildest and of the hardest network loses on average."""
SPREAD = 0.25
"""How far a single layer may be from its network's share."""
MOST_OF_A_LAYER = 0.9
"""Largest share that a single layer loses."""


@dataclass(frozen=True, kw_only=True)
class RandomCuts:
    """Random widths of one network."""

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

    def cut(self, model: nn.Module, keep: np.ndarray) -> nn.Module:
        """Cut a copy of the network to these widths."""
        scores = np.random.default_rng(self.seed).random(label_count(self.graph))
        plan = make_plan(self.graph, kept_labels(self.graph, self.slots, keep, scores), "", {})
        cut = copy.deepcopy(model)
        apply_plan(cut, plan)
        return cut
