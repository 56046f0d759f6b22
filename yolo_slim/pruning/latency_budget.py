"""A budget in milliseconds: which build it is pruned for, and which share of the network's time must go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from yolo_slim.backends.layers import LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.measuring.latency import LatencyTable
from yolo_slim.measuring.latency_cut import table_ms_for
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.latency import MILLISECONDS, LatencyModel, make_latency_model
from yolo_slim.pruning.slots import Slot, widths_of

AIM = 0.99
"""Share of the budget that a cut aims at: at the budget itself, noise alone would decide about the gate."""
AFTER_A_MISS = 0.01
"""Share of the budget by which every cut that missed it lowers the aim, until one is inside."""


@dataclass(frozen=True, kw_only=True)
class LatencyGoal:
    """What a frame may take in one build."""

    table: LatencyTable
    kinds: Mapping[str, LayerKind]
    """Every convolution that the fused graph has."""
    frame_ms: float
    """Milliseconds that a frame may take, end to end."""
    setting: str
    """``prune.target_fps`` or ``prune.latency_ms``."""
    stride: int = 32
    """The network's largest stride, pixels: input sides are multiples of it."""
    correction: float = 1.0
    """What measured cuts took, in units of the table's prediction."""
    misses: int = 0
    """Cuts that missed the budget before the next one, if none was inside."""

    @property
    def build(self) -> BuildName:
        """Runtime and precision that it is about."""
        return self.table.build

    @property
    def infer_ms(self) -> float:
        """What is left for inference, in the table's own milliseconds."""
        return self._wanted_ms / self.correction

    @property
    def leaves_nothing(self) -> bool:
        """Whether pre- and post-processing alone take as long as a frame may."""
        return self._wanted_ms <= 0

    @property
    def _wanted_ms(self) -> float:
        """What a cut's inference should take, milliseconds."""
        return (AIM - AFTER_A_MISS * self.misses) * self.frame_ms - self.table.overhead_ms

    def model(self, graph: ChannelGraph, slots: list[Slot], goal: Goal | None = None) -> LatencyModel:
        """The cost of a network's cuts."""
        return make_latency_model(graph, slots, self.kinds, self.table.grids, fit=self.table.fit, goal=goal)

    def goal(self, graph: ChannelGraph, slots: list[Slot]) -> Goal:
        """The share of the unpruned network's milliseconds that must go."""
        full = self.model(graph, slots).total(widths_of(slots))
        return Goal(
            removed=1 - self.infer_ms / full,
            what=MILLISECONDS,
            setting=self.setting,
            limit=lambda most: self._limit(full * (1 - most)),
        )

    def frame_of(self, infer_ms: float) -> float:
        """The frame of a network whose inference takes so many of the table's milliseconds."""
        return infer_ms * self.correction + self.table.overhead_ms

    @property
    def asked(self) -> str:
        """The budget for people, as it was asked for."""
        return f"{1000 / self.frame_ms:g} FPS" if "fps" in self.setting else f"{self.frame_ms:g} ms a frame"

    def _limit(self, infer_ms: float) -> str:
        return limit_of(self.setting, self.frame_of(infer_ms))

    def of_a_cut(self, graph: ChannelGraph, slots: list[Slot]) -> LatencyGoal:
        """The goal to begin with. Where the table takes the unpruned network for fast enough, it is corrected by it."""
        full = self.model(graph, slots).total(widths_of(slots))
        return self if self.infer_ms < full else self.corrected([(full, self.table.control_ms)])

    def corrected(self, found: Sequence[tuple[float, float]], *, misses: int = 0) -> LatencyGoal:
        """The same goal after cuts; of each what the table alone predicted of its inference, and what was measured."""
        after = replace(self, misses=misses)
        return replace(after, correction=after._wanted_ms / table_ms_for(after._wanted_ms, found))


def limit_of(setting: str, frame_ms: float) -> str:
    """Where a setting must be for a frame of so many milliseconds to be aimed at, for people."""
    frame = frame_ms / AIM
    if "fps" in setting:
        return f"to at most {math.floor(10_000 / frame) / 10:g}"
    return f"to at least {math.ceil(100 * frame) / 100:.2f}"
