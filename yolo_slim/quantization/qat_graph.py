"""A graph from quantization-aware training (or another tool): its layers, int8 codes and ranges, made symmetric.

Such graphs have Q/DQ nodes that ONNX Runtime runs in float and that TensorRT partly refuses. The nodes are removed
here; the quantize stage then writes its own, with the codes and ranges of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError
from yolo_slim.models.exported import GraphLayout, layout_of
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.thresholds import INT8_MAX, Floats

Constants = dict[str, NDArray[Any]]
"""Name to value of everything that is stored in a graph."""


@dataclass(frozen=True, kw_only=True)
class QatGraph:
    """A quantized graph without its Q/DQ nodes, and what those nodes said."""

    model: Any
    """The float graph; its weights are the values that the int8 codes stand for."""
    layers: tuple[str, ...]
    """Convolutions that were int8."""
    input_ranges: dict[str, Floats]
    """Input of those convolutions to the largest value that int8 represents, (1,)."""
    weight_scales: dict[str, Floats]
    """Weight to its scale per output channel. A weight that wasn't symmetric is left out, and quantized anew."""


@dataclass(frozen=True, kw_only=True)
class _Nodes:
    """The Q/DQ nodes of a graph."""

    dequantize: dict[str, Any]
    """Tensor to the DequantizeLinear that writes it."""
    quantize: dict[str, Any]
    """Tensor to the QuantizeLinear that writes it."""
    constants: Constants

    def origin(self, tensor: str) -> str:
        """The float tensor before a chain of Q/DQ pairs."""
        while tensor in self.dequantize and self.dequantize[tensor].input[0] in self.quantize:
            tensor = self.quantize[self.dequantize[tensor].input[0]].input[0]
        return tensor


def read_qat_graph(model: Any) -> QatGraph:
    """Separate a graph with Q/DQ nodes into its float graph, its int8 layers and their ranges.

    Activation ranges become symmetric around 0, int32 biases become floats again.

    Raises:
        SlimError: no quantized convolution, or a Q/DQ node whose scale isn't constant.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    nodes = _nodes(copied)
    inputs, scales, layers = {}, {}, []
    for node in _int8_convolutions(copied, nodes):
        # Convolutions that read one tensor share its range.
        read, weight = nodes.dequantize[node.input[0]], nodes.dequantize[node.input[1]]
        layers.append(node.name)
        inputs[nodes.origin(node.input[0])] = _symmetric_limit(read, nodes.constants)
        # Codes with a zero point don't fit symmetric int8.
        if not _zero_point(weight, nodes.constants).any():
            scales[node.input[1]] = _per_channel(weight, nodes.constants)
    if not layers:
        raise SlimError(
            "The graph has Q/DQ nodes, but no convolution that they make int8.",
            remedy="Give the stage the float export, and it quantizes that.",
        )
    _remove_pairs(copied, nodes)
    return QatGraph(model=copied, layers=tuple(layers), input_ranges=inputs, weight_scales=scales)


def load_qat_graph(onnx: Path, float_onnx: Path, layout: GraphLayout) -> Any:
    """Read the graph with Q/DQ nodes that belongs to a float graph of this layout.

    Raises:
        SlimError: a graph without Q/DQ nodes, or of another size, layout or classes than the float one.
    """
    other, model = layout_of(onnx), graphs.load(onnx)
    is_quantized = graphs.is_quantized(model)
    is_same = (other.imgsz, other.layout, other.names) == (layout.imgsz, layout.layout, layout.names)
    if not is_quantized or not is_same:
        fact = "has another size, layout or classes than" if is_quantized else "has no Q/DQ nodes, as"
        raise SlimError(
            f"{onnx} {fact} {float_onnx}.",
            remedy="Give the model-qat.onnx that the export stage wrote beside the float graph.",
        )
    return model


def require_trained_ranges(onnx: Path, model: Any, qat_onnx: Path | None) -> None:
    """Raise where a float graph's weights were trained quantized, but the graph with their ranges isn't given.

    Raises:
        SlimError: int8 would be calibrated, and the training's ranges lost.
    """
    metadata = {item.key: item.value for item in model.metadata_props}
    if graphs.TRAINED_KEY in metadata and qat_onnx is None:
        raise SlimError(
            f"{onnx} comes from quantization-aware training; without its ranges int8 would be calibrated anew.",
            remedy=f"Give them with --trained {onnx.with_name(metadata[graphs.TRAINED_KEY])}.",
        )


def _nodes(model: Any) -> _Nodes:
    constants = _constants(model)
    _require_constant([node for node in model.graph.node if node.op_type in graphs.QUANTIZED_OPS], constants)
    return _Nodes(
        dequantize={node.output[0]: node for node in model.graph.node if node.op_type == graphs.DEQUANTIZE},
        quantize={node.output[0]: node for node in model.graph.node if node.op_type == graphs.QUANTIZE},
        constants=constants,
    )


def _int8_convolutions(model: Any, nodes: _Nodes) -> list[Any]:
    """Convolutions before the head's end whose input and weight are both dequantized."""
    body = set(graphs.parts(model).body)
    return [
        node
        for node in model.graph.node
        if node.op_type == "Conv"
        and node.name in body
        and all(name in nodes.dequantize for name in node.input[:2])
        and nodes.dequantize[node.input[0]].input[0] in nodes.quantize
    ]


def _constants(model: Any) -> Constants:
    found = {item.name: graphs.array_of(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = graphs.array_of(node.attribute[0].t)
    return found


def _require_constant(nodes: list[Any], constants: Constants) -> None:
    """Raise unless scales and zero points are constants."""
    culprits = [node.name for node in nodes if not all(name in constants for name in node.input[1:])]
    if culprits:
        raise SlimError("Q/DQ nodes have scales that aren't constants.", culprits=culprits, remedy="Use static ones.")


def _zero_point(node: Any, constants: Constants) -> NDArray[Any]:
    """A Q/DQ node's zero point; ONNX defines a missing one as uint8 0."""
    return constants[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)


def _symmetric_limit(node: Any, constants: Constants) -> Floats:
    """The largest absolute value that an activation's codes stand for, as the end of a symmetric range."""
    scale, zero = constants[node.input[1]].astype(np.float64), _zero_point(node, constants)
    if scale.size != 1:
        raise SlimError(
            f"{node.name}: an activation has {scale.size} scales.", remedy="Quantize activations per tensor."
        )
    span = np.iinfo(zero.dtype)
    if not zero.any() and zero.dtype == np.int8:
        # 127 steps, not 128: quantizing anew then gives exactly the scale of the training.
        return np.array([float(scale.ravel()[0]) * INT8_MAX])
    ends = (np.array([span.min, span.max]) - int(zero.ravel()[0])) * float(scale.ravel()[0])
    return np.array([np.abs(ends).max()])


def _per_channel(node: Any, constants: Constants) -> Floats:
    """A weight's scales, one per output channel."""
    scale = constants[node.input[1]].astype(np.float64).ravel()
    stored = constants.get(node.input[0])
    channels = len(stored) if stored is not None and stored.ndim else len(scale)
    return np.broadcast_to(scale, (channels,)).copy() if len(scale) == 1 else scale


def _remove_pairs(model: Any, nodes: _Nodes) -> None:
    """Remove the Q/DQ nodes: constants become the values of their codes, activations skip their pairs."""
    from onnx import numpy_helper

    renamed: dict[str, str] = {}
    weights: dict[str, NDArray[np.float32]] = {}
    for name, node in nodes.dequantize.items():
        value = _folded(node, nodes)
        if value is None:
            renamed[name] = nodes.origin(name)
        else:
            weights[name] = value
    kept = [node for node in model.graph.node if node.op_type not in graphs.QUANTIZED_OPS]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    read = {name for node in kept for name in node.input}
    stored = [item for item in model.graph.initializer if item.name in read]
    stored += [numpy_helper.from_array(value, name) for name, value in weights.items() if name in read]
    graphs.replace_items(model.graph.node, kept)
    graphs.replace_items(model.graph.initializer, stored)


def _folded(node: Any, nodes: _Nodes) -> NDArray[np.float32] | None:
    """The value of a dequantized constant; None for an activation."""
    source = nodes.quantize.get(node.input[0])
    raw = nodes.constants.get(source.input[0] if source is not None else node.input[0])
    if raw is None:
        return None
    scale, zero = _broadcast(node, nodes.constants, raw.ndim)
    codes = raw.astype(np.float64)
    # Some tools store the float weight and quantize it in the graph: then its codes are computed here.
    if source is not None:
        span = np.iinfo(_zero_point(source, nodes.constants).dtype)
        codes = np.clip(np.rint(codes / scale) + zero, span.min, span.max)
    return np.asarray(((codes - zero) * scale), np.float32)


def _broadcast(node: Any, constants: Constants, dimensions: int) -> tuple[Floats, Floats]:
    """A Q/DQ node's scale and zero point, shaped to fit its tensor."""
    # 1 is ONNX's default.
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    scale, zero = constants[node.input[1]].astype(np.float64), _zero_point(node, constants).astype(np.float64)
    if scale.size > 1:
        shape = [-1 if i == axis % dimensions else 1 for i in range(dimensions)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return scale, zero
