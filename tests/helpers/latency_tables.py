"""Small latency tables, made without a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_slim.backends.layers import LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.measuring.latency import Fit, LatencyOutputs, LatencyTable, TimedNetwork, table_name
from yolo_slim.measuring.layer_grids import LayerGrid, grid_from, layers_of_grid

KIND = LayerKind(kernel=(3, 3), stride=(2, 2), padding=(1, 1), depthwise=False, size=(40, 40), activation="silu")


def grid(ms: Any, kind: LayerKind = KIND, inputs: int = 128, outputs: int = 128) -> LayerGrid:
    """Time a kind by a function of its widths."""
    layers = layers_of_grid(kind, inputs, outputs)
    return grid_from(kind, inputs, outputs, {(one.inputs, one.outputs): ms(one.inputs, one.outputs) for one in layers})


def network(layers_ms: float, mb: float, ms: float, role: str = "fit", weights_mb: float = 0.0) -> TimedNetwork:
    """Make a timed network."""
    return TimedNetwork(name="random", layers_ms=layers_ms, moved_mb=mb, weights_mb=weights_mb, ms=ms, role=role)


def table(**changes: Any) -> LatencyTable:
    """Make a small table."""
    fields: dict[str, Any] = {
        "model_sha256": "0" * 64, "imgsz": 320, "target": "host", "build": BuildName("onnxruntime", "fp32"),
        "threads": 2, "machine": DeviceFacts(model="Example Board", arch="x86_64", cores=2),
        "is_measured_on_target": True, "measured_at": "2026-11-29T00:00:00+00:00", "command": "", "versions": {},
        "control_ms": 8.0, "overhead_ms": 2.0, "grids": (grid(lambda i, o: i * o * 1e-4),),
        "networks": (network(1, 1, 2), network(2, 1, 3, "check"), network(2, 2, 4, "check")),
        "fit": Fit(per_layer_ms=1.0, per_mb=0.0, per_weight_mb=0.0, constant_ms=1.0),
        "layer_seconds": 1.0, "seconds": 2.0,
    }  # fmt: skip
    return LatencyTable(**fields | changes)


def outputs_of(one: LatencyTable, folder: Path) -> LatencyOutputs:
    """Write a table as the stage does; whatever it says, the same was asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / table_name(one.build)
    one.save(path)
    return LatencyOutputs(tables={one.build: path}, page=folder / "latency.html", request="0" * 64)
