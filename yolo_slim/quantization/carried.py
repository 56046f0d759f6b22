"""A graph that training or another tool has quantized: its codes and ranges are carried through, made symmetric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.ranges import LEVELS

QUANTIZE, DEQUANTIZE = graphs.QUANTIZED_OPS


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A quantized graph taken apart."""

    model: Any
    """The float graph without Q/DQ nodes; its weights are what the int8 codes stand for."""
    layers: tuple[str, ...]
    """Convolutions that were int8."""
    inputs: dict[str, NDArray[np.float64]]
    """What those convolutions read to the largest value that int8 represents, (1,)."""
    weight_scales: dict[str, NDArray[np.float64]]
    """Weight to its scale per output channel; a weight that wasn't symmetric is left out, and quantized anew."""


def take_apart(model: Any) -> Carried:
    """Return the float graph, the layers and the ranges of a graph with Q/DQ nodes.

    Activation ranges become symmetric around 0, int32 biases become floats again.

    Raises:
        SlimError: no quantized convolution, or a Q/DQ node whose scale isn't constant.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    constants = _constants(copied)
    pairs = {node.output[0]: node for node in copied.graph.node if node.op_type == DEQUANTIZE}
    _require_constant([node for node in copied.graph.node if node.op_type in graphs.QUANTIZED_OPS], constants)
    sources = {node.output[0]: node for node in copied.graph.node if node.op_type == QUANTIZE}
    inputs, scales, layers = {}, {}, []
    body = set(graphs.parts(copied).body)
    for node in copied.graph.node:
        if node.op_type != "Conv" or not all(name in pairs for name in node.input[:2]):
            continue
        read, weight = pairs[node.input[0]], pairs[node.input[1]]
        if read.input[0] in sources and node.name in body:
            layers.append(node.name)
            inputs[_origin(node.input[0], pairs, sources)] = _symmetric_limit(read, constants)
            if not _zero_point(weight, constants).any():  # else the codes don't fit symmetric int8 as they are
                scales[node.input[1]] = _per_channel(weight, constants)
    if not layers:
        raise SlimError(
            "The graph has Q/DQ nodes, but no convolution that they make int8.",
            remedy="Give the stage the float export, and it quantizes that.",
        )
    _strip(copied, pairs, sources, constants)
    return Carried(model=copied, layers=tuple(layers), inputs=inputs, weight_scales=scales)


def _constants(model: Any) -> dict[str, NDArray[Any]]:
    """Return every constant of a graph."""
    from onnx import numpy_helper

    found = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _require_constant(nodes: list[Any], constants: dict[str, NDArray[Any]]) -> None:
    """Raise unless scales and zero points are constants."""
    culprits = [node.name for node in nodes if not all(name in constants for name in node.input[1:])]
    if culprits:
        raise SlimError("Q/DQ nodes have scales that the graph computes.", culprits=culprits, remedy="Use static ones.")


def _origin(tensor: str, pairs: dict[str, Any], sources: dict[str, Any]) -> str:
    """Return the float tensor behind a chain of Q/DQ pairs."""
    while tensor in pairs and pairs[tensor].input[0] in sources:
        tensor = sources[pairs[tensor].input[0]].input[0]
    return tensor


def _zero_point(node: Any, constants: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return a Q/DQ node's zero point; a missing one is uint8 0."""
    return constants[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)


def _symmetric_limit(node: Any, constants: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the largest absolute value that an activation's codes stand for, as the end of a symmetric range."""
    scale, zero = constants[node.input[1]].astype(np.float64), _zero_point(node, constants)
    if scale.size != 1:
        raise SlimError(
            f"{node.name}: an activation has {scale.size} scales.", remedy="Quantize activations per tensor."
        )
    span = np.iinfo(zero.dtype)
    if not zero.any() and zero.dtype == np.int8:
        return np.array([float(scale.ravel()[0]) * LEVELS])
    ends = (np.array([span.min, span.max]) - int(zero.ravel()[0])) * float(scale.ravel()[0])
    return np.array([np.abs(ends).max()])


def _per_channel(node: Any, constants: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return a weight's scales, one per output channel."""
    scale = constants[node.input[1]].astype(np.float64).ravel()
    stored = constants.get(node.input[0])
    channels = len(stored) if stored is not None and stored.ndim else len(scale)
    return np.broadcast_to(scale, (channels,)).copy() if len(scale) == 1 else scale


def _strip(model: Any, pairs: dict[str, Any], sources: dict[str, Any], constants: dict[str, NDArray[Any]]) -> None:
    """Remove the Q/DQ nodes: constants become what their codes stand for, activations skip their pairs."""
    from onnx import numpy_helper

    renamed: dict[str, str] = {}
    weights: dict[str, NDArray[np.float32]] = {}
    for name, node in pairs.items():
        value = _folded(node, sources, constants)
        if value is None:
            renamed[name] = _origin(name, pairs, sources)
        else:
            weights[name] = value
    kept = [node for node in model.graph.node if node.op_type not in graphs.QUANTIZED_OPS]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    read = {name for node in kept for name in node.input}
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    stored = [item for item in model.graph.initializer if item.name in read]
    stored = [type(item).FromString(item.SerializeToString()) for item in stored]
    stored += [numpy_helper.from_array(value, name) for name, value in weights.items() if name in read]
    for field, values in ((model.graph.node, copies), (model.graph.initializer, stored)):
        del field[:]
        field.extend(values)


def _folded(node: Any, sources: dict[str, Any], constants: dict[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """Return what a dequantized constant stands for; None for an activation."""
    source = sources.get(node.input[0])
    raw = constants.get(source.input[0] if source is not None else node.input[0])
    if raw is None:
        return None
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    scale, zero = constants[node.input[1]].astype(np.float64), _zero_point(node, constants).astype(np.float64)
    if scale.size > 1:
        shape = [-1 if i == axis % raw.ndim else 1 for i in range(raw.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    codes = raw.astype(np.float64)
    if source is not None:
        span = np.iinfo(_zero_point(source, constants).dtype)
        codes = np.clip(np.rint(codes / scale) + zero, span.min, span.max)
    return np.asarray(((codes - zero) * scale), np.float32)
