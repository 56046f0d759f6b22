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
    """Largest loss of mAP50-95 against the control in PyTorch; .01 is one point."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    """Size of the model files, megabytes (10^6 bytes)."""
    max_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """Peak memory of the process that runs the bundle, megabytes (10^6 bytes)."""


class RungBudgets(Frozen):
    """How much mAP50-95 each rung of the ladder may lose at most."""

    recovered: Percent = 0.01
    """Recovered weights against the control."""
    onnx: Percent = 0.003
    """The ONNX file against the weights that it was exported from."""
    fp32: Percent = 0.003
    """An fp32 bundle against the ONNX file."""
    fp16: Percent = 0.003
    """An fp16 bundle against the ONNX file."""
    int8: Percent = 0.005
    """An int8 bundle against the ONNX file."""


class RuntimeChoice(Frozen):
    """One runtime of a profile with the precisions to build."""

    runtime: Runtime
    """What runs the model on the device."""
    precisions: Annotated[list[Precision], Field(min_length=1)]
    """One bundle is made for each."""


class Thermal(Frozen):
    """When a timing counts. If the device throttled, it never does."""

    max_celsius: Annotated[float, Field(gt=0)] | None = None
    """A timing that starts or ends hotter is invalid."""


class TensorRt(Frozen):
    """How the device builds and runs a TensorRT engine: `engine` in bundle.json."""

    workspace_mb: Positive = 1024
    """Most scratch memory of one layer, mebibytes; lower it if a build runs out of memory."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """How long TensorRT searches for faster kernels; 3 is its own default, 5 takes several times as long."""
    dla_core: Annotated[int, Field(ge=0)] | None = None
    """Number of the deep-learning accelerator (DLA) that runs the network; none: the GPU."""
    gpu_fallback: bool = True
    """Layers that a DLA can't run go to the GPU; off: such a layer is an error."""
    timing_cache: bool = True
    """Keep measured kernel times on the device, which makes the next build faster."""
    cuda_graph: bool = True
    """Run a frame as one CUDA graph if that works."""


class JetPack(Frozen):
    """One JetPack that the device may have."""

    jetpack: str
    """Version, e.g. ``"6.2"``."""
    l4t: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    """Jetson Linux release of this JetPack, e.g. ``"36.4"``. The device must have one of those listed."""
    tensorrt: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)*$")]
    """TensorRT version of this JetPack, e.g. ``"10.3"``."""


class Jetson(Frozen):
    """Facts of a Jetson module: what can be built for it, and what the device must have."""

    sm: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    """Compute capability that the device's GPU must have, e.g. ``"8.7"``."""
    dla_cores: Annotated[int, Field(ge=0)]
    """Number of deep-learning accelerators (DLA)."""
    memory_gb: Annotated[list[Positive], Field(min_length=1)]
    """Memory that CPU and GPU share, one size per variant of the module. The device must have one of them."""
    power_modes: Annotated[list[str], Field(min_length=1)]
    """Names that ``nvpmodel -q`` can print; `power_mode` must be one of them."""
    jetpacks: Annotated[list[JetPack], Field(min_length=1)]
    """JetPacks that a bundle must work on; a build that can't work on one of them is refused."""


class Profile(Frozen):
    """A device profile: one file of ``targets/``."""

    name: str
    """Name of the target, as in ``TARGET=``; the same as the file's name."""
    description: str
    """One line for people."""
    device_model: Pattern | None = None
    """Regular expression for the model in the device tree; none: every machine counts as this device."""
    arch: Literal["aarch64", "x86_64", "any"]
    """Processor architecture (``uname -m``)."""
    runtimes: Annotated[list[RuntimeChoice], Field(min_length=1)]
    """Builds to make; the fastest one inside the accuracy budget wins."""
    imgsz: Positive = 640
    """Input side in pixels, unless IMGSZ or --imgsz is given."""
    threads: Positive
    """Inference threads on the device."""
    power_mode: str | None = None
    """Power mode (Jetson) or CPU governor for timing. On the device, `doctor` and `bench` say if it is another one."""
    channel_multiple: Positive = 8
    """Widths of pruned layers stay multiples of this: the device's runtimes compute channels in such blocks."""
    sdk: dict[str, Specifier] = {}
    """Versions of Python packages that the device must have, e.g. ``onnxruntime: ">=1.18"``."""
    budget: Budget = Budget()
    """The gates."""
    rungs: RungBudgets = RungBudgets()
    """The budget of every rung of the ladder."""
    thermal: Thermal = Thermal()
    """When a timing counts."""
    tensorrt: TensorRt = TensorRt()
    """How the device builds and runs a TensorRT engine."""
    jetson: Jetson | None = None
    """Facts of a Jetson module; none: another device."""

    @field_validator("jetson")
    @classmethod
    def _knows_the_power_mode(cls, value: Jetson | None, info: ValidationInfo) -> Jetson | None:
        """Refuse a power mode that the module doesn't have: no timing could ever be in it."""
        # info.data has the fields declared before this one, so power_mode must stand above jetson.
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
