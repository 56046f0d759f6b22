"""ONNX Runtime on the CPU: fp32, and int8 as a graph with Q/DQ nodes.

On Arm it fuses those into integer convolutions. On x86 it computes the same graph in float between the roundings: the
right numbers, about half the speed of fp32 (never time a Pi's int8 on x86).
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.backends import Built, OperationTimes, Options, OptionValue, RuntimeFacts, require_precision
from yolo_slim.backends.onnxruntime.dfl import speed_up_dfl
from yolo_slim.backends.onnxruntime.layer import layer_graph as layer_graph
from yolo_slim.backends.onnxruntime.operations import read_profile
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.machine import own_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.backends.layers import PrepareLayer
    from yolo_slim.bundle import BundleSpec

NAME = "onnxruntime"
PRECISIONS = ("fp32", "int8")
MODEL = "model.onnx"
OPTIONS: dict[str, tuple[OptionValue, ...]] = {
    "spinning": (True, False),
    "graph": ("all", "extended"),
    "parallel": (False, True),
    "pin": (False, True),
}
"""``spinning``: idle threads wait busily. ``graph``: ``extended`` leaves out what changes the layout of tensors.
``parallel``: independent branches run at once. ``pin``: each thread but the calling one stays on one core."""
_PROVIDER = "CPUExecutionProvider"


def build(onnx: Path, out: Path, *, precision: str, imgsz: tuple[int, int]) -> Built:
    """Write a checked ONNX graph into ``out``, its DFL as ONNX Runtime computes it fastest.

    Raises:
        SlimError: unknown precision, unreadable graph, an input that isn't (1, 3, *imgsz) float32, or one of another
            precision than asked for.
    """
    import onnx as onnx_package

    require_precision(NAME, precision, PRECISIONS)
    # Opened here first, so that a graph which ONNX Runtime refuses isn't found on the device.
    session = _load(onnx, threads=1)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _require_one_image(onnx, inputs, outputs, imgsz)
    model = onnx_package.load(str(onnx))
    _require_graph_of(onnx, model, precision)
    speed_up_dfl(model)
    onnx_package.save(model, str(out / MODEL))
    return Built(model={"onnx": MODEL}, input_name=inputs[0].name, output_name=outputs[0].name)


def open(folder: Path, spec: BundleSpec, threads: int, **options: OptionValue) -> OrtSession:
    """Load a bundle's model for inference on ``threads`` threads, with some of :data:`OPTIONS`."""
    return OrtSession(_load(folder / spec.model["onnx"], threads, options), spec, threads, options)


def open_layer(graph: str, threads: int) -> PrepareLayer:
    """Load a graph of ``layer_graph``, see :mod:`yolo_slim.backends.layers`."""
    ort = _import()
    session = ort.InferenceSession(base64.b64decode(graph), _session_options(ort, threads, {}), providers=[_PROVIDER])
    return lambda blob: lambda: session.run(None, {"in": blob})


def versions() -> dict[str, str]:
    """The version of onnxruntime; a missing package is a :class:`SlimError`."""
    return {"onnxruntime": str(_import().__version__)}


def time_operations(
    folder: Path, spec: BundleSpec, blob: NDArray[np.float32], frames: int, threads: int, **options: OptionValue
) -> OperationTimes:
    """Run one input with ONNX Runtime's own profiler, which times every node."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-operations-") as temporary:
        session = _load(folder / spec.model["onnx"], threads, options, profile=f"{temporary}/operations")
        for _ in range(frames):
            session.run(None, {spec.input_name: blob})
        return read_profile(read_json(Path(session.end_profiling())))


class OrtSession:
    """An ONNX Runtime session with its output buffer bound once."""

    def __init__(self, session: Any, spec: BundleSpec, threads: int, options: Options) -> None:
        self._session = session
        self._options = options
        self._threads = threads
        self._precision = spec.precision
        self._input_name = spec.input_name
        self._binding = session.io_binding()
        self._bound_address = 0
        # Binding saves ONNX Runtime from allocating, and Python from wrapping, the output of every frame.
        output = session.get_outputs()[0]
        self._output = np.empty(output.shape, np.float32)
        self._binding.bind_output(output.name, "cpu", 0, np.float32, self._output.shape, self._output.ctypes.data)

    def infer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one image, see :class:`yolo_slim.backends.Session`."""
        self._bind(blob)
        self._session.run_with_iobinding(self._binding)
        return self._output

    def _bind(self, blob: NDArray[np.float32]) -> None:
        # A detector gives the same memory for every frame: it is bound once.
        address = blob.ctypes.data
        if address != self._bound_address:
            self._binding.bind_input(self._input_name, "cpu", 0, np.float32, blob.shape, address)
            self._bound_address = address
            self._bound_blob = blob  # keeps the memory alive that is bound

    def describe(self) -> RuntimeFacts:
        """What really runs."""
        return RuntimeFacts(
            runtime=NAME,
            versions=versions(),
            provider=self._session.get_providers()[0],
            threads=self._threads,
            precision=self._precision,
            details=dict(self._options),
        )

    def close(self) -> None:
        """Free the session."""
        self._binding = self._session = None


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise SlimError(
            f"onnxruntime can't be imported: {error}", remedy="Install it: pip install onnxruntime"
        ) from None
    return onnxruntime


def _load(path: Path, threads: int, chosen: Options | None = None, profile: str = "") -> Any:
    """A session on the CPU provider and no other; ``profile``: where it writes what each node took."""
    ort = _import()
    options = _session_options(ort, threads, chosen or {})
    options.enable_profiling = bool(profile)
    if profile:
        options.profile_file_prefix = profile
    try:
        session = ort.InferenceSession(str(path), options, providers=[_PROVIDER])
    except Exception as error:  # its exception classes share no public base
        raise SlimError(
            f"ONNX Runtime {ort.__version__} can't load {path}: {error}",
            remedy="Export it again, or update onnxruntime on this machine.",
        ) from None
    # ONNX Runtime replaces a provider that it can't start, without an error.
    if session.get_providers() != [_PROVIDER]:
        raise SlimError(f"Asked ONNX Runtime for {_PROVIDER}, got {session.get_providers()}.")
    return session


def _session_options(ort: Any, threads: int, chosen: Options) -> Any:
    """What ONNX Runtime calls its options, made of ours."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = "ORT_ENABLE_EXTENDED" if chosen.get("graph") == "extended" else "ORT_ENABLE_ALL"
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    if chosen.get("spinning") is False:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if chosen.get("parallel"):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = 2
    # One entry for every thread that it creates: with fewer cores than threads it would refuse the list.
    cores = sorted(own_cores())[1:threads]
    if chosen.get("pin") and cores and len(cores) == threads - 1:
        # Cores are counted from 1 there.
        options.add_session_config_entry("session.intra_op_thread_affinities", ";".join(str(one + 1) for one in cores))
    return options


def _require_one_image(onnx: Path, inputs: list[Any], outputs: list[Any], imgsz: tuple[int, int]) -> None:
    """Refuse a graph unless it takes one float32 image of ``imgsz`` and gives one tensor of fixed shape."""
    problems = []
    if [(item.shape, item.type) for item in inputs] != [([1, 3, *imgsz], "tensor(float)")]:
        got = [f"{item.name} {item.shape} {item.type}" for item in inputs]
        problems.append(f"input: got {', '.join(got)}; expected one (1, 3, {imgsz[0]}, {imgsz[1]}) tensor(float)")
    if len(outputs) != 1 or not all(isinstance(size, int) for size in outputs[0].shape):
        got = [f"{item.name} {item.shape}" for item in outputs]
        problems.append(f"output: got {', '.join(got)}; expected one of fixed shape")
    if problems:
        remedy = f"Export with batch=1, dynamic=False, imgsz={list(imgsz)}."
        raise SlimError(f"{onnx} isn't a fixed-shape detector.", culprits=problems, remedy=remedy)


def _require_graph_of(onnx: Path, model: Any, precision: str) -> None:
    """Refuse a graph without Q/DQ nodes for int8, and one with them for fp32."""
    got = "int8" if any(node.op_type == "QuantizeLinear" for node in model.graph.node) else "fp32"
    if got != precision:
        remedy = "Build int8 from the quantize stage's graph, fp32 from the export."
        raise SlimError(f"{onnx} is an {got} graph, but {precision} was asked for.", remedy=remedy)
