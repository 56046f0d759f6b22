"""One block at a time: every decision has a block, and a cut narrows its block alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.constants import FAMILIES
from tests.helpers.cuts import ranked
from yolo_slim.config.run import PruneConfig
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import conv_widths, measure
from yolo_slim.pruning.allocation import widths_of
from yolo_slim.pruning.block_costs import BlockCost, BlockCosts
from yolo_slim.pruning.blockwise import Block, block_name, blocks_of, cut_alone, kept_in
from yolo_slim.pruning.pruner import Ranked


def free(found: Ranked) -> set[str]:
    """Return the names of the slots that may give channels up."""
    return {slot.name for slot in found.slots if slot.floor < slot.width}


@pytest.mark.parametrize("family", [*FAMILIES, "yolov5n", "yolov9t", "yolov10n", "yolo12n"])
def test_every_slot_has_a_row(family: str, untrained: Callable[[str], Path]) -> None:
    """Whatever settings the table is measured with, every layer that any settings could narrow has a row of its
    block.
    """
    model = checkpoint.load(untrained(family)).model
    coarse, fine = ranked(model, PruneConfig(round_to=16)), ranked(model, PruneConfig(round_to=1, min_width=1))
    blocks = blocks_of(coarse)
    rows = tuple(BlockCost(name=block.name, map_cost=0.1, ms_gain=0.1) for block in blocks)
    costs = BlockCosts(model_sha256="0", removed=0.5, blocks=rows)
    assert free(coarse) < free(fine)
    for name in free(fine):
        row = costs.block_of(name)
        assert row is not None
        assert row.name == block_name(name, coarse.terms.head)
    assert len({block.name for block in blocks}) == len(blocks)
    assert all(block.slots for block in blocks)


def test_head_is_split_into_branches(untrained: Callable[[str], Path]) -> None:
    """The head's box and class branches are blocks of their own, each layer of the backbone is one."""
    names = [block.name for block in blocks_of(ranked(checkpoint.load(untrained("yolov8n")).model, PruneConfig()))]
    assert names[:3] == ["model.0", "model.1", "model.2"]
    assert names[-2:] == ["model.22.cv2", "model.22.cv3"]


def test_protected_layers_have_no_row(untrained: Callable[[str], Path]) -> None:
    """What the settings protect isn't measured."""
    model = checkpoint.load(untrained("yolov8n")).model
    names = [block.name for block in blocks_of(ranked(model, PruneConfig(protect=["model.0", "model.22.cv2"])))]
    assert "model.0" not in names
    assert "model.22.cv2" not in names
    assert "model.1" in names


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_narrows_its_block_alone(family: str, untrained: Callable[[str], Path]) -> None:
    """Half of every channel that the block decides goes, MACs fall, and no other block's outputs change."""
    model = checkpoint.load(untrained(family)).model
    found = ranked(model, PruneConfig())
    before = conv_widths(model)
    for block in blocks_of(found)[1::4]:
        keep = kept_in(found, block, 0.5)
        others = [i for i in range(len(found.slots)) if i not in block.slots]
        assert (keep[others] == widths_of(found.slots)[others]).all()
        cut = cut_alone(model, found, keep)
        changed = {name for name, width in conv_widths(cut).items() if width != before[name]}
        assert changed
        assert {block_name(name, found.terms.head) for name in changed} <= {block.name, *_coupled(found, block)}
        assert measure(cut, 64).macs < measure(model, 64).macs
    assert conv_widths(model) == before


def _coupled(found: Ranked, block: Block) -> set[str]:
    """Return the other blocks whose layers a block's slots write, or whose depthwise layers pass them on."""
    labels = {
        label for i in block.slots for space in found.slots[i].spaces for label in found.graph.spaces[space].channels
    }
    return {
        block_name(name, found.terms.head)
        for name, site in found.graph.convs.items()
        if labels & set(site.outputs.tolist())
    }


def test_one_channel_stays(untrained: Callable[[str], Path]) -> None:
    """However much is removed, no slot loses its last channel."""
    found = ranked(checkpoint.load(untrained("yolo11n")).model, PruneConfig())
    for block in blocks_of(found):
        assert kept_in(found, block, 0.99).min() >= 1
