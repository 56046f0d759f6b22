"""The decisions of a pruning: spaces of channels that keep equal counts, with what their channels are worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.trace import ConvSite


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
    head: bool = False
    """Whether it belongs to the last layer."""
    least: int = 0
    """The floor that it would have if the head gave up channels like the rest; 0: as ``floor``."""
    kind: str = ""
    """Its structure: equal for isomorphic slots."""
    unit: int = 1
    """Channels of a tensor that one of ``width`` stands for: the size of an attention head, which goes as one."""

    def multiple(self, round_to: int) -> int:
        """What its count must be a multiple of, so that tensors are multiples of ``round_to`` channels wide."""
        return round_to // math.gcd(round_to, self.unit)

    def next_step(self, keep: int, round_to: int) -> int:
        """How many channels go next when ``keep`` are left: down to a multiple, 0 where the floor forbids it."""
        multiple = self.multiple(round_to)
        # The first step may be a smaller one, which makes an odd width a multiple.
        step = keep % multiple or multiple
        return step if keep - step >= max(self.floor, 1) else 0


def make_slots(
    graph: ChannelGraph, scores: np.ndarray, *, round_to: int, floor: Callable[[str, int], int]
) -> list[Slot]:
    """Make one slot of every set of tied spaces; a set with a channel that has no score (NaN) can't be narrowed.

    Args:
        graph: the channel graph.
        scores: score of every label, shape (labels,).
        round_to: widths stay multiples of this.
        floor: from a writing convolution's name and its width to the fewest channels that may stay.
    """
    slots = []
    for members, kind in zip(graph.tied, structures(graph), strict=True):
        slot = _slot_at_full_width(graph, members, scores, kind)
        lowest = round_up(-(-floor(slot.name, slot.width * slot.unit) // slot.unit), slot.multiple(round_to))
        # bn has no score for layers without a normalisation; they stay, because nothing speaks for cutting them.
        frozen = any(graph.spaces[i].frozen for i in members) or _is_unscored(graph, members, scores)
        slots.append(slot if frozen else replace(slot, floor=min(slot.width, lowest)))
    return slots


def _slot_at_full_width(graph: ChannelGraph, members: list[int], scores: np.ndarray, kind: str) -> Slot:
    spaces = [graph.spaces[i] for i in members]
    width = len(spaces[0].channels)
    # The r-th channel to go is the r-th lowest of every space; tied spaces lose them together, so scores add up.
    lost: np.ndarray = sum(np.sort(scores[space.channels]) for space in spaces)  # type: ignore[assignment]
    return Slot(
        name=(graph.members(spaces[0]) or ["?"])[0],
        spaces=tuple(members),
        width=width,
        floor=width,
        # A slot without scores is closed by make_slots; NaN would spoil the sums that it is in.
        unit_scores=np.zeros(width) if np.isnan(lost).any() else lost,
        kind=kind,
        unit=max(space.unit for space in spaces),
    )


def _is_unscored(graph: ChannelGraph, members: list[int], scores: np.ndarray) -> bool:
    return any(bool(np.isnan(scores[graph.spaces[i].channels]).any()) for i in members)


def slot_of_label(graph: ChannelGraph, slots: list[Slot]) -> dict[int, int]:
    """Map every label to the place of its slot."""
    return {
        int(label): s for s, slot in enumerate(slots) for space in slot.spaces for label in graph.spaces[space].channels
    }


def structures(graph: ChannelGraph) -> list[str]:
    """Describe what writes and reads each set of tied spaces, equally for isomorphic sets, shape (sets,).

    As torch-pruning's ``isomorphic`` (Fang et al. 2024, Isomorphic Pruning for Vision Models): layer types and
    directions, whatever the widths; here with the kernel's size.
    """
    home = {
        int(label): i
        for i, members in enumerate(graph.tied)
        for space in members
        for label in graph.spaces[space].channels
    }
    tags: list[Counter[str]] = [Counter() for _ in graph.tied]
    for site in graph.convs.values():
        for direction, labels in (("out", site.outputs), ("in", site.inputs)):
            for i in {home[label] for label in np.unique(labels).tolist() if label in home}:
                tags[i][f"{_layer_kind(site)}-{direction}"] += 1
    return [" ".join(f"{count}x{tag}" for tag, count in sorted(counted.items())) for counted in tags]


def _layer_kind(site: ConvSite) -> str:
    return f"{'depthwise' if site.depthwise else 'transposed' if site.transposed else 'dense'}{site.kernel_area}"


def widths_of(slots: list[Slot]) -> np.ndarray:
    """Width of every slot, shape (slots,)."""
    return np.array([slot.width for slot in slots], dtype=float)


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is at least ``value``."""
    return -(-value // multiple) * multiple
