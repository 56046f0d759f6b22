"""What a network costs in milliseconds on one device, as a function of the kept channels of each slot.

Everything here is arithmetic on arrays: no model, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolo_slim.backends.layers import LayerKind
from yolo_slim.measuring.latency import CACHED_MB, LAYERS_ALONE, Fit, Load
from yolo_slim.measuring.layer_grids import LayerGrid, grid_of, moved_mb, weights_mb
from yolo_slim.pruning.goal import Goal, channel_counts
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.slots import Slot, widths_of

MILLISECONDS = "milliseconds"
"""What a goal of this kind counts."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The convolutions of one kind."""

    grid: LayerGrid
    rows: np.ndarray
    """Their places among all convolutions."""


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """Milliseconds of a network's inference; satisfies :class:`yolo_slim.pruning.goal.Cost`."""

    reads: np.ndarray
    """Times that a convolution reads a slot's channels, shape (convs, slots)."""
    writes: np.ndarray
    """Times that a convolution writes them, shape (convs, slots)."""
    reads_fixed: np.ndarray
    """Input channels that no slot decides, shape (convs,)."""
    kinds: Sequence[_Rows]
    fit: Fit
    """From convolutions to a network."""
    goal: Goal
    of_all: bool = True

    def total(self, keep: np.ndarray) -> float:
        """Milliseconds when slot s keeps ``keep[s]`` channels."""
        found = self._ms(self.reads @ keep + self.reads_fixed, self.writes @ keep)
        return float(found.sum()) + (self.fit.constant_ms if self.of_all else 0.0)

    def saved(self, keep: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Milliseconds saved by removing ``step[s]`` channels from slot s alone, shape (slots,)."""
        inputs, outputs = self.reads @ keep + self.reads_fixed, self.writes @ keep
        before = self._ms(inputs, outputs)
        after = self._ms(inputs[:, None] - self.reads * step, outputs[:, None] - self.writes * step)
        return np.asarray((before[:, None] - after).sum(axis=0))

    def of_head(self, rows: np.ndarray) -> LatencyModel:
        """The milliseconds of the head's convolutions alone, ``rows`` of shape (convs,) bool."""
        kinds = [replace(kind, rows=kind.rows[rows[kind.rows]]) for kind in self.kinds]
        return replace(self, kinds=kinds, of_all=False)

    def load(self, keep: np.ndarray) -> Load:
        """What the time of a network is predicted from."""
        return self._load(self.reads @ keep + self.reads_fixed, self.writes @ keep).total

    def _ms(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Milliseconds of every convolution, its share of everything else included; the constant aside."""
        return np.asarray(self.fit.layers(self._load(inputs, outputs)))

    def _load(self, inputs: np.ndarray, outputs: np.ndarray) -> Load:
        """What the time of convolutions is predicted from, shape (convs, ...)."""
        layers, moved, weights = (np.zeros_like(outputs) for _ in range(3))
        for kind in self.kinds:
            given = inputs[kind.rows], outputs[kind.rows]
            layers[kind.rows] = kind.grid.ms_at(*given)
            moved[kind.rows] = moved_mb(kind.grid.kind, *given)
            weights[kind.rows] = np.minimum(weights_mb(kind.grid.kind, *given), CACHED_MB)
        return Load(layers_ms=layers, moved_mb=moved, weights_mb=weights)


def make_latency_model(
    graph: ChannelGraph,
    slots: list[Slot],
    kinds: Mapping[str, LayerKind],
    grids: Sequence[LayerGrid],
    *,
    fit: Fit = LAYERS_ALONE,
    goal: Goal | None = None,
) -> LatencyModel:
    """Build the latency model of a graph.

    Args:
        graph: the channel graph.
        slots: the decisions.
        kinds: the convolutions that the fused graph has, with their kinds.
        grids: what they take alone.
        fit: what a network of them takes.
        goal: whose setting asks for it; None: nothing is asked.

    Raises:
        SlimError: a layer whose kind has no grid.
    """
    sites = list(graph.convs.values())
    reads, writes, fixed = channel_counts(graph, slots)
    rows: dict[LayerKind, list[int]] = {}
    for row, site in enumerate(sites):
        if site.name in kinds:
            rows.setdefault(kinds[site.name], []).append(row)
    by_kind = [
        _Rows(grid=grid_of(grids, kind, sites[found[0]].name), rows=np.array(found)) for kind, found in rows.items()
    ]
    return LatencyModel(
        reads=reads,
        writes=writes,
        reads_fixed=fixed,
        kinds=by_kind,
        fit=fit,
        goal=goal or Goal(removed=0.0, what=MILLISECONDS),
    )


def largest_widths(
    graph: ChannelGraph, slots: list[Slot], kinds: Mapping[str, LayerKind]
) -> dict[LayerKind, tuple[int, int]]:
    """The largest input and output width of every kind, for the grid to reach."""
    sites = list(graph.convs.values())
    reads, writes, fixed = channel_counts(graph, slots)
    keep = widths_of(slots)
    inputs, outputs = reads @ keep + fixed, writes @ keep
    found: dict[LayerKind, tuple[int, int]] = {}
    for row, site in enumerate(sites):
        if site.name in kinds:
            kind = kinds[site.name]
            before = found.get(kind, (0, 0))
            found[kind] = (max(before[0], round(inputs[row])), max(before[1], round(outputs[row])))
    return found
