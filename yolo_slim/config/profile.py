"""A device profile: one file of ``targets/``, frozen and typed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from yolo_slim.build_key import BuildName
from yolo_slim.bundle import PACKAGES, Precision, Runtime
from yolo_slim.config.strict import Frozen, Percent, Positive
from yolo_slim.requirements import SPECIFIER, Requirements, is_pattern


def _compiles(text: str) -> str:
    if not is_pattern(text):
        raise PydanticCustomError("pattern", "a regular expression")
    return text


Pattern = Annotated[str, AfterValidator(_compiles)]
Specifier = Annotated[str, Field(pattern=SPECIFIER)]


class Budget(Frozen):
    """The gates of a profile; a gate that is absent is not checked."""

    min_fps: Annotated[float, Field(gt=0)] | None = None
    """End to end (pre-processing + inference + post-processing), frames per second."""
    max_p99_ms: Annotated[float, Field(gt=0)] | None = None
    """99th percentile of the end-to-end latency, milliseconds."""
    max_map50_95_drop: Percent = 0.01
    """Largest loss of mAP50-95 against the unpruned control in PyTorch; .01 is one point."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    """Size of the model files, megabytes (10^6 bytes)."""
    max_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """Peak resident memory of the inferring process, megabytes."""


class RungBudgets(Frozen):
    """Largest drop of mAP50-95 that one rung of the ladder may cost."""

    recovered: Percent = 0.01
    """Recovered weights against the control."""
    onnx: Percent = 0.003
    """ONNX against the PyTorch weights it was exported from."""
    fp32: Percent = 0.003
    """An fp32 bundle against its ONNX."""
    fp16: Percent = 0.003
    """An fp16 bundle against its ONNX."""
    int8: Percent = 0.005
    """An int8 bundle against its ONNX."""


class RuntimeChoice(Frozen):
    """One runtime of a profile with the precisions to build."""

    runtime: Runtime
    """What runs the model: a folder of `yolo_slim/backends`."""
    precisions: Annotated[list[Precision], Field(min_length=1)]
    """Each becomes a bundle of its own; the fastest inside the accuracy budget wins."""


class Thermal(Frozen):
    """When a timing counts; one during which the device throttled never does."""

    max_celsius: Annotated[float, Field(gt=0)] | None = None
    """A run on the device that starts or ends hotter is marked invalid."""


class TensorRt(Frozen):
    """How a TensorRT engine is built and run on the device: `engine` of bundle.json."""

    workspace_mb: Positive = 1024
    """Most scratch memory of one layer, mebibytes; lower it where building runs out of memory."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """How long TensorRT searches for faster kernels; 3 is its own default, 5 takes several times as long."""
    dla_core: Annotated[int, Field(ge=0)] | None = None
    """Deep-learning accelerator that runs the network; absent: the GPU."""
    gpu_fallback: bool = True
    """Layers that a DLA can't run go to the GPU; off: they are an error."""
    timing_cache: bool = True
    """Keep measured kernel times on the device for its next build."""
    cuda_graph: bool = True
    """Launch a frame as one CUDA graph where that works."""


class JetPack(Frozen):
    """One JetPack that a profile stands for."""

    jetpack: str
    """Version, e.g. ``"6.2"``."""
    l4t: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    """Jetson Linux release that it contains, e.g. ``"36.4"``; the device must have one of them."""
    tensorrt: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)*$")]
    """TensorRT that it contains, e.g. ``"10.3"``."""


class Jetson(Frozen):
    """Facts of a Jetson module that decide what can be built for it and what the device must have."""

    sm: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    """Compute capability that the device's GPU must have, e.g. ``"8.7"``."""
    dla_cores: Annotated[int, Field(ge=0)]
    """Deep-learning accelerators; 0: none."""
    memory_gb: Annotated[list[Positive], Field(min_length=1)]
    """Sizes of the memory that CPU and GPU share, by variant of the module; the device must have one of them."""
    power_modes: Annotated[list[str], Field(min_length=1)]
    """Names that ``nvpmodel -q`` can give; `power_mode` is one of them."""
    jetpacks: Annotated[list[JetPack], Field(min_length=1)]
    """JetPacks that a bundle must work on; what is blocked on one of them is refused."""


class Profile(Frozen):
    """A device profile: one file of ``targets/``."""

    name: str
    """As in ``TARGET=``; equals the file's name."""
    description: str
    """One line for people."""
    device_model: Pattern | None = None
    """Regular expression for the device-tree model string; absent means that any machine is this device."""
    arch: Literal["aarch64", "x86_64", "any"]
    """Processor architecture (``uname -m``)."""
    runtimes: Annotated[list[RuntimeChoice], Field(min_length=1)]
    """Builds that compete."""
    imgsz: Positive = 640
    """Input side in pixels unless IMGSZ says otherwise."""
    threads: Positive
    """Inference threads on the device."""
    power_mode: str | None = None
    """Power mode (Jetson) or CPU governor to time in; `doctor` and `bench` on the device name another one."""
    channel_multiple: Positive = 8
    """Widths of pruned layers stay multiples of this, the block in which the device's runtimes compute channels."""
    sdk: dict[str, Specifier] = {}
    """Python package to version that the device must have, e.g. ``onnxruntime: ">=1.18"``."""
    budget: Budget = Budget()
    """The gates."""
    rungs: RungBudgets = RungBudgets()
    """Largest drop of every rung of the ladder."""
    thermal: Thermal = Thermal()
    """When a timing counts."""
    tensorrt: TensorRt = TensorRt()
    """How a TensorRT engine is built and run on the device."""
    jetson: Jetson | None = None
    """Facts of a Jetson module; absent on other devices."""

    @field_validator("jetson")
    @classmethod
    def _knows_the_power_mode(cls, value: Jetson | None, info: ValidationInfo) -> Jetson | None:
        """Refuse a power mode that the module doesn't have: no timing could ever be in it."""
        mode = info.data.get("power_mode")
        if value is not None and mode is not None and mode not in value.power_modes:
            raise PydanticCustomError("mode", "power_modes with power_mode {mode} among them", {"mode": mode})
        return value

    @property
    def builds(self) -> list[BuildName]:
        """All builds, the first choice first."""
        return [BuildName(choice.runtime, precision) for choice in self.runtimes for precision in choice.precisions]

    def engine_settings(self, runtime: str) -> dict[str, Any]:
        """How the device builds the engine of a runtime's bundle; empty where it builds none."""
        return self.tensorrt.model_dump() if runtime == "tensorrt" else {}

    def requirements(self, runtime: str) -> Requirements:
        """What the device must have to run a bundle of one runtime; the other runtimes' packages aren't needed."""
        others = {package for name, packages in PACKAGES.items() if name != runtime for package in packages}
        jetson = self.jetson
        return Requirements(
            arch=self.arch,
            device_model=self.device_model,
            power_mode=self.power_mode,
            packages={package: versions for package, versions in self.sdk.items() if package not in others},
            memory_gb=() if jetson is None else tuple(jetson.memory_gb),
            sm=jetson.sm if jetson is not None and runtime == "tensorrt" else None,
            l4t={} if jetson is None else {pack.l4t: pack.jetpack for pack in jetson.jetpacks},
        )
