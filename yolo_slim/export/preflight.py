"""What can be said about a TensorRT build before there is a Jetson: blockers found, the graph built ahead of time.

TensorRT-RTX (optional, CPU only) parses and builds the graph with the very code that runs on the device. Known
blockers are checked for every JetPack of the profile. What only the device can tell is listed as ``unproven``.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_slim.backends.tensorrt import graph_precision
from yolo_slim.config.profile import JetPack, Profile
from yolo_slim.errors import SlimError

RTX_TIMEOUT_S = 300
"""A graph of a small detector takes seconds."""
LAST_WITH_DLA, FIRST_WITH_DLA_AGAIN = (10, 7), (11, 4, 1)
"""NVIDIA's DLA documentation of 11.3 and 11.4.1; again on AGX Orin only."""
SURE_OPSET = {8: 17, 10: 20, 11: 20}
"""TensorRT's major version to the ONNX opset that its parser surely reads."""
QUANTIZED_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
"""Quantized operators that TensorRT's parser doesn't know: it wants Q/DQ pairs."""
UNPROVEN = {
    "tactics": "which kernels TensorRT finds on this GPU, and whether it finds one for every layer",
    "latency": "how long a frame takes",
    "memory": "whether building and running fit into the memory that CPU and GPU share",
    "engine accuracy": "whether the engine's detections are those of the graph: the device's self-check and mAP tell",
}
_FLOAT32, _UINT8, _INT32, _FLOAT16 = 1, 2, 6, 10  # onnx.TensorProto's numbers


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question and its answer."""

    name: str
    """What was asked."""
    status: str
    """``pass``, ``fail``, ``unproven`` (only the device can tell) or ``skipped``."""
    detail: str
    """What was found, or why there is no answer."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """All answers for one graph and one target."""

    onnx: str
    """File name of the graph."""
    target: str
    """Device profile."""
    precision: str
    """Precision of the engine."""
    layout: str
    """Output layout."""
    checks: tuple[Check, ...]
    """In the order in which they were made."""

    @property
    def failures(self) -> tuple[Check, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def is_passed(self) -> bool:
        """Return whether nothing speaks against a build; ``unproven`` and ``skipped`` remain what they are."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value of everything."""
        return {**asdict(self), "passed": self.is_passed}


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What the checks look at."""

    path: Path
    model: Any
    """``onnx.ModelProto`` with inferred shapes."""
    types: dict[str, int]
    """Tensor name to ``onnx.TensorProto`` element type, where known."""
    profile: Profile
    precision: str
    layout: str

    @property
    def jetpacks(self) -> list[JetPack]:
        """Return the profile's JetPacks, none for a profile without them."""
        return [] if self.profile.jetson is None else self.profile.jetson.jetpacks


def preflight(onnx: Path, profile: Profile, precision: str, layout: str, *, rtx: bool = True) -> Preflight:
    """Check a graph against every JetPack of a profile, and build it with TensorRT-RTX where that is installed.

    Args:
        onnx: the graph that the bundle would carry.
        profile: target device.
        precision: ``fp32``, ``fp16`` or ``int8``.
        layout: ``one2many`` or ``end2end``.
        rtx: False leaves the ahead-of-time build out.

    Raises:
        SlimError: the file isn't readable ONNX.
    """
    graph = _read(onnx, profile, precision, layout)
    checks = [Check(name=name, status=status, detail=detail) for name, (status, detail) in _answers(graph)]
    checks.append(build_ahead(onnx, precision) if rtx else _skipped("build ahead of time", "not asked for"))
    checks += [Check(name=name, status="unproven", detail=detail) for name, detail in UNPROVEN.items()]
    return Preflight(onnx=onnx.name, target=profile.name, precision=precision, layout=layout, checks=tuple(checks))


def build_ahead(onnx: Path, precision: str, timeout_s: float = RTX_TIMEOUT_S) -> Check:
    """Parse and build a graph with TensorRT-RTX in a process of its own: a crash there is an answer, not an end."""
    name = "build ahead of time"
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return _skipped(name, "TensorRT-RTX isn't installed: pip install 'yolo-slim[jetson]'")
    code = "import sys; from yolo_slim.export.preflight import rtx_answer; rtx_answer(*sys.argv[1:])"
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, str(onnx), precision]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Check(name=name, status="unproven", detail=f"TensorRT-RTX didn't finish within {timeout_s:g} s")
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        if done.returncode == -signal.SIGKILL:
            return Check(name=name, status="unproven", detail="TensorRT-RTX was killed, perhaps for lack of memory")
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Check(name=name, status="fail", detail=f"TensorRT-RTX ended with status {done.returncode}: {last}")
    return Check(name=name, status=answer["status"], detail=answer["detail"])


def rtx_answer(onnx: str, precision: str) -> None:
    """Print the answer of :func:`build_ahead`'s process as JSON, the last line of its output."""
    try:
        import tensorrt_rtx as trt
    except (ImportError, OSError, RuntimeError) as error:
        detail = f"TensorRT-RTX is installed but can't be loaded: {error}"
        print(json.dumps({"status": "skipped", "detail": detail}))
        return

    from yolo_slim.backends.tensorrt.builder import BuildLog, build_plan
    from yolo_slim.backends.tensorrt.engine import Settings

    log = BuildLog(io.StringIO())
    with tempfile.TemporaryDirectory(prefix="yolo-slim-rtx-") as folder:
        try:
            plan, facts = build_plan(
                trt,
                Path(onnx),
                precision=precision,
                settings=Settings(timing_cache=False),
                log=log,
                cache_file=Path(folder) / "cache",
                on_step=lambda _: None,
            )
        except SlimError as error:
            text = "; ".join([error.fact, *error.culprits])
            print(json.dumps({"status": "fail", "detail": f"TensorRT-RTX: {text}"}))
            return
    detail = f"TensorRT-RTX {trt.__version__} built {facts.layers} layers, {len(plan) / 1e6:.1f} MB"
    print(json.dumps({"status": "pass", "detail": detail}))


def check_shape(graph: Graph) -> tuple[str, str]:
    """Return whether the input is one image of fixed size."""
    dims = graph.model.graph.input[0].type.tensor_type.shape.dim
    sizes = [size.dim_param or size.dim_value for size in dims]
    is_fixed = all(isinstance(size, int) and size > 0 for size in sizes) and sizes[:1] == [1]
    return _verdict(is_fixed, f"input {sizes}", "expected a batch of 1 and fixed sizes")


def check_precision(graph: Graph) -> tuple[str, str]:
    """Return whether the graph carries the precision: TensorRT takes it from there."""
    found = graph_precision(graph.model)
    return _verdict(found == graph.precision, f"the graph is {found}", f"asked for {graph.precision}")


def check_opset(graph: Graph) -> tuple[str, str]:
    """Return whether every JetPack's parser reads the opset."""
    opset = max((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    late = [pack for pack in graph.jetpacks if opset > SURE_OPSET.get(_version(pack)[0], 20)]
    if any(_version(pack)[0] == 8 for pack in late):
        return "fail", f"opset {opset}: TensorRT 8.6 ({_named(late)}) reads up to 17"
    if late:
        return "unproven", f"opset {opset}: newer than what is known to work on {_named(late)}"
    return "pass", f"opset {opset}"


def check_versions(graph: Graph) -> tuple[str, str]:
    """Return whether a JetPack has a TensorRT that is known to be broken."""
    if not graph.jetpacks:
        return "skipped", f"{graph.profile.name} names no JetPack"
    broken = [pack for pack in graph.jetpacks if _version(pack)[:3] == (10, 2, 0) or _version(pack) == (10, 2)]
    return _verdict(not broken, _named(graph.jetpacks), f"TensorRT 10.2.0 is broken: {_named(broken)}")


def check_layout(graph: Graph) -> tuple[str, str]:
    """Return whether the head can be built: TensorRT 10.3 can't build INT8 with an end2end head or embedded NMS."""
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


def check_dla(graph: Graph) -> tuple[str, str]:
    """Return whether the accelerator that the profile asks for is there and supported."""
    jetson, core = graph.profile.jetson, graph.profile.tensorrt.dla_core
    if core is None:
        return "skipped", "no DLA asked for"
    if jetson is None or core >= jetson.dla_cores:
        cores = 0 if jetson is None else jetson.dla_cores
        return "fail", f"DLA core {core} asked for; {graph.profile.name} has {cores}: set tensorrt.dla_core: null"
    blocked = [
        pack for pack in graph.jetpacks if _version(pack)[:2] > LAST_WITH_DLA and _version(pack) < FIRST_WITH_DLA_AGAIN
    ]
    if blocked:
        return "fail", f"TensorRT 10.8 to 11.4.0 have no DLA support: {_named(blocked)}"
    if graph.precision == "fp32":
        return "fail", "a DLA computes in fp16 or int8 only"
    if graph.precision == "int8" and any(_version(pack)[0] == 8 for pack in graph.jetpacks):
        return "fail", "TensorRT 8.6 runs Q/DQ graphs on the GPU only, not on a DLA"
    return "unproven", "which layers run on the DLA and which fall back to the GPU, only the device can tell"


def check_zero_points(graph: Graph) -> tuple[str, str]:
    """Return whether quantization is symmetric: TensorRT rejects zero points other than 0."""
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in graph.model.graph.initializer}
    asymmetric = [
        _name(node)
        for node in _quantizers(graph)
        if len(node.input) > 2
        and node.input[2] in values
        and (values[node.input[2]].data_type == _UINT8 or numpy_helper.to_array(values[node.input[2]]).any())
    ]
    count = sum(1 for _ in _quantizers(graph))
    return _verdict(
        not asymmetric,
        f"{count} Q/DQ nodes",
        f"not symmetric int8 (zero point other than 0, or uint8): {_some(asymmetric)}",
    )


def check_int32(graph: Graph) -> tuple[str, str]:
    """Return whether a DequantizeLinear reads int32, as quantized biases do: TensorRT rejects it."""
    wrong = [
        _name(node)
        for node in _quantizers(graph)
        if node.op_type == "DequantizeLinear" and graph.types.get(node.input[0]) == _INT32
    ]
    return _verdict(not wrong, "none", f"DequantizeLinear of int32 (quantize without biases): {_some(wrong)}")


def check_concat(graph: Graph) -> tuple[str, str]:
    """Return whether every Concat joins tensors of one type: strongly typed TensorRT casts none."""
    mixed = [
        _name(node)
        for node in graph.model.graph.node
        if node.op_type == "Concat" and len({graph.types[name] for name in node.input if name in graph.types}) > 1
    ]
    return _verdict(not mixed, "one type each", f"Concat of mixed types: {_some(mixed)}")


def check_operators(graph: Graph) -> tuple[str, str]:
    """Return whether an operator is surely unknown to TensorRT: another domain's, or an integer kernel of ONNX's."""
    unknown = [
        f"{_name(node)} ({node.domain + '.' if node.domain else ''}{node.op_type})"
        for node in graph.model.graph.node
        if node.domain not in ("", "ai.onnx") or node.op_type in QUANTIZED_OPS
    ]
    kinds = len({node.op_type for node in graph.model.graph.node})
    return _verdict(not unknown, f"{kinds} kinds, none known to be missing", f"TensorRT lacks: {_some(unknown)}")


def check_float_part(graph: Graph) -> tuple[str, str]:
    """Return in which type the float layers of an int8 graph run: TensorRT 11 leaves fp32 as it is."""
    if graph.precision != "int8":
        return "skipped", "not an int8 graph"
    weights = {tensor.name: tensor.data_type for tensor in graph.model.graph.initializer}
    convolutions = [node for node in graph.model.graph.node if node.op_type == "Conv"]
    single = [_name(node) for node in convolutions if weights.get(node.input[1]) == _FLOAT32]
    if _FLOAT16 in weights.values():
        return "pass", "float layers are fp16"
    strict = [pack for pack in graph.jetpacks if _version(pack) >= (11,)]
    what = f"float layers are fp32, {len(single)} of {len(convolutions)} convolutions among them"
    if graph.jetpacks and not strict:
        return "pass", f"{what}; TensorRT below 11 is allowed to run them in fp16"
    return "unproven", (
        f"{what}: TensorRT 11 and newer runs them so ({_named(strict) or 'no JetPack known'}), and whether int8 beats "
        "fp16 then, only the device can tell"
    )


CHECKS: tuple[tuple[str, Callable[[Graph], tuple[str, str]]], ...] = (
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
"""Name to the function that returns status and detail."""


def _answers(graph: Graph) -> list[tuple[str, tuple[str, str]]]:
    return [(name, check(graph)) for name, check in CHECKS]


def _read(path: Path, profile: Profile, precision: str, layout: str) -> Graph:
    import onnx

    try:
        model = onnx.load(path)
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf's and onnx's exception classes share no public base
        raise SlimError(f"{path} isn't a readable ONNX file: {error}", remedy="Export it again.") from None
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
    return Graph(path=path, model=model, types=types, profile=profile, precision=precision, layout=layout)


def _quantizers(graph: Graph) -> list[Any]:
    return [node for node in graph.model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]


def _verdict(is_good: bool, good: str, bad: str) -> tuple[str, str]:
    return ("pass", good) if is_good else ("fail", bad)


def _skipped(name: str, reason: str) -> Check:
    return Check(name=name, status="skipped", detail=reason)


def _version(pack: JetPack) -> tuple[int, ...]:
    return tuple(int(part) for part in pack.tensorrt.split("."))


def _named(packs: list[JetPack]) -> str:
    return ", ".join(f"JetPack {pack.jetpack} (TensorRT {pack.tensorrt})" for pack in packs)


def _name(node: Any) -> str:
    return str(node.name or f"the node that makes {node.output[0]}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
