"""What may be cut at all: the slots of a network under the settings of a prune."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.magnitude import label_count
from yolo_slim.pruning.slots import Slot, make_slots

ROUND_TO = 8
"""Multiple of the widths where neither the settings nor a target say one."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What decides which slots may give channels up, and how many."""

    config: PruneConfig
    exported: frozenset[str]
    """Convolutions that the fused graph has; the others stay as they are."""
    head: str
    """Start of the names of the last layer's modules."""
    protected: frozenset[str]
    """Convolutions whose outputs stay."""
    widths: Mapping[str, int]
    """Name of a slot to its width in the unpruned network; empty where that is the network at hand."""

    @property
    def round_to(self) -> int:
        """What widths stay multiples of."""
        return self.config.round_to or ROUND_TO

    @property
    def head_rate(self) -> float:
        """How readily the head gives up channels; with a ratio of its own it is ranked like the rest."""
        return 1.0 if self.config.head_removed is not None else self.config.head_rate

    def in_head(self, name: str) -> bool:
        """Whether a convolution belongs to the last layer."""
        return name.startswith(self.head)

    def floor(self, name: str, width: int) -> int:
        """Fewest channels that a slot may keep, before rounding and without regard to the head rate."""
        # Of the unpruned width: a share of what is left would fall with every step.
        own = self.widths.get(name, width)
        return min(width, max(self.config.min_width, math.ceil(self.config.min_share * own)))


def make_terms(
    model: nn.Module, graph: ChannelGraph, config: PruneConfig, exported: frozenset[str], widths: Mapping[str, int]
) -> Terms:
    """Apply the settings of a prune to a network.

    Raises:
        SlimError: a pattern of ``prune.protect`` that fits no layer.
    """
    last = len(model.model) - 1  # type: ignore[arg-type]
    return Terms(
        config=config,
        exported=exported,
        head=f"model.{last}.",
        protected=protected(list(graph.convs), config.protect),
        widths=widths,
    )


def protected(names: list[str], patterns: list[str]) -> frozenset[str]:
    """Layers that are named, lie in a named block or fit a pattern.

    Raises:
        SlimError: patterns that fit no layer, with the nearest name.
    """
    found = {p: [n for n in names if n == p or n.startswith(f"{p}.") or fnmatchcase(n, p)] for p in patterns}
    # Patterns may also name a layer's block, so blocks are suggested too.
    known = [*names, *sorted({name.rsplit(".", i)[0] for name in names for i in (1, 2)})]
    unknown = [f"{p}: no such layer.{did_you_mean(p, known)}" for p, fits in found.items() if not fits]
    if unknown:
        raise SlimError(
            "prune.protect names layers that the model doesn't have.",
            culprits=unknown,
            remedy="`yolo-slim show MODEL` lists the layers; `model.2` stands for a block, `*` for any characters.",
        )
    return frozenset(name for fits in found.values() for name in fits)


def decide(graph: ChannelGraph, scores: np.ndarray, terms: Terms) -> list[Slot]:
    """Make the decisions of a network under its terms."""
    slots = make_slots(graph, scores, round_to=terms.round_to, floor=terms.floor)
    return [_under_terms(graph, slot, terms) for slot in slots]


def decide_unscored(graph: ChannelGraph, terms: Terms) -> list[Slot]:
    """The decisions where only widths and floors matter: all channels score the same."""
    return decide(graph, np.ones(label_count(graph)), terms)


def _under_terms(graph: ChannelGraph, slot: Slot, terms: Terms) -> Slot:
    """Close a slot that the settings keep, and make the head's scores as dear as the head rate says."""
    head = terms.in_head(slot.name)
    writers = {name for space in slot.spaces for name in graph.members(graph.spaces[space])}
    # What only training reads costs nothing on the device, so nothing is gained by cutting it.
    if not writers & terms.exported or writers & terms.protected:
        return replace(slot, floor=slot.width, head=head)
    rate = terms.head_rate if head else 1.0
    if rate == 0:
        return replace(slot, floor=slot.width, head=head, least=slot.floor)
    scores = slot.unit_scores if rate == 1 else slot.unit_scores / rate
    least = slot.floor if head and terms.config.head_removed is not None else slot.least
    return replace(slot, head=head, unit_scores=scores, least=least)


def slot_widths(slots: list[Slot]) -> dict[str, int]:
    """Width of every slot by name, in channels."""
    return {slot.name: slot.width * slot.unit for slot in slots}
