"""Known blockers of TensorRT, each looked for in the graph and in the JetPacks of the profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolo_slim.backends.tensorrt import graph_precision
from yolo_slim.config.profile import JetPack
from yolo_slim.export.preflight.check import Answer, CheckedGraph

LAST_WITH_DLA, FIRST_WITH_DLA_AGAIN = (10, 7), (11, 4, 1)
"""NVIDIA's DLA documentation of 11.3 and 11.4.1; again on AGX Orin only."""
SURE_OPSET = {8: 17, 10: 20, 11: 20}
"""TensorRT's major version to the ONNX opset that its parser surely reads."""
QUANTIZED_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
"""Quantized operators that TensorRT's parser doesn't know: it needs Q/DQ pairs."""
_FLOAT32, _UINT8, _INT32, _FLOAT16 = 1, 2, 6, 10  # onnx.TensorProto's numbers


def check_shape(graph: CheckedGraph) -> Answer:
    """Whether the input is one image of fixed size."""
    dims = graph.model.graph.input[0].type.tensor_type.shape.dim
    sizes = [size.dim_param or size.dim_value for size in dims]
    is_fixed = all(isinstance(size, int) and size > 0 for size in sizes) and sizes[:1] == [1]
    return _verdict(is_fixed, f"input {sizes}", "expected a batch of 1 and fixed sizes")


def check_precision(graph: CheckedGraph) -> Answer:
    """Whether the graph itself has the precision: TensorRT reads it from there."""
    found = graph_precision(graph.model)
    return _verdict(found == graph.precision, f"the graph is {found}", f"asked for {graph.precision}")


def check_opset(graph: CheckedGraph) -> Answer:
    """Whether every JetPack's parser reads the opset."""
    opset = max((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    late = [pack for pack in graph.jetpacks if opset > SURE_OPSET.get(_version(pack)[0], 20)]
    # Only TensorRT 8 is known to fail; newer parsers may read more than is documented.
    if any(_version(pack)[0] == 8 for pack in late):
        return Answer("fail", f"opset {opset}: TensorRT 8.6 ({_named(late)}) reads up to 17")
    if late:
        return Answer("unproven", f"opset {opset}: newer than what is known to work on {_named(late)}")
    return Answer("pass", f"opset {opset}")


def check_versions(graph: CheckedGraph) -> Answer:
    """Whether a JetPack has a TensorRT that is known to be broken."""
    if not graph.jetpacks:
        return Answer("skipped", f"{graph.profile.name} names no JetPack")
    # 10.2 without a patch level may be 10.2.0.
    broken = [pack for pack in graph.jetpacks if _version(pack)[:3] == (10, 2, 0) or _version(pack) == (10, 2)]
    return _verdict(not broken, _named(graph.jetpacks), f"TensorRT 10.2.0 is broken: {_named(broken)}")


def check_layout(graph: CheckedGraph) -> Answer:
    """Whether the head can be built: TensorRT 10.3 can't build INT8 with an end2end head or embedded NMS."""
    # Graphs with embedded NMS come from other exporters; their layout says one2many.
    has_nms = [
        _name(node) for node in graph.model.graph.node if "NonMaxSuppression" in node.op_type or "NMS" in node.op_type
    ]
    is_end2end = graph.layout == "end2end" or bool(has_nms)
    blocked = [
        pack for pack in graph.jetpacks if graph.precision == "int8" and is_end2end and _version(pack)[:2] == (10, 3)
    ]
    return _verdict(
        not blocked,
        f"{graph.layout}, {graph.precision}",
        f"TensorRT 10.3 can't build INT8 with an end2end head or NMS ({_named(blocked)}): use the raw head",
    )


def check_dla(graph: CheckedGraph) -> Answer:
    """Whether the accelerator that the profile asks for is there and supported."""
    jetson, core = graph.profile.jetson, graph.profile.tensorrt.dla_core
    if core is None:
        return Answer("skipped", "no DLA asked for")
    if jetson is None or core >= jetson.dla_cores:
        cores = 0 if jetson is None else jetson.dla_cores
        found = f"{graph.profile.name} has {cores}"
        return Answer("fail", f"DLA core {core} asked for; {found}: set tensorrt.dla_core: null")
    # Two parts of the version: patch releases of 10.7 still have a DLA.
    blocked = [
        pack for pack in graph.jetpacks if _version(pack)[:2] > LAST_WITH_DLA and _version(pack) < FIRST_WITH_DLA_AGAIN
    ]
    if blocked:
        return Answer("fail", f"TensorRT 10.8 to 11.4.0 have no DLA support: {_named(blocked)}")
    if graph.precision == "fp32":
        return Answer("fail", "a DLA computes in fp16 or int8 only")
    if graph.precision == "int8" and any(_version(pack)[0] == 8 for pack in graph.jetpacks):
        return Answer("fail", "TensorRT 8.6 runs Q/DQ graphs on the GPU only, not on a DLA")
    return Answer("unproven", "which layers run on the DLA and which fall back to the GPU, only the device can show")


def check_zero_points(graph: CheckedGraph) -> Answer:
    """Whether quantization is symmetric: TensorRT rejects zero points other than 0."""
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in graph.model.graph.initializer}
    asymmetric = [
        _name(node)
        for node in graph.quantizers
        if len(node.input) > 2
        and node.input[2] in values
        and (values[node.input[2]].data_type == _UINT8 or numpy_helper.to_array(values[node.input[2]]).any())
    ]
    return _verdict(
        not asymmetric,
        f"{len(graph.quantizers)} Q/DQ nodes",
        f"not symmetric int8 (zero point other than 0, or uint8): {_some(asymmetric)}",
    )


def check_int32(graph: CheckedGraph) -> Answer:
    """Whether a DequantizeLinear reads int32, as quantized biases do: TensorRT rejects it."""
    wrong = [
        _name(node)
        for node in graph.quantizers
        if node.op_type == "DequantizeLinear" and graph.types.get(node.input[0]) == _INT32
    ]
    return _verdict(not wrong, "none", f"DequantizeLinear of int32 (quantize without biases): {_some(wrong)}")


def check_concat(graph: CheckedGraph) -> Answer:
    """Whether every Concat joins tensors of one type: strongly typed TensorRT casts none."""
    mixed = [
        _name(node)
        for node in graph.model.graph.node
        if node.op_type == "Concat" and len({graph.types[name] for name in node.input if name in graph.types}) > 1
    ]
    return _verdict(not mixed, "one type each", f"Concat of mixed types: {_some(mixed)}")


def check_operators(graph: CheckedGraph) -> Answer:
    """Whether an operator is surely unknown to TensorRT: another domain's, or an integer kernel of ONNX's."""
    unknown = [
        f"{_name(node)} ({node.domain + '.' if node.domain else ''}{node.op_type})"
        for node in graph.model.graph.node
        # Both names mean ONNX's own domain.
        if node.domain not in ("", "ai.onnx") or node.op_type in QUANTIZED_OPS
    ]
    kinds = len({node.op_type for node in graph.model.graph.node})
    return _verdict(not unknown, f"{kinds} kinds, none known to be missing", f"TensorRT lacks: {_some(unknown)}")


def check_float_part(graph: CheckedGraph) -> Answer:
    """In which type the float layers of an int8 graph run: TensorRT 11 doesn't turn fp32 into fp16."""
    if graph.precision != "int8":
        return Answer("skipped", "not an int8 graph")
    weights = {tensor.name: tensor.data_type for tensor in graph.model.graph.initializer}
    convolutions = [node for node in graph.model.graph.node if node.op_type == "Conv"]
    single = [_name(node) for node in convolutions if weights.get(node.input[1]) == _FLOAT32]
    if _FLOAT16 in weights.values():
        return Answer("pass", "float layers are fp16")
    strict = [pack for pack in graph.jetpacks if _version(pack) >= (11,)]
    what = f"float layers are fp32, {len(single)} of {len(convolutions)} convolutions among them"
    if graph.jetpacks and not strict:
        return Answer("pass", f"{what}; TensorRT below 11 is allowed to run them in fp16")
    return Answer(
        "unproven",
        f"{what}: TensorRT 11 and newer run them in fp32 ({_named(strict) or 'no JetPack known'}); only the device can "
        "show whether int8 is faster than fp16 then",
    )


CHECKS: tuple[tuple[str, Callable[[CheckedGraph], Answer]], ...] = (
    ("fixed shape", check_shape),
    ("precision of the graph", check_precision),
    ("opset", check_opset),
    ("TensorRT version", check_versions),
    ("head", check_layout),
    ("DLA", check_dla),
    ("zero points", check_zero_points),
    ("int32 dequantization", check_int32),
    ("types of Concat", check_concat),
    ("operators", check_operators),
    ("float part of int8", check_float_part),
)
"""In the order in which they are made."""


def _verdict(is_good: bool, good: str, bad: str) -> Answer:
    return Answer("pass", good) if is_good else Answer("fail", bad)


def _version(pack: JetPack) -> tuple[int, ...]:
    return tuple(int(part) for part in pack.tensorrt.split("."))


def _named(packs: list[JetPack]) -> str:
    return ", ".join(f"JetPack {pack.jetpack} (TensorRT {pack.tensorrt})" for pack in packs)


def _name(node: Any) -> str:
    return str(node.name or f"the node that makes {node.output[0]}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
