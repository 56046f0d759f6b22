"""How many channels each layer keeps, so that the whole reaches a MACs budget at the least loss of score.

Everything here is arithmetic on arrays: no model, no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.pruning.groups import ChannelGraph


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Spaces that keep equal counts, as one decision: how many channels stay."""

    name: str
    """A convolution that writes it, for people."""
    spaces: tuple[int, ...]
    width: int
    floor: int
    """Fewest channels that may stay; equals ``width`` where nothing may go."""
    unit_scores: np.ndarray
    """Score lost with the r-th channel to go, ascending, shape (width,)."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """MACs as a function of the kept channels of each slot."""

    reads: np.ndarray
    """Times that a convolution reads a slot's channels, shape (convs, slots)."""
    writes: np.ndarray
    """Times that a convolution writes them, shape (convs, slots)."""
    reads_fixed: np.ndarray
    """Input channels that no slot governs, shape (convs,)."""
    unit: np.ndarray
    """MACs for one input and one output channel, shape (convs,); 0 where the fused graph drops the convolution."""

    def macs(self, keep: np.ndarray) -> float:
        """Return the MACs for one image when slot s keeps ``keep[s]`` channels."""
        return float((self.unit * self._inputs(keep) * (self.writes @ keep)).sum())

    def saved(self, keep: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the MACs saved by removing ``step[s]`` channels from slot s alone, shape (slots,)."""
        inputs, outputs = self._inputs(keep)[:, None], (self.writes @ keep)[:, None]
        after = (inputs - self.reads * step) * (outputs - self.writes * step)
        return np.asarray((self.unit[:, None] * (inputs * outputs - after)).sum(axis=0))

    def _inputs(self, keep: np.ndarray) -> np.ndarray:
        """Return the input channels of every convolution, shape (convs,)."""
        return np.asarray(self.reads @ keep + self.reads_fixed)


def make_slots(
    graph: ChannelGraph,
    scores: np.ndarray,
    *,
    round_to: int,
    floor: Callable[[str, int], int],
) -> list[Slot]:
    """Return one slot per set of tied spaces.

    Args:
        graph: the channel graph.
        scores: score of every label, shape (labels,).
        round_to: widths stay multiples of this.
        floor: from a writing convolution's name and its width to the fewest channels that may stay.
    """
    slots = []
    for members in graph.tied:
        spaces = [graph.spaces[i] for i in members]
        width = len(spaces[0].channels)
        name = (graph.members(spaces[0]) or ["?"])[0]
        frozen = any(space.frozen for space in spaces)
        lowest = width if frozen else min(width, _round_up(floor(name, width), round_to))
        slots.append(
            Slot(
                name=name,
                spaces=tuple(members),
                width=width,
                floor=lowest,
                unit_scores=sum(np.sort(scores[space.channels]) for space in spaces),  # type: ignore[arg-type]
            )
        )
    return slots


def make_cost_model(graph: ChannelGraph, slots: list[Slot], counted: Callable[[str], bool]) -> CostModel:
    """Return the MACs model of a graph; ``counted`` tells by its name whether the fused graph has a convolution."""
    home = {
        int(label): s for s, slot in enumerate(slots) for space in slot.spaces for label in graph.spaces[space].channels
    }
    shape = (len(graph.convs), len(slots))
    reads, writes = np.zeros(shape), np.zeros(shape)
    fixed, unit = np.zeros(shape[0]), np.zeros(shape[0])
    for row, site in enumerate(graph.convs.values()):
        unit[row] = site.kernel_area * site.output_pixels * counted(site.name) / (1 if site.depthwise else site.groups)
        for label in site.outputs.tolist():
            writes[row, home[label]] += 1 / slots[home[label]].width
        if site.depthwise or site.inputs is None:
            fixed[row] = 1 if site.depthwise else len(site.outputs)
            continue
        for label in site.inputs.tolist():
            if label in home:
                reads[row, home[label]] += 1 / slots[home[label]].width
            else:
                fixed[row] += 1
    return CostModel(reads=reads, writes=writes, reads_fixed=fixed, unit=unit)


def allocate_global(slots: list[Slot], cost: CostModel, *, target: float, round_to: int, per_mac: float) -> np.ndarray:
    """Return the kept channels of every slot, shape (slots,): the cheapest block of channels goes first.

    Args:
        slots: the decisions to make.
        cost: the MACs model.
        target: MACs that may remain.
        round_to: channels that go in one step.
        per_mac: exponent of the saved MACs in the ranking; 0 ranks by score alone, 1 by score per MAC.

    Raises:
        SlimError: every layer is at its floor and the target isn't met.
    """
    keep = np.array([slot.width for slot in slots], dtype=float)
    lost = [np.concatenate([[0.0], np.cumsum(slot.unit_scores)]) for slot in slots]
    taken: list[tuple[int, float]] = []
    while cost.macs(keep) > target:
        step = np.array([_next_step(slot, int(k), round_to) for slot, k in zip(slots, keep, strict=True)], dtype=float)
        saved = cost.saved(keep, step)
        loss = np.array(
            [_loss(c, slot.width - int(k), int(d)) for c, slot, k, d in zip(lost, slots, keep, step, strict=True)]
        )
        rank = np.where((step > 0) & (saved > 0), loss / np.maximum(saved, 1.0) ** per_mac, np.inf)
        best = int(rank.argmin())
        if not np.isfinite(rank[best]):
            raise _unreachable(slots, cost, keep, target)
        keep[best] -= step[best]
        taken.append((best, step[best]))
    return _given_back(keep, taken, cost, target)


def _given_back(keep: np.ndarray, taken: list[tuple[int, float]], cost: CostModel, target: float) -> np.ndarray:
    """Return the widths without the steps, dearest first, that the last one to go made needless."""
    for slot, step in reversed(taken):
        wider = keep.copy()
        wider[slot] += step
        if cost.macs(wider) <= target:
            keep = wider
    return keep


def allocate_local(
    slots: list[Slot], cost: CostModel, *, target: float, round_to: int, share: Callable[[str], float]
) -> np.ndarray:
    """Return the kept channels of every slot when each loses the same share, times ``share`` of its name.

    Raises:
        SlimError: the target isn't met though every layer is at its floor.
    """

    def keep_at(ratio: float) -> np.ndarray:
        widths = [slot.width * (1 - ratio * share(slot.name)) for slot in slots]
        return np.array(
            [
                max(slot.floor, min(slot.width, _round_up(int(w), round_to)))
                for slot, w in zip(slots, widths, strict=True)
            ],
            dtype=float,
        )

    low, high = 0.0, 1.0
    if cost.macs(keep_at(high)) > target:
        raise _unreachable(slots, cost, keep_at(high), target)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if cost.macs(keep_at(middle)) <= target else (middle, high)
    return keep_at(high)


def _round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is at least ``value``."""
    return -(-value // multiple) * multiple


def _next_step(slot: Slot, keep: int, round_to: int) -> int:
    """Return how many channels the next step removes: down to a multiple, 0 where the floor forbids it."""
    step = keep % round_to or round_to
    return step if keep - step >= max(slot.floor, 1) else 0


def _loss(cumulated: np.ndarray, removed: int, step: int) -> float:
    """Return the score that goes with the next ``step`` channels."""
    return float(cumulated[removed + step] - cumulated[removed])


def _unreachable(slots: list[Slot], cost: CostModel, keep: np.ndarray, target: float) -> SlimError:
    """Return the error for a budget below what the floors allow."""
    full = cost.macs(np.array([slot.width for slot in slots], dtype=float))
    most = 1 - cost.macs(keep) / full
    culprits = [
        f"{slot.name} ({slot.width} channels, floor {slot.floor})"
        for slot, k in sorted(zip(slots, keep, strict=True), key=lambda pair: -pair[0].width)
        if 0 < slot.floor < slot.width and k <= slot.floor
    ]
    return SlimError(
        f"Removing {1 - target / full:.0%} of the MACs would take layers below their floor; "
        f"at most {most:.0%} can go with these settings.",
        culprits=culprits,
        remedy=f"Set PRUNE below {most:.2f}, or lower prune.min_width or raise prune.head_gentleness.",
    )
