"""Multiply-accumulates of an ONNX graph, for files that come without their weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

COUNTED = {"Conv": "output", "ConvTranspose": "input"}
"""Operator to the tensor at whose positions all of its weights are applied."""


def count(path: Path) -> int:
    """Count one image's multiply-accumulates in convolutions, as :func:`yolo_slim.models.macs.measure` does."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {item.name: _shape(item) for item in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {item.name: list(item.dims) for item in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in COUNTED:
            # The weights of an int8 graph are the output of a DequantizeLinear, whose shape is inferred too.
            positions = node.output[0] if COUNTED[node.op_type] == "output" else node.input[0]
            total += math.prod(shapes[node.input[1]]) * math.prod(shapes[positions][2:])
    return total


def _shape(item: Any) -> list[int]:
    return [size.dim_value for size in item.type.tensor_type.shape.dim]
