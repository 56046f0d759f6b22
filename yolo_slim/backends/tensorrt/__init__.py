"""TensorRT on a Jetson: the bundle contains an ONNX file and engine settings; the device builds its own engine.

The workstation only copies a graph that already has its precision (FP16-typed, or Q/DQ). docs/tensorrt.md says what
each TensorRT version offers and what was never run.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.backends import Built, OnStep, OptionValue, require_precision
from yolo_slim.backends.tensorrt.builder import BuildLog, build_plan
from yolo_slim.backends.tensorrt.engine import FOLDER, LOG, Engine, Settings, identity, load, save, up_to_date
from yolo_slim.backends.tensorrt.install import install_script
from yolo_slim.backends.tensorrt.sdk import Gpu, gpu_facts, import_pycuda, import_tensorrt, start_cuda
from yolo_slim.backends.tensorrt.session import TensorRtSession
from yolo_slim.backends.tensorrt.timing_cache import cache_path
from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from yolo_slim.bundle import BundleSpec

NAME = "tensorrt"
PRECISIONS = ("fp16", "int8", "fp32")
MODEL = "model.onnx"
INSTALL = "install.sh"


def build(onnx: Path, out: Path, *, precision: str, imgsz: tuple[int, int]) -> Built:
    """Copy an ONNX file of that precision into ``out``; the device builds the engine.

    Raises:
        SlimError: unknown precision, unreadable or dynamic graph, or a graph of another precision than asked for.
    """
    require_precision(NAME, precision, PRECISIONS)
    names = _require_graph(onnx, precision, imgsz)
    shutil.copyfile(onnx, out / MODEL)
    return Built(model={"onnx": MODEL}, input_name=names[0], output_name=names[1])


def open(folder: Path, spec: BundleSpec, threads: int, **options: OptionValue) -> TensorRtSession:
    """Load the engine that this machine built; ``threads`` has no meaning on a GPU.

    Raises:
        SlimError: TensorRT, PyCUDA or GPU missing; no engine, or one of another machine, version or graph.
    """
    del threads, options  # every backend has these parameters; a GPU has no use for them
    trt = import_tensorrt()
    cuda = start_cuda()
    settings = Settings.from_json(spec.engine)
    gpu = gpu_facts(cuda)
    plan, _ = load(folder, _wanted(folder, spec, settings, str(trt.__version__), gpu))
    return TensorRtSession(trt, cuda, plan, spec, settings, gpu.device)


def build_engine(folder: Path, spec: BundleSpec, on_step: OnStep, *, force: bool = False) -> Engine:
    """Build the engine of a bundle on this machine; one that is up to date stays unless ``force``.

    The log stays beside the engine, also after a failure.
    """
    trt = import_tensorrt()
    gpu = gpu_facts(start_cuda())
    settings = Settings.from_json(spec.engine)
    version = str(trt.__version__)
    wanted = _wanted(folder, spec, settings, version, gpu)
    current = None if force else up_to_date(folder, wanted)
    if current is not None:
        return Engine(sidecar=current, kept=True)
    (folder / FOLDER).mkdir(exist_ok=True)
    with (folder / FOLDER / LOG).open("w", encoding="utf-8") as stream:
        log = BuildLog(stream)
        log.say(f"TensorRT {version}, {gpu}, {spec.precision}, {settings}")
        plan, facts = build_plan(
            trt,
            _model(folder, spec),
            precision=spec.precision,
            settings=settings,
            log=log,
            cache_file=cache_path(gpu, version),
            on_step=on_step,
        )
    return Engine(sidecar=save(folder, plan, wanted, facts), kept=False)


def versions() -> dict[str, str]:
    """The versions of TensorRT and PyCUDA; a missing one is a :class:`SlimError`."""
    version = str(import_tensorrt().__version__)
    import_pycuda()
    import pycuda

    return {"tensorrt": version, "pycuda": str(pycuda.VERSION_TEXT)}


def gpu() -> Gpu:
    """The GPU that an engine would run on; no usable GPU is a :class:`SlimError`."""
    return gpu_facts(start_cuda())


def extra_files(spec: BundleSpec) -> dict[str, str]:
    """The text files that a bundle of this runtime contains besides its model."""
    return {INSTALL: install_script(spec)}


def _model(folder: Path, spec: BundleSpec) -> Path:
    return folder / spec.model["onnx"]


def _wanted(folder: Path, spec: BundleSpec, settings: Settings, version: str, gpu: Gpu) -> dict[str, object]:
    return identity(_model(folder, spec), spec, settings, version, gpu)


def _require_graph(path: Path, precision: str, imgsz: tuple[int, int]) -> tuple[str, str]:
    """Names of input and output of a graph; refused unless shapes are fixed and it has the precision asked for."""
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's exception classes share no public base
        raise SlimError(f"{path} isn't a readable ONNX file: {error}", remedy="Export it again.") from None
    # Before IR version 4, ONNX lists constants among the inputs too.
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    outputs = list(model.graph.output)
    problems = [
        *_shape_problems("input", inputs, [1, 3, *imgsz]),
        *_shape_problems("output", outputs, None),
    ]
    if problems:
        remedy = f"Export with batch=1, dynamic=False, imgsz={list(imgsz)}."
        raise SlimError(f"{path} isn't a fixed-shape detector.", culprits=problems, remedy=remedy)
    found = graph_precision(model)
    if found != precision:
        raise SlimError(
            f"{path} is {found}, and a {precision} bundle was asked for: TensorRT takes the precision from the graph.",
            remedy=f"Give the {precision} graph that the quantize stage writes.",
        )
    return inputs[0].name, outputs[0].name


def graph_precision(model: Any) -> str:
    """``int8`` for a graph with Q/DQ nodes, ``fp16`` for one with FP16 weights, else ``fp32``."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    half = 10  # onnx.TensorProto.FLOAT16
    return "fp16" if any(tensor.data_type == half for tensor in model.graph.initializer) else "fp32"


def _shape_problems(kind: str, values: list[Any], expected: list[int] | None) -> list[str]:
    """Why tensors aren't exactly one float tensor of a fixed (or the expected) shape."""
    shapes = [[size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]
    is_float = all(value.type.tensor_type.elem_type == 1 for value in values)  # 1: onnx.TensorProto.FLOAT
    is_fixed = all(isinstance(size, int) and size > 0 for shape in shapes for size in shape)
    if len(values) == 1 and is_float and is_fixed and expected in (None, shapes[0]):
        return []
    got = ", ".join(f"{value.name} {shape}" for value, shape in zip(values, shapes, strict=True)) or "none"
    wanted = expected or "of fixed shape"
    return [f"{kind}: got {got}{'' if is_float else ' not float32'}; expected one float32 tensor {wanted}"]
