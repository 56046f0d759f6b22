"""What a network costs in milliseconds: the cost of a step is what the total falls by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yolo_slim.config.run import PruneConfig
from yolo_slim.measuring.layer_grids import grid_from, layers_of_grid
from yolo_slim.models import checkpoint
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.latency import largest_widths, make_latency_model
from yolo_slim.pruning.slots import widths_of

IMGSZ = 96


@pytest.mark.parametrize("family", ["yolov8n", "yolo26n"])
def test_saved_milliseconds_are_differences_of_totals(family: str, untrained: Callable[[str], Path]) -> None:
    """What a step of one slot saves is what the total falls by, for every slot of a real network."""
    loaded = checkpoint.load(untrained(family))
    graph = trace_channels(loaded.model, IMGSZ)
    exported = exported_layers(loaded.model, end2end=False)
    slots = decide_unscored(graph, make_terms(loaded.model, graph, PruneConfig(), exported, {}))
    kinds = layer_kinds(loaded.model, IMGSZ, exported)
    grids = []
    for kind, widths in largest_widths(graph, slots, kinds).items():
        ms = {
            (one.inputs, one.outputs): one.inputs * -(-one.outputs // 16) * 1e-4
            for one in layers_of_grid(kind, *widths)
        }
        grids.append(grid_from(kind, *widths, ms))
    cost = make_latency_model(graph, slots, kinds, grids)
    keep, step = widths_of(slots), np.array([min(8.0, slot.width - 1) for slot in slots])
    saved = cost.saved(keep, step)
    for i in range(len(slots)):
        less = keep.copy()
        less[i] -= step[i]
        assert saved[i] == pytest.approx(cost.total(keep) - cost.total(less), abs=1e-9)
