"""The int8 graph: quantize/dequantize pairs that TensorRT parses and ONNX Runtime fuses into integer convolutions.

Symmetric int8 for activations and weights (every zero point is 0), one scale per output channel of a weight, float
biases: TensorRT refuses other zero points and int32 biases (docs/adr/0003-quantize.md).

In ONNX Runtime's graph what can't be negative, because ReLU wrote it, has all 256 codes from 0 upwards. Rounding to
these codes clips at 0 as ReLU does, so that ReLU needs no operation there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.ranges import Ranges
from yolo_slim.quantization.thresholds import INT8_MAX, UNSIGNED_MAX, Floats

LOWEST_CODE = -128
"""Zero point of a tensor without negative values."""
EXTRA_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
"""Of ``onnxruntime.quantization``: with these both runtimes accept the graph."""


def quantize(
    model: Any,
    layers: Collection[str],
    ranges: Ranges,
    *,
    outputs: bool = True,
    shifts: Ranges | None = None,
    weight_scales: Ranges | None = None,
) -> Any:
    """Copy a graph with the named convolutions in int8.

    Args:
        model: float ``ModelProto``; it isn't changed.
        layers: names of convolutions.
        ranges: of these layers' tensors at least.
        outputs: also quantize the outputs of the convolutions. ONNX Runtime needs that to run them as integers;
            TensorRT doesn't, and every rounding less is better accuracy.
        shifts: layer to what its bias gains, see :func:`yolo_slim.quantization.bias_correction.bias_shifts`.
        weight_scales: weight to its scale per output channel, where training has fixed it; otherwise the scale follows
            from the channel's largest value.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    # Asked before the ReLU nodes are gone.
    unsigned = unsigned_in(copied, outputs=outputs)
    if outputs:
        _absorb_relus(copied, layers)
    nodes = graphs.nodes_named(copied, layers)
    # A shift is in units of the output, so it comes before the channels are divided by their ranges.
    for node in nodes:
        if shifts and node.name in shifts:
            _shift_bias(copied, node.input[2], shifts[node.name])
    # ONNX Runtime's integer convolution has one scale for its output. One range per channel works all the same: the
    # weights are divided by the channel's range here, and the DequantizeLinear behind multiplies by it.
    written = {node.output[0]: node for node in nodes if outputs and len(ranges[node.output[0]]) > 1}
    factors = {node.input[1]: 1 / ranges[name] for name, node in written.items()}
    for name, node in written.items():
        _scale_channels(copied, node, 1 / ranges[name])
    read = {node.input[0] for node in nodes} | ({node.output[0] for node in nodes} if outputs else set())
    # After that division a tensor with one range per channel has the range 1.
    limits = {name: 1.0 if len(ranges[name]) > 1 else float(ranges[name][0]) for name in read}
    # A fixed scale of a weight is divided with the weight: the codes stay those of the training.
    scales = {name: scale * factors.get(name, 1.0) for name, scale in (weight_scales or {}).items()}
    quantized = _insert_pairs(copied, layers, limits, scales, outputs=outputs, unsigned=unsigned)
    for name in written:
        _dequantize_channels(quantized, name, ranges[name])
    return quantized


def with_shapes(model: Any) -> Any:
    """Copy a graph with the shapes of all its tensors, and a mark that they are there.

    ONNX Runtime's quantizer infers them for every graph without that mark, through a file, which takes longer than all
    else that it does. A graph that is quantized again and again gets them once.
    """
    from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

    return save_and_reload_model_with_shape_infer(model)


def unsigned_in(model: Any, *, outputs: bool) -> set[str]:
    """Tensors of a float graph whose codes all stand for values from 0 upwards: none in TensorRT's graph."""
    return graphs.never_negative(model) if outputs else set()


def blockers(model: Any) -> list[str]:
    """Q/DQ nodes that TensorRT's parser would refuse, and why."""
    from onnx import TensorProto

    stored = graphs.initializers(model)
    found = []
    for node in (node for node in model.graph.node if node.op_type in graphs.QUANTIZED_OPS):
        zero = stored.get(node.input[2]) if len(node.input) > 2 else None
        # ONNX reads a missing zero point as uint8.
        if zero is None or zero.data_type != TensorProto.INT8:
            found.append(f"{node.name}: codes that aren't int8")
        elif graphs.array_of(zero).any():
            found.append(f"{node.name}: a zero point other than 0")
    return found


def require_portable(model: Any) -> None:
    """Raise where TensorRT would refuse an int8 graph: better here than on the device.

    Raises:
        SlimError: with every node of :func:`blockers`.
    """
    culprits = blockers(model)
    if culprits:
        raise SlimError(
            "TensorRT would refuse the int8 graph.",
            culprits=culprits,
            remedy="Try the onnxruntime version of constraints.txt.",
        )


def _insert_pairs(
    model: Any,
    layers: Collection[str],
    limits: Mapping[str, float],
    weight_scales: Ranges,
    *,
    outputs: bool,
    unsigned: Collection[str],
) -> Any:
    """Put Q/DQ pairs around the layers with ONNX Runtime's quantizer."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    weights = {item.name: graphs.array_of(item) for item in model.graph.initializer if item.name in weight_scales}
    data = {
        name: TensorData(lowest=np.array(-limit, np.float32), highest=np.array(limit, np.float32))
        for name, limit in limits.items()
    }
    codes = {
        name: [{"scale": np.array(limit / UNSIGNED_MAX, np.float32), "zero_point": np.array(LOWEST_CODE, np.int8)}]
        for name, limit in limits.items()
        if name in unsigned
    }
    unquantized = {} if outputs else {"OpTypesToExcludeOutputQuantization": ["Conv"]}
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
        {**EXTRA_OPTIONS, **unquantized, "TensorQuantOverrides": codes},
    )
    quantizer.quantize_model()
    # The quantizer appends its nodes at the end; ONNX wants every producer before its readers.
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    # ONNX Runtime has chosen scales by the largest value; training chose other ones.
    for name, scale in weight_scales.items():
        _fix_weight_scale(quantized, name, weights[name], scale)
    return quantized


def _absorb_relus(model: Any, layers: Collection[str]) -> None:
    """Remove the ReLU nodes behind the layers, whose outputs get codes that begin at 0."""
    relus = graphs.relus_of(model, layers)
    for node in graphs.nodes_named(model, relus):
        node.output[0] = relus[node.name].output[0]
    gone = {node.name for node in relus.values()}
    graphs.replace_items(model.graph.node, [node for node in model.graph.node if node.name not in gone])


def _shift_bias(model: Any, name: str, shift: Floats) -> None:
    from onnx import numpy_helper

    stored = graphs.initializers(model)[name]
    stored.CopyFrom(numpy_helper.from_array((graphs.array_of(stored) + shift).astype(np.float32), name))


def _scale_channels(model: Any, node: Any, factors: Floats) -> None:
    """Multiply the output channels of a convolution."""
    from onnx import numpy_helper

    stored = graphs.initializers(model)
    for name in node.input[1:]:
        value = graphs.array_of(stored[name])
        shape = (-1, *[1] * (value.ndim - 1))
        stored[name].CopyFrom(numpy_helper.from_array((value * factors.reshape(shape)).astype(np.float32), name))


def _dequantize_channels(model: Any, tensor: str, factors: Floats) -> None:
    """Undo :func:`_scale_channels` where a tensor's int8 codes become floats again, with one scale per channel."""
    from onnx import helper, numpy_helper

    quantizer = next(n for n in model.graph.node if n.op_type == graphs.QUANTIZE and n.input[0] == tensor)
    stored = graphs.initializers(model)
    scale, zero = (graphs.array_of(stored[name]) for name in quantizer.input[1:3])
    names = [f"{tensor}_channel_scale", f"{tensor}_channel_zero_point"]
    values = [(scale * factors).astype(np.float32), np.full(len(factors), zero, np.int8)]
    model.graph.initializer.extend(numpy_helper.from_array(*pair) for pair in zip(values, names, strict=True))
    for node in model.graph.node:
        # The QuantizeLinear keeps its one scale, which is all that an integer convolution can write.
        if node.op_type == graphs.DEQUANTIZE and node.input[0] == quantizer.output[0]:
            node.input[1:] = names
            node.attribute.append(helper.make_attribute("axis", 1))


def _fix_weight_scale(quantized: Any, name: str, weight: NDArray[Any], scale: Floats) -> None:
    """Store a weight's int8 codes in given scales, one per output channel; ``weight`` is its float value."""
    from onnx import numpy_helper

    shape = (-1, *[1] * (weight.ndim - 1))
    codes = np.clip(np.rint(weight / scale.reshape(shape)), -INT8_MAX - 1, INT8_MAX).astype(np.int8)
    stored = graphs.initializers(quantized)
    readers = [node for node in quantized.graph.node if node.op_type == graphs.DEQUANTIZE]
    pair = next(node for node in readers if node.input[0] == f"{name}_quantized")
    # The third input, the zero point, is 0 already: these codes are symmetric too.
    for constant, array in zip(pair.input, (codes, scale.astype(np.float32)), strict=False):
        stored[constant].CopyFrom(numpy_helper.from_array(array, constant))
