"""MNN on the CPU: weights stored as fp16 or, scaled by channel, as int8; fp16 arithmetic where the CPU has it.

Built by the converter of its wheel from the ONNX file, so that one exported graph feeds every runtime. No target has it
by default: it was slower than NCNN where both were measured (docs/benchmarks/mnn.md).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.backends import Built, Options, OptionValue, RuntimeFacts, require_precision
from yolo_slim.child_process import own_environment
from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.bundle import BundleSpec

NAME = "mnn"
PRECISIONS = ("fp16", "int8")
MODEL = "model.mnn"
OPTIONS: dict[str, tuple[OptionValue, ...]] = {"arithmetic": ("low", "high"), "memory": ("normal", "low")}
"""``arithmetic``: ``high`` is fp32 where the processor could do fp16. ``memory``: ``low`` computes with int8 weights as
they are stored, and scales every activation anew."""
WEIGHTS = {"fp16": ["--fp16"], "int8": ["--weightQuantBits", "8"]}
"""Options of the converter."""
BUILD_TIMEOUT_S = 900
_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
"""Not the wheel's program ``mnnconvert``: that one sends statistics of the model to a server."""
_REPORT = "Try another release of MNN, or report the model with this output."


def build(onnx: Path, out: Path, *, precision: str, imgsz: tuple[int, int]) -> Built:
    """Convert an ONNX file; write ``model.mnn`` into ``out``.

    Raises:
        SlimError: unknown precision, MNN missing, or a result that doesn't load and run.
    """
    require_precision(NAME, precision, PRECISIONS)
    names = _io_names(onnx)
    with tempfile.TemporaryDirectory(prefix="yolo-slim-mnn-") as temporary:
        model = Path(temporary) / MODEL  # the converter writes scratch files beside it
        _convert(onnx, model, precision)
        _try_out(model, names, imgsz)  # before anything is written into the bundle
        (out / MODEL).write_bytes(model.read_bytes())
    return Built(model={"mnn": MODEL}, input_name=names[0], output_name=names[1])


def open(folder: Path, spec: BundleSpec, threads: int, **options: OptionValue) -> MnnSession:
    """Load a bundle's model for inference on ``threads`` threads, with some of :data:`OPTIONS`."""
    names = (spec.input_name, spec.output_name)
    return MnnSession(folder / spec.model["mnn"], names, threads, spec.precision, options)


def versions() -> dict[str, str]:
    """The version of MNN; a missing package is a :class:`SlimError`."""
    return {"MNN": str(_import().version())}


class MnnSession:
    """A loaded MNN network."""

    def __init__(
        self, path: Path, names: tuple[str, str], threads: int, precision: str, options: Options | None = None
    ) -> None:
        mnn = _import()
        self._options = options or {}
        self._threads, self._precision = threads, precision
        config = {
            "backend": "CPU",
            "numThread": threads,
            "precision": self._options.get("arithmetic", "low"),
            "memory": self._options.get("memory", "normal"),
        }
        try:
            with _quiet():
                # The network stops working when its runtime manager is collected.
                self._runtime = mnn.nn.create_runtime_manager((config,))
                self._net = mnn.nn.load_module_from_file(
                    str(path), [names[0]], [names[1]], runtime_manager=self._runtime, rearrange=True
                )
        except (SystemError, RuntimeError):  # it says no more than that
            raise SlimError(
                f"MNN {mnn.version()} can't load {path.name} with the tensors {' and '.join(names)}.",
                remedy="Update MNN on this machine, or build the bundle again.",
            ) from None
        self._const = mnn.expr.const

    def infer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one image, see :class:`yolo_slim.backends.Session`."""
        outputs = self._net.onForward([self._const(blob.ctypes.data, list(blob.shape))])
        if not outputs:
            raise SlimError("MNN computed no output.", remedy="Build the bundle again.")
        # A copy: the memory that it reads from belongs to the network.
        return np.array(outputs[0].read(), np.float32)

    def describe(self) -> RuntimeFacts:
        """What really runs."""
        return RuntimeFacts(
            runtime=NAME,
            versions=versions(),
            provider="CPU",
            threads=self._threads,
            precision=self._precision,
            details=dict(self._options),
        )

    def close(self) -> None:
        """Free the network."""
        self._net = self._runtime = None


def run_once(path: str, input_name: str, output_name: str, height: str, width: str) -> None:
    """Infer a grey image and refuse an output that isn't one finite matrix."""
    session = MnnSession(Path(path), (input_name, output_name), 1, "")
    output = session.infer(np.full((1, 3, int(height), int(width)), 0.5, np.float32))
    if output.ndim != 3 or not np.isfinite(output).all():
        raise SlimError(f"The output has shape {output.shape} or isn't finite; expected a finite matrix.")


def _import() -> Any:
    try:
        with _quiet():
            import MNN
            import MNN.nn
    except ImportError as error:
        raise SlimError(f"MNN can't be imported: {error}", remedy="Install it: pip install MNN") from None
    return MNN


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what MNN prints about the processor: standard output may be an answer in JSON."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        libc.fflush(None)  # C keeps lines back that would come out later, in the middle of ours
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _io_names(onnx: Path) -> tuple[str, str]:
    """The names of the only input and the only output of a graph."""
    import onnx as onnx_package

    try:
        graph = onnx_package.load(str(onnx)).graph
    except Exception as error:  # protobuf's exception classes share no public base
        raise SlimError(f"{onnx} isn't a readable ONNX file: {error}", remedy="Export it again.") from None
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    outputs = [value.name for value in graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        fact = f"{onnx} has inputs {inputs} and outputs {outputs}; expected one of each."
        raise SlimError(fact, remedy="Export a detector with one raw output (nms=None).")
    return inputs[0], outputs[0]


def _convert(onnx: Path, model: Path, precision: str) -> None:
    _import()  # a missing package is named before a process is started for it
    given = ["-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(model), *WEIGHTS[precision]]
    output = _run([sys.executable, "-c", _CONVERT, *given], f"MNN's converter failed on {onnx}")
    # Status 0 doesn't prove that it wrote the model.
    if not model.is_file():
        raise SlimError(f"MNN's converter wrote no model for {onnx}.", culprits=_tail(output), remedy=_REPORT)


def _try_out(model: Path, names: tuple[str, str], imgsz: tuple[int, int]) -> None:
    """Load and run the new model once, in a process of its own: a graph that crashes MNN must not end this one."""
    code = "import sys; from yolo_slim.backends import mnn; mnn.run_once(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(model), *names, str(imgsz[0]), str(imgsz[1])]
    _run(command, "The model that MNN's converter wrote doesn't run")


def _run(command: list[str], problem: str) -> str:
    """Run a program and return what it printed; ``problem`` is said where it fails."""
    given: dict[str, Any] = {"env": own_environment(), "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, **given, timeout=BUILD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SlimError(f"{problem}: not done within {BUILD_TIMEOUT_S} s.", remedy=_REPORT) from None
    output = done.stdout + done.stderr
    if done.returncode != 0:
        raise SlimError(f"{problem} (status {done.returncode}).", culprits=_tail(output), remedy=_REPORT)
    return output


def _tail(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.strip()][-8:]
