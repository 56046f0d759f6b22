"""One block at a time: which decisions belong to it, and the cut that narrows it alone.

A slot belongs to the block of its name, the first convolution that writes it: the row that
:meth:`~yolo_slim.pruning.block_costs.BlockCosts.block_of` gives it. Where shortcuts couple layers of several
blocks, all of them narrow in that one block's measurement, and in no other's. Readers narrow with what they read.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from yolo_slim.pruning.block_costs import cut_of
from yolo_slim.pruning.decisions import Terms, decide
from yolo_slim.pruning.plan import kept_labels, make_plan
from yolo_slim.pruning.pruner import Ranked
from yolo_slim.pruning.slots import Slot, widths_of
from yolo_slim.pruning.surgery import apply_plan

LOOSEST = {"round_to": 1, "min_width": 1, "min_share": 0.0}
"""Settings under which a layer gives channels up whenever its structure lets it."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One row of the table: what is narrowed together while the rest stays."""

    name: str
    """``model.4``, or a branch of the head: ``model.22.cv2``."""
    slots: tuple[int, ...]
    """Places in the list of decisions."""


def block_name(slot: str, head: str) -> str:
    """The block of a slot: the top-level layer, in the last layer the branch.

    Args:
        slot: name of a convolution: ``model.22.cv2.0.0.conv``.
        head: start of the names of the last layer's modules: ``model.22.``.
    """
    parts = slot.split(".")
    return ".".join(parts[: 3 if slot.startswith(head) else 2])


def blocks_of(ranked: Ranked) -> list[Block]:
    """The blocks that can give channels up, in the network's order.

    A block is measured as the settings cut it. One that ``round_to`` or a floor alone keeps as it is is measured all
    the same, so that the table also serves settings with another ``round_to`` or floor.
    """
    # A table that was measured at round_to 16 would lack the narrow layers that round_to 8 can cut.
    open_slots = _open_slots(ranked.slots, ranked.terms)
    loosest = replace(ranked.terms, config=ranked.terms.config.model_copy(update=LOOSEST))
    possible = _open_slots(decide(ranked.graph, ranked.scores, loosest), ranked.terms)
    return [Block(name=name, slots=tuple(open_slots.get(name) or slots)) for name, slots in possible.items()]


def _open_slots(slots: list[Slot], terms: Terms) -> dict[str, list[int]]:
    """The slots of every block that may give channels up."""
    found: dict[str, list[int]] = {}
    for i, slot in enumerate(slots):
        if slot.floor < slot.width:
            found.setdefault(block_name(slot.name, terms.head), []).append(i)
    return found


def kept_in(ranked: Ranked, block: Block, removed: float) -> np.ndarray:
    """Kept channels of every slot, shape (slots,), when a block alone loses a share of its own.

    Each slot loses as many as :func:`~yolo_slim.pruning.block_costs.prices` assumes.
    """
    keep = widths_of(ranked.slots)
    for i in block.slots:
        keep[i] -= cut_of(ranked.slots[i].width, removed)
    return keep


def cut_alone(model: nn.Module, ranked: Ranked, keep: np.ndarray) -> nn.Module:
    """A copy of a network without the lowest-scored channels of every slot; its statistics are not re-estimated."""
    kept = kept_labels(ranked.graph, ranked.slots, keep, ranked.scores)
    # Used up here and never saved, so it needs no model and no settings.
    plan = make_plan(ranked.graph, kept, "", {})
    cut = copy.deepcopy(model)
    apply_plan(cut, plan)
    return cut
