"""The int8 graph: quantize/dequantize pairs that TensorRT parses and ONNX Runtime fuses into integer convolutions.

Symmetric int8 for activations and weights (every zero point is 0), one scale per output channel of a weight, float
biases: TensorRT refuses other zero points and int32 biases (docs/adr/0003-quantize.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.ranges import LEVELS, METHODS, ChannelPeaks, Histogram, InputMeans

EXTRA_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
"""Of ``onnxruntime.quantization``; what makes the graph acceptable to both runtimes."""
LEAST_LIMIT = 1e-6
"""A channel that is always 0 still needs a scale."""

Ranges = Mapping[str, NDArray[np.float64]]
"""Tensor to the largest value that int8 represents: (1,), or one a channel."""


def observers(model: Any, layers: Collection[str]) -> dict[str, Histogram | ChannelPeaks]:
    """Return empty statistics for the activations of the int8 layers.

    What a convolution reads has one range. What it writes has one a channel, unless another int8 convolution reads it.
    """
    nodes = graphs.nodes_named(model, layers)
    written: dict[str, Histogram | ChannelPeaks] = {node.output[0]: ChannelPeaks() for node in nodes}
    return written | {node.input[0]: Histogram() for node in nodes}


def ranges_of(statistics: Mapping[str, Histogram | ChannelPeaks], method: str) -> dict[str, NDArray[np.float64]]:
    """Return the ranges; ``method`` is how those of whole tensors are found, channels take their largest value."""
    found = {
        name: np.array([METHODS[method](held)]) if isinstance(held, Histogram) else held.largest
        for name, held in statistics.items()
    }
    return {name: np.maximum(limits, LEAST_LIMIT) for name, limits in found.items()}


def input_means(model: Any, layers: Collection[str], ranges: Ranges) -> dict[str, InputMeans]:
    """Return empty statistics for what the layers read, from which :func:`bias_shifts` are computed."""
    read = dict.fromkeys(node.input[0] for node in graphs.nodes_named(model, layers))
    return {name: InputMeans(float(ranges[name][0])) for name in read}


def bias_shifts(model: Any, layers: Collection[str], means: Mapping[str, InputMeans]) -> dict[str, NDArray[np.float64]]:
    """Return what each layer's bias must gain so that int8 leaves the mean of its output where it was, (channels,).

    Rounded weights and clipped inputs move whole channels (Nagel et al., "Data-Free Quantization Through Weight
    Equalization and Bias Correction", 2019). Taps that lie on padding count as 0.
    """
    stored = {item.name: item for item in model.graph.initializer}
    found = {}
    for node in graphs.nodes_named(model, layers):
        if len(node.input) < 3:
            continue
        weight = numpy_of(stored[node.input[1]]).astype(np.float64)
        step = np.maximum(np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / LEVELS, LEAST_LIMIT**2)
        held = means[node.input[0]]
        inside = _inside_share(node, held.size_hw, (weight.shape[2], weight.shape[3]))
        exact, rounded = (weight * inside).sum(axis=(2, 3)), (np.rint(weight / step) * step * inside).sum(axis=(2, 3))
        before, after = held.means()
        if weight.shape[1] == len(before):
            found[node.name] = exact @ before - rounded @ after
        elif weight.shape[1] == 1:  # depthwise
            found[node.name] = exact[:, 0] * before - rounded[:, 0] * after
    return found


def _inside_share(node: Any, size_hw: tuple[int, int], kernel_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return how often each tap of a kernel lies inside its input and not on padding, (kernel height, width)."""
    settings = {item.name: list(item.ints) for item in node.attribute}
    strides, pads = settings.get("strides", [1, 1]), settings.get("pads", [0, 0, 0, 0])
    shares = []
    for axis in range(2):
        size, kernel = size_hw[axis], kernel_hw[axis]
        starts = np.arange(-pads[axis], size + pads[axis + 2] - kernel + 1, strides[axis])[:, None]
        taps = starts + np.arange(kernel)
        shares.append(((taps >= 0) & (taps < size)).mean(axis=0))
    return np.outer(*shares)


def quantize(
    model: Any,
    layers: Collection[str],
    ranges: Ranges,
    *,
    outputs: bool = True,
    shifts: Ranges | None = None,
    weight_scales: Ranges | None = None,
) -> Any:
    """Return a graph whose named convolutions are int8.

    Args:
        model: float ``ModelProto``, left as it is.
        layers: names of convolutions.
        ranges: of these layers' tensors at least.
        outputs: also quantize what the convolutions write. ONNX Runtime needs that to run them as integers; TensorRT
            doesn't, and each skipped rounding is accuracy kept.
        shifts: layer to what its bias gains, see :func:`bias_shifts`.
        weight_scales: weight to its scale per output channel, where training has fixed it; else from its largest value.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    nodes = graphs.nodes_named(copied, layers)
    for node in nodes:
        if shifts and node.name in shifts:
            _shift_bias(copied, node.input[2], shifts[node.name])
    written = {node.output[0]: node for node in nodes if outputs and len(ranges[node.output[0]]) > 1}
    factors = {node.input[1]: 1 / ranges[name] for name, node in written.items()}
    for name, node in written.items():
        _scale_channels(copied, node, 1 / ranges[name])
    read = {node.input[0] for node in nodes} | {node.output[0] for node in nodes}
    limits = {name: 1.0 if len(ranges[name]) > 1 else float(ranges[name][0]) for name in read}
    scales = {name: scale * factors.get(name, 1.0) for name, scale in (weight_scales or {}).items()}
    quantized = _insert_pairs(copied, layers, limits, scales, outputs=outputs)
    for name in written:
        _dequantize_channels(quantized, name, ranges[name])
    return quantized


def blockers(model: Any) -> list[str]:
    """Return what TensorRT's parser would refuse in a graph's Q/DQ nodes; empty when there is nothing."""
    from onnx import TensorProto

    stored = {item.name: item for item in model.graph.initializer}
    found = []
    for node in (node for node in model.graph.node if node.op_type in graphs.QUANTIZED_OPS):
        zero = stored.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.INT8:
            found.append(f"{node.name}: codes that aren't int8")
        elif numpy_of(zero).any():
            found.append(f"{node.name}: a zero point other than 0")
    return found


def numpy_of(initializer: Any) -> NDArray[Any]:
    """Return a stored constant as an array."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(initializer))


def _insert_pairs(
    model: Any, layers: Collection[str], limits: Mapping[str, float], weight_scales: Ranges, *, outputs: bool
) -> Any:
    """Let ONNX Runtime's quantizer put Q/DQ pairs around the layers."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    weights = {item.name: numpy_of(item) for item in model.graph.initializer if item.name in weight_scales}
    data = {
        name: TensorData(lowest=np.array(-limit, np.float32), highest=np.array(limit, np.float32))
        for name, limit in limits.items()
    }
    extra: dict[str, Any] = dict(EXTRA_OPTIONS)
    if not outputs:
        extra["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    quantizer = QDQQuantizer(
        model,
        True,  # per channel
        False,  # not a reduced range
        QuantType.QInt8,
        QuantType.QInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        sorted(layers),
        [],
        ["Conv"],
        extra,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    for name, scale in weight_scales.items():
        _fix_weight_scale(quantized, name, weights[name], scale)
    return quantized


def _shift_bias(model: Any, name: str, shift: NDArray[np.float64]) -> None:
    """Add to a bias."""
    from onnx import numpy_helper

    stored = next(item for item in model.graph.initializer if item.name == name)
    stored.CopyFrom(numpy_helper.from_array((numpy_of(stored) + shift).astype(np.float32), name))


def _scale_channels(model: Any, node: Any, factors: NDArray[np.float64]) -> None:
    """Multiply the output channels of a convolution."""
    from onnx import numpy_helper

    stored = {item.name: item for item in model.graph.initializer}
    for name in node.input[1:]:
        value = numpy_of(stored[name])
        shape = (-1, *[1] * (value.ndim - 1))
        stored[name].CopyFrom(numpy_helper.from_array((value * factors.reshape(shape)).astype(np.float32), name))


def _dequantize_channels(model: Any, tensor: str, factors: NDArray[np.float64]) -> None:
    """Undo :func:`_scale_channels` where the tensor's int8 codes become floats again: one scale a channel."""
    from onnx import helper, numpy_helper

    quantizer = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor)
    stored = {item.name: item for item in model.graph.initializer}
    scale = numpy_of(stored[quantizer.input[1]])
    names = [f"{tensor}_channel_scale", f"{tensor}_channel_zero_point"]
    values = [(scale * factors).astype(np.float32), np.zeros(len(factors), np.int8)]
    model.graph.initializer.extend(numpy_helper.from_array(*pair) for pair in zip(values, names, strict=True))
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == quantizer.output[0]:
            node.input[1:] = names
            node.attribute.append(helper.make_attribute("axis", 1))


def _fix_weight_scale(quantized: Any, name: str, weight: NDArray[Any], scale: NDArray[np.float64]) -> None:
    """Store a weight's int8 codes in given scales, one per output channel."""
    from onnx import numpy_helper

    shape = (-1, *[1] * (weight.ndim - 1))
    codes = np.clip(np.rint(weight / scale.reshape(shape)), -LEVELS - 1, LEVELS).astype(np.int8)
    stored = {item.name: item for item in quantized.graph.initializer}
    readers = [node for node in quantized.graph.node if node.op_type == "DequantizeLinear"]
    pair = next(node for node in readers if node.input[0] == f"{name}_quantized")
    for constant, array in zip(pair.input, (codes, scale.astype(np.float32)), strict=False):
        stored[constant].CopyFrom(numpy_helper.from_array(array, constant))
