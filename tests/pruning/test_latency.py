"""What a network costs in milliseconds: the cost of a step is what the total falls by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yolo_slim.config.run import PruneConfig
from yolo_slim.measuring.latency import CACHED_MB
from yolo_slim.measuring.layer_grids import grid_from, layers_of_grid, weights_mb
from yolo_slim.models import checkpoint
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.latency import LatencyModel, largest_widths, make_latency_model
from yolo_slim.pruning.random_cuts import RandomCuts
from yolo_slim.pruning.slots import Slot, widths_of

IMGSZ = 96


def modelled(path: Path) -> tuple[ChannelGraph, list[Slot], LatencyModel]:
    """Make the cost of a network's cuts on a device that computes 16 outputs at once."""
    loaded = checkpoint.load(path)
    graph = trace_channels(loaded.model, IMGSZ)
    exported = exported_layers(loaded.model, end2end=False)
    slots = decide_unscored(graph, make_terms(loaded.model, graph, PruneConfig(), exported, {}))
    kinds = layer_kinds(loaded.model, IMGSZ, exported)
    grids = []
    for kind, widths in largest_widths(graph, slots, kinds).items():
        per_weight = 1e-8 * np.prod(kind.kernel) * np.prod(kind.output_size)
        ms = {
            (one.inputs, one.outputs): float(per_weight) * one.inputs * -(-one.outputs // 16) * 16
            for one in layers_of_grid(kind, *widths)
        }
        grids.append(grid_from(kind, *widths, ms))
    return graph, slots, make_latency_model(graph, slots, kinds, grids)


@pytest.mark.parametrize("family", ["yolov8n", "yolo26n"])
def test_saved_milliseconds_are_differences_of_totals(family: str, untrained: Callable[[str], Path]) -> None:
    """What a step of one slot saves is what the total falls by, for every slot of a real network."""
    _, slots, cost = modelled(untrained(family))
    keep, step = widths_of(slots), np.array([min(8.0, slot.width - 1) for slot in slots])
    saved = cost.saved(keep, step)
    for i in range(len(slots)):
        less = keep.copy()
        less[i] -= step[i]
        assert saved[i] == pytest.approx(cost.total(keep) - cost.total(less), abs=1e-9)


def test_weights_beyond_the_cache_do_not_count(untrained: Callable[[str], Path]) -> None:
    """A layer's weights count up to what a cache keeps of it; all of a wide network's weigh more than that."""
    _, slots, cost = modelled(untrained("yolov8n"))
    sizes = cost.reads @ widths_of(slots) + cost.reads_fixed, cost.writes @ widths_of(slots)
    load = cost.load(widths_of(slots))
    all_of_them = sum(
        float(weights_mb(kind.grid.kind, sizes[0][kind.rows], sizes[1][kind.rows]).sum()) for kind in cost.kinds
    )
    assert load.weights_mb <= CACHED_MB * len(sizes[1])
    assert load.weights_mb < 0.8 * all_of_them


def test_deep_cuts_remove_more_weights(untrained: Callable[[str], Path]) -> None:
    """Of networks that take equally long, those that are cut in the wide layers have clearly fewer weights."""
    graph, slots, cost = modelled(untrained("yolov8n"))
    cuts = RandomCuts(graph=graph, slots=slots, round_to=8, seed=0)
    for hardness in (0.4, 0.8):
        plain, deep = (cost.load(cuts.searched(5, cost, hardness=hardness, deep=deep)) for deep in (False, True))
        assert deep.layers_ms == pytest.approx(plain.layers_ms, rel=0.02)
        assert deep.weights_mb < 0.8 * plain.weights_mb
