"""ONNX to a TensorRT plan, from TensorRT 8.6 to 11, by what the version at hand offers and not by its number.

The precision lives in the graph (FP16-typed, or with Q/DQ nodes). Where networks can be strongly typed, TensorRT
follows those types; where they can't (8.6), builder flags must allow them too. An int8 graph's float layers are fp32 by
type: as long as precision flags exist (up to 10), it stays weakly typed, so that those layers may run in fp16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from yolo_slim.backends import OnStep
from yolo_slim.backends.tensorrt.engine import BuildFacts, Settings
from yolo_slim.backends.tensorrt.sdk import offered, out_of_memory
from yolo_slim.backends.tensorrt.timing_cache import load_cache, save_cache
from yolo_slim.errors import SlimError

MESSAGES_SHOWN = 6
PRECISION_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}
"""Builder flags of a weakly typed network; an int8 graph's float layers may run in fp16 there."""
_SEVERITIES = ("internal error", "error", "warning", "info", "verbose")
"""By the value of ``ILogger.Severity``."""


class BuildLog:
    """Writes everything that TensorRT says to a file, and keeps its errors for the message to the user."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._start = time.monotonic()
        self.errors: list[str] = []

    def write(self, severity: int, text: str) -> None:
        """Append one message; TensorRT calls this from several threads."""
        word = _SEVERITIES[severity] if severity < len(_SEVERITIES) else str(severity)
        self._file.write(f"{time.monotonic() - self._start:8.2f} s {word}: {text}\n")
        if severity <= 1:
            self.errors.append(text)

    def say(self, text: str) -> None:
        """Append a line of our own."""
        self.write(3, text)


def build_plan(
    trt: Any,
    onnx: Path,
    *,
    precision: str,
    settings: Settings,
    log: BuildLog,
    cache_file: Path,
    on_step: OnStep,
) -> tuple[bytes, BuildFacts]:
    """Build the serialized engine of an ONNX file.

    Raises:
        SlimError: the graph can't be parsed (nodes named), a DLA that isn't there, memory that ran out, or any other
            reason for which TensorRT builds nothing.
    """
    logger = make_logger(trt, log.write)
    builder = _builder(trt, logger, log)
    _require_dla(builder, trt, settings)
    network_flags, builder_flags = choose_flags(trt, precision, settings)
    network = builder.create_network(_bits(trt.NetworkDefinitionCreationFlag, network_flags))
    parser = trt.OnnxParser(network, logger)  # owns the network's weights: it must live until the engine is built
    if not parser.parse_from_file(str(onnx)):
        raise _unparsed(trt, parser, onnx, log)
    config = _configured(trt, builder, settings, builder_flags)
    cached = load_cache(config, cache_file)[1] if settings.timing_cache else "off"
    monitor = _watch(trt, config, on_step)  # in a variable: TensorRT may not keep it alive
    log.say(f"network flags {network_flags}, builder flags {builder_flags}, timing cache {cached}")
    start = time.monotonic()
    memory = builder.build_serialized_network(network, config)
    if memory is None:
        raise _unbuilt(trt, onnx, settings, log)
    seconds = round(time.monotonic() - start, 1)
    unsaved = save_cache(config, cache_file) if settings.timing_cache else ""
    return bytes(memory), BuildFacts(
        network_flags=network_flags,
        builder_flags=builder_flags,
        timing_cache=unsaved or cached,
        timing_cache_file=str(cache_file) if settings.timing_cache else None,
        progress=monitor is not None,
        layers=network.num_layers,
        seconds=seconds,
    )


def choose_flags(trt: Any, precision: str, settings: Settings) -> tuple[list[str], list[str]]:
    """Names of the network flags and the builder flags for a precision, among those that this TensorRT has."""
    kinds, flags = trt.NetworkDefinitionCreationFlag, trt.BuilderFlag
    has_flags = offered(flags, "FP16") is not None and offered(flags, "INT8") is not None
    # Weakly typed where precision flags exist: int8 so that its float layers may run in fp16, and DLA because NVIDIA
    # documents strongly typed DLA networks only for versions without those flags.
    wants_flags = has_flags and (precision == "int8" or settings.dla_core is not None)
    is_strong = offered(kinds, "STRONGLY_TYPED") is not None and not wants_flags
    network_flags = ["STRONGLY_TYPED"] if is_strong else []
    # TensorRT 8.6 parses ONNX only into networks with this flag; TensorRT 11 no longer has it.
    if not is_strong and offered(kinds, "EXPLICIT_BATCH") is not None:
        network_flags = ["EXPLICIT_BATCH"]
    builder_flags = [] if is_strong or not has_flags else list(PRECISION_FLAGS[precision])
    if settings.dla_core is not None and settings.gpu_fallback:
        builder_flags.append(str(flags.GPU_FALLBACK.name))
    return network_flags, builder_flags


def make_logger(trt: Any, write: Callable[[int, str], object]) -> Any:
    """An ``ILogger`` that passes every message to ``write(severity, text)``."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            write(int(severity), msg)

    return Logger()


def _builder(trt: Any, logger: Any, log: BuildLog) -> Any:
    try:  # TensorRT refuses to make a builder without a usable GPU
        builder = trt.Builder(logger)
    except Exception as error:  # pybind11 raises TypeError for a null pointer
        raise SlimError(
            f"TensorRT {trt.__version__} can't make a builder: {error}",
            culprits=log.errors[-MESSAGES_SHOWN:],
            remedy="Check that the GPU works (sudo tegrastats) and that JetPack's packages belong together.",
        ) from None
    return builder


def _require_dla(builder: Any, trt: Any, settings: Settings) -> None:
    """Refuse settings that ask for an accelerator that the chip doesn't have."""
    if settings.dla_core is None:
        return
    cores = builder.num_DLA_cores
    if settings.dla_core >= cores:
        raise SlimError(
            f"DLA core {settings.dla_core} was asked for, and TensorRT {trt.__version__} finds {cores} here.",
            remedy="Orin Nano and Thor have no DLA, and TensorRT 10.8 to 11.4.0 support none: set tensorrt.dla_core: "
            "null in the profile and build the bundle again.",
        )


def _bits(kind: Any, names: list[str]) -> int:
    return sum(1 << int(getattr(kind, name)) for name in names)


def _configured(trt: Any, builder: Any, settings: Settings, builder_flags: list[str]) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for name in builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if settings.dla_core is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = settings.dla_core
    return config


def _watch(trt: Any, config: Any, on_step: OnStep) -> Any:
    """Report the builder's steps. The answer must stay alive while TensorRT builds; None where it has no monitors."""
    if offered(trt, "IProgressMonitor") is None or offered(trt.IBuilderConfig, "progress_monitor") is None:
        return None
    monitor = config.progress_monitor = _monitor(trt, on_step)
    return monitor


def _monitor(trt: Any, on_step: OnStep) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_step(f"{phase_name}: {step + 1} of {self._steps.get(phase_name, step + 1)}")
            # False would stop the build.
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _unparsed(trt: Any, parser: Any, onnx: Path, log: BuildLog) -> SlimError:
    """The error that names every node TensorRT refused."""
    culprits = [_parser_error(trt, parser.get_error(index)) for index in range(parser.num_errors)]
    return SlimError(
        f"TensorRT {trt.__version__} can't read {onnx.name}.",
        culprits=culprits or log.errors[-MESSAGES_SHOWN:] or ["it doesn't say why"],
        remedy="Export the raw one-to-many head with opset 17, and quantize with yolo_slim's own recipe.",
    )


def _parser_error(trt: Any, parser_error: Any) -> str:
    """One line: which node, and why."""
    where = f"node {parser_error.node()}"
    if offered(trt.ParserError, "node_name") is not None and offered(trt.ParserError, "node_operator") is not None:
        where += f" {parser_error.node_name()} ({parser_error.node_operator()})"
    return f"{where}: {parser_error.desc()}"


def _unbuilt(trt: Any, onnx: Path, settings: Settings, log: BuildLog) -> SlimError:
    if any(out_of_memory(text) for text in log.errors):
        return SlimError(
            f"TensorRT {trt.__version__} ran out of memory while building {onnx.name} "
            f"(workspace {settings.workspace_mb} MB, optimization level {settings.optimization_level}).",
            culprits=log.errors[-MESSAGES_SHOWN:],
            remedy="Close other programs (a desktop uses about 1 GB), add swap, or lower tensorrt.workspace_mb and "
            "tensorrt.optimization_level in the profile and build the bundle again.",
        )
    return SlimError(
        f"TensorRT {trt.__version__} built no engine from {onnx.name}.",
        culprits=log.errors[-MESSAGES_SHOWN:] or ["it doesn't say why"],
        remedy="engine/build.log has every message; allow gpu_fallback where a DLA can't run a layer.",
    )
