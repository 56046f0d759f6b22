"""What must go of a network, and what it costs at given widths.

Everything here is arithmetic on arrays: no model, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.slots import Slot, slot_of_label
from yolo_slim.pruning.trace import ConvSite


def below(most: float) -> str:
    """Where a setting must be that asks for a share, rounded down."""
    return f"below {math.floor(most * 100) / 100:.2f}"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What must go of a network."""

    removed: float
    """Share, between 0 and 1."""
    what: str = "MACs"
    """``MACs`` or ``parameters``; in the head's own cost model the head's."""
    setting: str = "PRUNE"
    """What asks for it, for people."""
    limit: Callable[[float], str] = below
    """From the largest share that can go to where the setting must be, for people."""


class Cost(Protocol):
    """What a network costs as a function of the kept channels of each slot."""

    @property
    def goal(self) -> Goal:
        """What is counted, and which setting says how much of it goes, for people."""

    @property
    def of_all(self) -> bool:
        """Whether it is the cost of all layers, and not of the head alone."""

    def total(self, keep: np.ndarray) -> float:
        """Cost when slot s keeps ``keep[s]`` channels."""

    def saved(self, keep: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Cost saved by removing ``step[s]`` channels from slot s alone, shape (slots,)."""

    def of_head(self, rows: np.ndarray) -> Cost:
        """The cost of the head's convolutions alone, ``rows`` of shape (convs,) bool."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """What a network costs as a function of the kept channels of each slot.

    A convolution costs its unit times inputs times outputs, both of which are sums over slots.
    """

    reads: np.ndarray
    """Times that a convolution reads a slot's channels, shape (convs, slots)."""
    writes: np.ndarray
    """Times that a convolution writes them, shape (convs, slots)."""
    reads_fixed: np.ndarray
    """Input channels that no slot decides, shape (convs,)."""
    unit: np.ndarray
    """Cost of one input with one output channel, shape (convs,); 0 where the fused graph drops the convolution."""
    per_output: np.ndarray | None = None
    """Cost of an output channel whatever is read, shape (convs,): its bias. None: nothing."""
    goal: Goal
    """What is counted, and which setting says how much of it goes, for people."""
    of_all: bool = True
    """Whether it is the cost of all layers, and not of the head alone."""

    def total(self, keep: np.ndarray) -> float:
        """Cost when slot s keeps ``keep[s]`` channels."""
        outputs = self.writes @ keep
        paired = float((self.unit * self._inputs(keep) * outputs).sum())
        return paired if self.per_output is None else paired + float((self.per_output * outputs).sum())

    def saved(self, keep: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Cost saved by removing ``step[s]`` channels from slot s alone, shape (slots,)."""
        inputs, outputs = self._inputs(keep)[:, None], (self.writes @ keep)[:, None]
        # A layer may both write and read a slot, so the saving isn't a sum of two.
        after = (inputs - self.reads * step) * (outputs - self.writes * step)
        paired = np.asarray((self.unit[:, None] * (inputs * outputs - after)).sum(axis=0))
        return paired if self.per_output is None else paired + self.per_output @ self.writes * step

    def of_head(self, rows: np.ndarray) -> CostModel:
        """The cost of the head's convolutions alone, ``rows`` of shape (convs,) bool."""
        biases = None if self.per_output is None else self.per_output * rows
        goal = replace(self.goal, what=f"head's {self.goal.what}", setting="prune.head_removed", limit=below)
        return replace(self, unit=self.unit * rows, per_output=biases, goal=goal, of_all=False)

    def _inputs(self, keep: np.ndarray) -> np.ndarray:
        """Input channels of every convolution, shape (convs,)."""
        return np.asarray(self.reads @ keep + self.reads_fixed)


def make_cost_model(graph: ChannelGraph, slots: list[Slot], counted: Callable[[str], bool], goal: Goal) -> CostModel:
    """Build the cost model of a graph.

    Args:
        graph: the channel graph.
        slots: the decisions.
        counted: by its name, whether the fused graph has a convolution.
        goal: whose ``what`` is counted: MACs for one image, or parameters with one bias an output channel, as fusing
            leaves them.
    """
    sites = list(graph.convs.values())
    in_fused = np.array([float(counted(site.name)) for site in sites])
    reads, writes, fixed = channel_counts(graph, slots)
    of_macs = goal.what == "MACs"
    unit = np.array([_unit(site, of_macs=of_macs) for site in sites]) * in_fused
    per_output = None if of_macs else in_fused
    return CostModel(reads=reads, writes=writes, reads_fixed=fixed, unit=unit, per_output=per_output, goal=goal)


def _unit(site: ConvSite, *, of_macs: bool) -> float:
    """MACs, or weights, of one input with one output channel."""
    times = site.output_pixels if of_macs else 1
    return site.kernel_area * times / (1 if site.depthwise else site.groups)


def channel_counts(graph: ChannelGraph, slots: list[Slot]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often convolutions read and write each slot, and how many channels of no slot they read.

    Returns:
        Shapes (convs, slots), (convs, slots) and (convs,).
    """
    sites, home = list(graph.convs.values()), slot_of_label(graph, slots)
    # A label counts as keep / width of a channel: which labels of a slot go makes no difference to the cost.
    reads, writes = np.zeros((len(sites), len(slots))), np.zeros((len(sites), len(slots)))
    fixed = np.zeros(len(sites))
    for row, site in enumerate(sites):
        for label in site.outputs.tolist():
            writes[row, home[label]] += 1 / slots[home[label]].width
        if site.depthwise:
            # Every output reads one input, however wide the layer is.
            fixed[row] = 1
            continue
        for label in site.inputs.tolist():
            if label in home:
                reads[row, home[label]] += 1 / slots[home[label]].width
            else:
                fixed[row] += 1
    return reads, writes, fixed
