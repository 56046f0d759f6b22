"""Inference of one image with PyCUDA: pinned host buffers, one stream, device buffers allocated once.

It uses the GPU's primary context, which CUDA's runtime, PyTorch and OpenCV share, and makes it current only during a
call. So a session works inside a larger program.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.backends import RuntimeFacts
from yolo_slim.backends.tensorrt.builder import make_logger
from yolo_slim.backends.tensorrt.cuda_graph import CudaGraph, GraphUnavailable
from yolo_slim.backends.tensorrt.engine import REBUILD, Settings
from yolo_slim.backends.tensorrt.sdk import out_of_memory
from yolo_slim.errors import SlimError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from yolo_slim.bundle import BundleSpec

NAME = "tensorrt"
GPU_TIMES_KEPT = 4096
REPLAY_TOLERANCE = 1e-3
"""Largest relative and absolute difference between a frame that ran as a graph and one that ran without it."""


class TensorRtSession:
    """A loaded engine with its buffers."""

    def __init__(self, trt: Any, cuda: Any, plan: bytes, spec: BundleSpec, settings: Settings, gpu_name: str) -> None:
        self._trt, self._cuda, self._spec, self._settings = trt, cuda, spec, settings
        self._gpu_name = gpu_name
        self._gpu_ms: deque[float] = deque(maxlen=GPU_TIMES_KEPT)
        self._graph: CudaGraph | None = None
        self._messages: list[str] = []
        # All names exist from the start, because close() also runs after a step below that failed.
        self._logger: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._host_input: Any = None
        self._host_output: Any = None
        self._device_input: Any = None
        self._device_output: Any = None
        self._stream: Any = None
        self._output: Any = None
        self._begin: Any = None
        self._end: Any = None
        self._primary = cuda.Device(0).retain_primary_context()
        try:
            with self._current():
                self._load(plan)
                self._allocate()
                self._graph_reason = self._capture()
        except BaseException:
            with suppress(SlimError):  # the user must see what failed first, not what failed while closing
                self.close()
            raise

    def infer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one image, see :class:`yolo_slim.backends.Session`."""
        with self._current():
            np.copyto(self._host_input, blob)  # asynchronous copies need page-locked memory
            self._begin.record(self._stream)
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.launch()
            self._end.record(self._stream)
            self._stream.synchronize()
            self._gpu_ms.append(self._end.time_since(self._begin))
        if self._host_output is not self._output:  # an fp16 output is converted
            np.copyto(self._output, self._host_output)
        return self._output

    @property
    def last_gpu_ms(self) -> float | None:
        """The GPU's time for the last frame, copies included, by CUDA events."""
        return self._gpu_ms[-1] if self._gpu_ms else None

    def describe(self) -> RuntimeFacts:
        """What really runs: GPU or DLA, CUDA graph or why not, the GPU's own times."""
        core = self._settings.dla_core
        fallback = " with GPU fallback" if self._settings.gpu_fallback else ""
        details: dict[str, object] = {
            "cuda_graph": self._graph is not None,
            "cuda_graph_reason": self._graph_reason,
            "gpu_ms": {
                "frames": len(self._gpu_ms),
                "last": self.last_gpu_ms,
                "median": float(np.median(self._gpu_ms)) if self._gpu_ms else None,
            },
        }
        return RuntimeFacts(
            runtime=NAME,
            versions={"tensorrt": str(self._trt.__version__)},
            provider=self._gpu_name if core is None else f"{self._gpu_name}, DLA core {core}{fallback}",
            threads=1,
            precision=self._spec.precision,
            details=details,
        )

    def close(self) -> None:
        """Free buffers, engine and context; a second call does nothing."""
        if self._primary is None:  # closed already
            return
        with self._current():
            if self._graph is not None:
                self._graph.close()
            for buffer in (self._device_input, self._device_output):
                if buffer is not None:
                    buffer.free()
            # Left to right: each is freed before the object that made it.
            self._graph = self._context = self._engine = self._runtime = None
            self._device_input = self._device_output = None
            self._host_input = self._host_output = self._output = None
            self._stream = self._begin = self._end = None
        self._primary.detach()
        self._primary = None

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the GPU's primary context current, restore the caller's, and explain CUDA's errors."""
        cuda = self._cuda
        try:
            self._primary.push()
            try:
                yield
            finally:
                cuda.Context.pop()
        except cuda.Error as error:
            raise self._explained(error) from None

    def _load(self, plan: bytes) -> None:
        trt = self._trt
        logger = self._logger = make_logger(trt, self._note)
        runtime = self._runtime = trt.Runtime(logger)
        if self._settings.dla_core is not None:
            runtime.DLA_core = self._settings.dla_core
        engine = self._engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused("can't load this engine")
        context = self._context = engine.create_execution_context()
        if context is None:
            raise self._refused("can't make an execution context for this engine")

    def _allocate(self) -> None:
        """Make the buffers and bind them once."""
        trt, cuda, engine, context = self._trt, self._cuda, self._engine, self._context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        self._require_io(inputs, outputs)
        self._host_input = self._pinned(inputs[0])
        self._host_output = self._pinned(outputs[0])
        # Once for all frames: a captured CUDA graph keeps these addresses.
        self._device_input = cuda.mem_alloc(self._host_input.nbytes)
        self._device_output = cuda.mem_alloc(self._host_output.nbytes)
        context.set_tensor_address(inputs[0], int(self._device_input))
        context.set_tensor_address(outputs[0], int(self._device_output))
        is_float32 = self._host_output.dtype == np.float32
        self._output = self._host_output if is_float32 else np.empty(self._host_output.shape, np.float32)
        self._stream = cuda.Stream()
        self._begin, self._end = cuda.Event(), cuda.Event()

    def _pinned(self, name: str) -> Any:
        """A page-locked array of a tensor's shape and type."""
        trt, engine = self._trt, self._engine
        shape = tuple(engine.get_tensor_shape(name))
        dtype = engine.get_tensor_dtype(name)
        if any(size < 0 for size in shape) or dtype not in (trt.DataType.FLOAT, trt.DataType.HALF):
            fact = f"Tensor '{name}' of the engine is {shape} {dtype}; expected a fixed shape of FLOAT or HALF."
            raise SlimError(fact, remedy="Export with batch=1, dynamic=False and float inputs and outputs.")
        return self._cuda.pagelocked_empty(shape, trt.nptype(dtype))

    def _require_io(self, inputs: list[str], outputs: list[str]) -> None:
        spec = self._spec
        if (inputs, outputs) != ([spec.input_name], [spec.output_name]):
            fact = (
                f"The engine has inputs {inputs} and outputs {outputs}; expected {spec.input_name}, {spec.output_name}."
            )
            raise SlimError(fact, remedy=REBUILD)

    def _enqueue(self) -> None:
        """Put one frame on the stream: to the device, inference, back."""
        cuda, context = self._cuda, self._context
        cuda.memcpy_htod_async(self._device_input, self._host_input, self._stream)
        if not context.execute_async_v3(self._stream.handle):
            raise self._refused("can't run this engine")
        cuda.memcpy_dtoh_async(self._host_output, self._device_output, self._stream)

    def _capture(self) -> str:
        """Try to make the CUDA graph; the answer is why there is none, or an empty string."""
        # Noise, not zeros: two ways to compute nothing would agree.
        self._host_input[...] = np.random.default_rng(0).random(self._host_input.shape, np.float32)
        self._enqueue()  # TensorRT allocates during a first run, which can't be captured
        self._stream.synchronize()
        if not self._settings.cuda_graph:
            return "switched off by the bundle's settings"
        plain = np.array(self._host_output, np.float32)
        self._host_output.fill(0)  # a graph that writes nothing must not find the plain frame's answer
        try:
            self._graph = CudaGraph(self._stream.handle, self._enqueue)
            self._graph.launch()
        except GraphUnavailable as error:
            return self._without_graph(error.fact)
        self._stream.synchronize()
        if not np.allclose(plain, self._host_output, REPLAY_TOLERANCE, REPLAY_TOLERANCE, equal_nan=True):
            return self._without_graph("a frame that ran as a graph gave other outputs than one that ran without it")
        return ""

    def _without_graph(self, reason: str) -> str:
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        return reason

    def _note(self, severity: int, text: str) -> None:
        if severity <= 1:  # internal errors and errors
            self._messages.append(text)

    def _refused(self, fact: str) -> SlimError:
        recent = self._messages[-4:]
        if any(out_of_memory(text) for text in recent):
            return self._too_little_memory(recent)
        return SlimError(f"TensorRT {self._trt.__version__} {fact}.", culprits=recent, remedy=REBUILD)

    def _explained(self, error: Exception) -> SlimError:
        """What a CUDA error means for the user."""
        if isinstance(error, self._cuda.MemoryError) or out_of_memory(str(error)):
            return self._too_little_memory([str(error)])
        return SlimError(
            f"CUDA failed: {error}",
            remedy="This process can't use CUDA any more: start the program again, and look at sudo dmesg.",
        )

    def _too_little_memory(self, messages: list[str]) -> SlimError:
        return SlimError(
            f"The GPU has too little memory to run {self._spec.name} (workspace {self._settings.workspace_mb} MB).",
            culprits=messages,
            remedy="Close other programs, or lower tensorrt.workspace_mb in the profile and build the bundle again.",
        )
