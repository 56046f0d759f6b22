"""A TensorRT without a GPU: the small part of its API that yolo_slim uses, with the rules of each version.

An engine of it is an ONNX file behind a header, and ONNX Runtime computes it. ``FAKE_TENSORRT`` is its version,
``FAKE_FAIL`` makes a step fail (``builder``, ``build``, ``build-oom``, ``load``, ``context``, ``run``),
``FAKE_DLA_CORES`` counts accelerators. test_trt_contract.py compares it with NVIDIA's own bindings.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import os

import numpy as np
import onnx
import onnxruntime

__version__ = os.environ.get("FAKE_TENSORRT", "10.3.0")
_MAJOR = int(__version__.split(".")[0])
_FAIL = os.environ.get("FAKE_FAIL", "")
_MAGIC = b"FAKEPLAN"
BUILDS: list[dict] = []
"""What every build of this process was asked for."""


def _enum(name: str, *members: str) -> type[enum.IntEnum]:
    return enum.IntEnum(name, {member: number for number, member in enumerate(members)}, module=__name__)


DeviceType = _enum("DeviceType", "GPU", "DLA")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")
DataType = _enum("DataType", "FLOAT", "HALF", "INT8", "INT32")
if _MAJOR >= 11:
    BuilderFlag = _enum("BuilderFlag", "GPU_FALLBACK")
    NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
else:
    BuilderFlag = _enum("BuilderFlag", "FP16", "INT8", "GPU_FALLBACK")
    _kinds = ("EXPLICIT_BATCH", "STRONGLY_TYPED") if _MAJOR >= 10 else ("EXPLICIT_BATCH",)
    NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", *_kinds)


def nptype(trt_type: DataType) -> type:
    return {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32}[trt_type]


class ILogger:
    def __init__(self) -> None:
        pass

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


if _MAJOR >= 10:

    class IProgressMonitor:
        def __init__(self) -> None:
            pass

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            raise NotImplementedError

        def step_complete(self, phase_name: str, step: int) -> bool:
            raise NotImplementedError

        def phase_finish(self, phase_name: str) -> None:
            raise NotImplementedError


class INetworkDefinition:
    def __init__(self) -> None:
        self._flags: set[str] = set()
        self._content = b""

    @property
    def num_layers(self) -> int:
        return len(onnx.load_from_string(self._content).graph.node)


class ITimingCache:
    def __init__(self) -> None:
        self._entries: set[str] = set()
        self._version = __version__

    def serialize(self) -> bytes:
        return json.dumps({"version": self._version, "entries": sorted(self._entries)}).encode()

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if input_cache._version != self._version and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True


class IBuilderConfig:
    __slots__ = (
        "DLA_core",
        "_cache",
        "_flags",
        "_limits",
        "builder_optimization_level",
        "default_device_type",
        "profiling_verbosity",
        *(("progress_monitor",) if _MAJOR >= 10 else ()),
    )

    def __init__(self) -> None:
        self._flags: set[str] = set()
        self._limits: dict[str, int] = {}
        self._cache: ITimingCache | None = None
        self.default_device_type = DeviceType.GPU

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._limits[pool.name] = pool_size

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flags.add(flag.name)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        cache = ITimingCache()
        if serialized_timing_cache:
            try:
                value = json.loads(serialized_timing_cache)
            except ValueError:
                if _MAJOR >= 10:
                    raise RuntimeError("not a timing cache") from None
                return None
            cache._version, cache._entries = value["version"], set(value["entries"])
        return cache

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._version != __version__ and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        if _FAIL == "builder":
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    @property
    def num_DLA_cores(self) -> int:
        return int(os.environ.get("FAKE_DLA_CORES", "0"))

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        network = INetworkDefinition()
        network._flags = {kind.name for kind in NetworkDefinitionCreationFlag if flags >> int(kind) & 1}
        return network

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        BUILDS.append({"network": network._flags, "flags": config._flags, "limits": config._limits})
        reason = _refusal(network, config)
        if reason:
            self._logger.log(1, reason)
            return None
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 2)
            monitor.step_complete("Building Engine", 0)
            monitor.step_complete("Building Engine", 1)
            monitor.phase_finish("Building Engine")
        if config._cache is not None:
            config._cache._entries.add(hashlib.sha256(network._content).hexdigest()[:8])
        self._logger.log(3, "Engine generation completed")
        return _MAGIC + json.dumps({"version": __version__}).encode() + b"\n" + network._content


def _refusal(network: INetworkDefinition, config: IBuilderConfig) -> str:
    """Return why TensorRT's own rules forbid this build, or an empty string."""
    if _FAIL == "build":
        return "Could not find any implementation for node /model.22/Conv"
    if _FAIL == "build-oom":
        return "Requested amount of GPU memory (1073741824 bytes) could not be allocated: Cuda Runtime (out of memory)"
    is_strong = _MAJOR >= 11 or "STRONGLY_TYPED" in network._flags
    precisions = config._flags & {"FP16", "INT8"}
    if is_strong and precisions:
        return f"{sorted(precisions)} cannot be set in a strongly typed network"
    quantized = b"QuantizeLinear" in network._content
    if not is_strong and quantized and "INT8" not in precisions:
        return "Q/DQ layers need the INT8 flag"
    on_dla = config.default_device_type == DeviceType.DLA
    return "layers can't run on DLA and GPU fallback is off" if on_dla and "GPU_FALLBACK" not in config._flags else ""


class ParserError:
    def __init__(self) -> None:
        self._node = onnx.NodeProto()
        self._index = 0

    def node(self) -> int:
        return self._index

    def desc(self) -> str:
        return "Plugin not found, are the plugin name, version, and namespace correct?"

    if _MAJOR >= 10:

        def node_name(self) -> str:
            return str(self._node.name)

        def node_operator(self) -> str:
            return str(self._node.op_type)


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    def parse_from_file(self, model: str) -> bool:
        graph = onnx.load(model)
        for index, node in enumerate(graph.graph.node):
            if node.domain not in ("", "ai.onnx"):
                error = ParserError()
                error._node, error._index = node, index
                self._errors.append(error)
        if _MAJOR < 10 and "EXPLICIT_BATCH" not in self._network._flags:
            self._errors.append(ParserError())
        self._network._content = graph.SerializeToString()
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IExecutionContext:
    def __init__(self) -> None:
        self._session: onnxruntime.InferenceSession | None = None
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if _FAIL == "run":
            return False
        from pycuda import driver

        driver.do(self._run)
        return True

    def _run(self) -> None:
        source, target = self._session.get_inputs()[0], self._session.get_outputs()[0]
        blob = np.ctypeslib.as_array(
            ctypes.cast(self._addresses[source.name], ctypes.POINTER(ctypes.c_float)), shape=tuple(source.shape)
        )
        result = np.ascontiguousarray(self._session.run([target.name], {source.name: blob})[0])
        ctypes.memmove(self._addresses[target.name], result.ctypes.data, result.nbytes)


class ICudaEngine:
    def __init__(self) -> None:
        self._session: onnxruntime.InferenceSession | None = None

    def _tensors(self) -> list:
        return [*self._session.get_inputs(), *self._session.get_outputs()]

    def _tensor(self, name: str) -> object:
        return next(tensor for tensor in self._tensors() if tensor.name == name)

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors())

    def get_tensor_name(self, index: int) -> str:
        return self._tensors()[index].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        is_input = any(tensor.name == name for tensor in self._session.get_inputs())
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensor(name).shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF, "tensor(int32)": DataType.INT32}
        return kinds[self._tensor(name).type]

    def create_execution_context(self) -> IExecutionContext | None:
        if _FAIL == "context":
            return None
        context = IExecutionContext()
        context._session = self._session
        return context


class Runtime:
    DLA_core = -1

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        header, _, content = serialized_engine.partition(b"\n")
        version = json.loads(header.removeprefix(_MAGIC))["version"] if header.startswith(_MAGIC) else "?"
        if version != __version__ or _FAIL == "load":
            self._logger.log(1, f"Serialization assertion failed. Version tag does not match: {version}")
            return None
        engine = ICudaEngine()
        engine._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return engine
