"""NCNN on the CPU: weights stored as fp16, fp16 arithmetic where the CPU has it.

Built by pnnx from the ONNX file, so that one exported graph feeds every runtime. pnnx is a program: it is found beside
its Python package and run in a folder of its own, because it writes its intermediate files next to the model.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.backends import Built, OperationTimes, Options, OptionValue, RuntimeFacts, require_precision
from yolo_slim.backends.ncnn.fusion import fuse_hardswish
from yolo_slim.backends.ncnn.layer import layer_graph as layer_graph
from yolo_slim.backends.ncnn.operations import OWN_LAYOUT, time_layers
from yolo_slim.backends.ncnn.options import NAMES_IN_NCNN, SPIN_COUNT, waiting_briefly
from yolo_slim.backends.ncnn.options import OPTIONS as OPTIONS
from yolo_slim.child_process import own_environment
from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.backends.layers import PrepareLayer, RunLayer
    from yolo_slim.bundle import BundleSpec

NAME = "ncnn"
PRECISIONS = ("fp16",)
PARAM, BIN = "model.ncnn.param", "model.ncnn.bin"
PARAM_MAGIC = "7767517"
"""First line of every text .param file."""
BUILD_TIMEOUT_S = 900
_OTHER_PNNX = "Try another pnnx release (pip install pnnx==20260526), or report the model with this output."


def build(onnx: Path, out: Path, *, precision: str, imgsz: tuple[int, int]) -> Built:
    """Convert an ONNX file with pnnx; write ``model.ncnn.param`` and ``model.ncnn.bin`` into ``out``.

    Raises:
        SlimError: unknown precision, pnnx missing or failing, or a result that doesn't load and run.
    """
    require_precision(NAME, precision, PRECISIONS)
    with tempfile.TemporaryDirectory(prefix="yolo-slim-pnnx-") as temporary:
        folder = Path(temporary)
        shutil.copyfile(onnx, folder / "model.onnx")  # pnnx writes beside its input
        output = _run_pnnx(folder, imgsz)
        names = _io_names(folder / PARAM, output)
        # Later pnnx releases may do it themselves; then nothing is left to fuse.
        fused = fuse_hardswish((folder / PARAM).read_text(encoding="utf-8"))
        (folder / PARAM).write_text(fused, encoding="utf-8")
        _try_out(folder, names, imgsz)  # before anything is written into the bundle
        for name in (PARAM, BIN):
            shutil.copyfile(folder / name, out / name)
    return Built(model={"param": PARAM, "bin": BIN}, input_name=names[0], output_name=names[1])


def open(folder: Path, spec: BundleSpec, threads: int, **options: OptionValue) -> NcnnSession:
    """Load a bundle's model for inference on ``threads`` threads, with some of :data:`OPTIONS`."""
    net = _load(folder / spec.model["param"], folder / spec.model["bin"], threads, options)
    return NcnnSession(net, spec.input_name, spec.output_name, threads, options)


def open_layer(graph: str, threads: int) -> PrepareLayer:
    """Load a graph of ``layer_graph``, see :mod:`yolo_slim.backends.layers`; its weights are zeros.

    A network keeps tensors in NCNN's own layout, so input and output are in it here too.
    """
    ncnn = _import()
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    if net.load_param_mem(graph) != 0 or net.load_model(ncnn.DataReaderFromEmpty()) != 0:
        raise SlimError(f"NCNN {ncnn.__version__} can't load a single layer.", remedy="Update ncnn on this machine.")

    def prepare(blob: NDArray[np.float32]) -> RunLayer:
        extractor = net.create_extractor()
        # A Mat of an array doesn't own it, and the array may be gone when the layer runs.
        extractor.input("in0", ncnn.Mat(blob[0]).clone())
        _extract(net, extractor, "packed")
        return partial(_extract, net, extractor, "out0")

    return prepare


def _extract(_: object, extractor: Any, name: str) -> object:
    """Compute a tensor in NCNN's layout; the network is given to be kept, because its extractor doesn't keep it."""
    status, tensor = extractor.extract(name, OWN_LAYOUT)
    if status != 0:
        raise SlimError(f"NCNN failed to compute '{name}' of a single layer (status {status}).")
    return tensor


def versions() -> dict[str, str]:
    """The version of ncnn; a missing package is a :class:`SlimError`."""
    return {"ncnn": str(_import().__version__)}


def time_operations(
    folder: Path, spec: BundleSpec, blob: NDArray[np.float32], frames: int, threads: int, **options: OptionValue
) -> OperationTimes:
    """Run one input layer by layer, every other frame as a whole."""
    param = folder / spec.model["param"]
    net = _load(param, folder / spec.model["bin"], threads, options)
    session = NcnnSession(net, spec.input_name, spec.output_name, threads, options)
    image = _import().Mat(blob[0])
    lines = [line.split() for line in param.read_text(encoding="utf-8").splitlines()[2:] if line.strip()]
    return time_layers(net, lines, spec.input_name, image, lambda: session.infer(blob), frames)


class NcnnSession:
    """A loaded NCNN network."""

    def __init__(
        self, net: Any, input_name: str, output_name: str, threads: int, options: Options | None = None
    ) -> None:
        self._mat = _import().Mat
        self._options = options or {}
        self._net = net
        self._input_name = input_name
        self._output_name = output_name
        self._threads = threads

    def infer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one image, see :class:`yolo_slim.backends.Session`."""
        # Mats and arrays share memory both ways. That is safe: the blob outlives the extraction, and the array that is
        # returned keeps the output Mat alive.
        extractor = self._net.create_extractor()
        extractor.input(self._input_name, self._mat(blob[0]))
        status, output = extractor.extract(self._output_name)
        if status != 0:
            raise SlimError(f"NCNN failed to compute '{self._output_name}' (status {status}).")
        return np.asarray(output)[None]

    def describe(self) -> RuntimeFacts:
        """What really runs; weights are stored as fp16, but arithmetic is fp16 only where the CPU has it."""
        option = self._net.opt
        arithmetic = option.use_fp16_arithmetic and _import().cpu_support_arm_asimdhp()
        details: dict[str, object] = {
            **self._options,
            "fp16_storage": bool(option.use_fp16_storage),
            "fp16_arithmetic": bool(arithmetic),
        }
        return RuntimeFacts(
            runtime=NAME,
            versions=versions(),
            provider="CPU",
            threads=self._threads,
            precision="fp16",
            details=details,
        )

    def close(self) -> None:
        """Free the network."""
        self._net = None


def _import(spin: object = None) -> Any:
    try:
        with waiting_briefly(spin or SPIN_COUNT.get(platform.machine())):
            import ncnn
    except ImportError as error:
        raise SlimError(f"ncnn can't be imported: {error}", remedy="Install it: pip install ncnn") from None
    return ncnn


def _load(param: Path, weights: Path, threads: int, options: Options | None = None) -> Any:
    chosen = options or {}
    ncnn = _import(chosen.get("spin"))
    net = ncnn.Net()
    # Before loading: loading already arranges the weights for these options.
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False  # a build with Vulkan would silently run on a GPU
    for name, theirs in NAMES_IN_NCNN.items():
        if name in chosen:
            setattr(net.opt, theirs, chosen[name])
    if net.load_param(str(param)) != 0 or net.load_model(str(weights)) != 0:
        raise SlimError(
            f"NCNN {ncnn.__version__} can't load {param.name} and {weights.name}.",
            remedy="Update ncnn on this machine, or build the bundle again.",
        )
    return net


def _pnnx_program() -> Path:
    """The pnnx executable, found without importing its package, which needs torch."""
    package = importlib.util.find_spec("pnnx")
    folders = [] if package is None else list(package.submodule_search_locations or [])
    names = ("pnnx.exe",) if os.name == "nt" else ("pnnx",)
    for path in (Path(folder) / name for folder in folders for name in names):
        if path.is_file():
            return path
    raise SlimError("pnnx isn't installed; it converts ONNX to NCNN.", remedy="Install it: pip install pnnx")


def _run_pnnx(folder: Path, imgsz: tuple[int, int]) -> str:
    """Convert ``folder/model.onnx`` in place; the answer is what pnnx printed."""
    command = [str(_pnnx_program()), "model.onnx", f"inputshape=[1,3,{imgsz[0]},{imgsz[1]}]", "fp16=1"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=BUILD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SlimError(f"pnnx didn't finish within {BUILD_TIMEOUT_S} s.", remedy=_OTHER_PNNX) from None
    output = (done.stdout + done.stderr).decode(errors="replace")
    # Status 0 doesn't prove that pnnx wrote its files.
    if done.returncode != 0 or not (folder / PARAM).is_file() or not (folder / BIN).is_file():
        fact = f"pnnx {_pnnx_version()} failed with status {done.returncode}; the end of its output:"
        raise SlimError(fact, culprits=_tail(output), remedy=_OTHER_PNNX)
    return output


def _pnnx_version() -> str:
    try:
        return importlib.metadata.version("pnnx")
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"


def _tail(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.strip()][-8:]


def _io_names(param: Path, output: str) -> tuple[str, str]:
    """The names of the only input and the only output of a .param file."""
    lines = param.read_text(encoding="utf-8").splitlines()
    layers = [line.split() for line in lines[2:] if line.strip()]
    # The second line counts the layers: with fewer of them the file was cut off.
    if len(lines) < 3 or lines[0] != PARAM_MAGIC or len(layers) != int(lines[1].split()[0]):
        raise SlimError("pnnx wrote an incomplete .param file.", culprits=_tail(output), remedy=_OTHER_PNNX)
    produced = [name for layer in layers for name in _blobs(layer)[1]]
    consumed = {name for layer in layers for name in _blobs(layer)[0]}
    inputs = [name for layer in layers if layer[0] == "Input" for name in _blobs(layer)[1]]
    outputs = [name for name in produced if name not in consumed]
    if len(inputs) != 1 or len(outputs) != 1:
        fact = f"The NCNN graph has inputs {inputs} and outputs {outputs}; expected one of each."
        raise SlimError(fact, remedy="Export a detector with one raw output (nms=None).")
    return inputs[0], outputs[0]


def _blobs(layer: list[str]) -> tuple[list[str], list[str]]:
    """Input and output blob names of one .param line: type name n_in n_out names..."""
    inputs, outputs = int(layer[2]), int(layer[3])
    return layer[4 : 4 + inputs], layer[4 + inputs : 4 + inputs + outputs]


def _try_out(folder: Path, names: tuple[str, str], imgsz: tuple[int, int]) -> None:
    """Load and run the new model once."""
    # In a process of its own: some pnnx releases write graphs that crash NCNN, and this process with it.
    code = "import sys; from yolo_slim.backends import ncnn; ncnn.run_once(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), *names, str(imgsz[0]), str(imgsz[1])]
    given: dict[str, Any] = {"env": own_environment(), "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, **given, timeout=BUILD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SlimError(f"NCNN didn't run the model within {BUILD_TIMEOUT_S} s.", remedy=_OTHER_PNNX) from None
    if done.returncode != 0:
        fact = f"The model that pnnx {_pnnx_version()} wrote doesn't run in NCNN (status {done.returncode})."
        raise SlimError(fact, culprits=_tail(done.stdout + done.stderr), remedy=_OTHER_PNNX)


def run_once(folder: str, input_name: str, output_name: str, height: str, width: str) -> None:
    """Infer a grey image and refuse an output that isn't one finite matrix."""
    session = NcnnSession(_load(Path(folder) / PARAM, Path(folder) / BIN, 1), input_name, output_name, 1)
    output = session.infer(np.full((1, 3, int(height), int(width)), 0.5, np.float32))
    if output.ndim != 3 or not np.isfinite(output).all():
        raise SlimError(f"The output has shape {output.shape[1:]} or isn't finite; expected a finite matrix.")
