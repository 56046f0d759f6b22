"""Frozen, typed configuration of a run and of a device profile; every problem of a file is reported at once.

Host half only (pydantic). A device reads ``bundle.json`` instead, see :mod:`yolo_slim.runtime.bundle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from yolo_slim.errors import SlimError, did_you_mean

Model = TypeVar("Model", bound="Frozen")
Fraction = Annotated[float, Field(gt=0, lt=1)]
Percent = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Frozen(BaseModel):
    """Immutable configuration: unknown keys and wrong types are errors, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PruneConfig(Frozen):
    """What the prune stage removes, and how it is chosen. docs/pruning.md tells what is for what."""

    macs_removed: Fraction | None = 0.5
    """Fraction of the fused graph's multiply-accumulates to remove; only one of the three budgets may decide."""
    params_removed: Fraction | None = None
    """In its place: the fraction of the fused graph's parameters to remove."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)
    """In its place: the largest size of the fp32 ONNX file, megabytes (10^6 bytes)."""
    head_gentleness: Percent = 0.8
    """How readily the head gives channels up: 1 like the rest, .5 half as readily, 0 not at all."""
    head_removed: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the head's own MACs (parameters) that goes, whatever its scores; absent: ranked with the rest."""
    criterion: Literal["fisher", "hessian", "taylor", "lamp", "l1", "l2", "bn", "fpgm", "random"] = "fisher"
    """How channels are scored; no other beat ``fisher`` beyond the noise (docs/benchmarks/ablations.md)."""
    normalize: Literal["none", "sum", "mean", "max", "standard", "median"] = "none"
    """Make scores relative to their layer's sum, mean, largest, range or median before layers are compared."""
    scope: Literal["global", "uniform", "isomorphic", "sensitivity"] = "global"
    """Rank all channels together, remove one share everywhere, rank per kind of layer, or follow ``sensitivity``."""
    sensitivity: str | None = Field(default=None, validate_default=True)
    """Sensitivity map (JSON) of this model, for scope ``sensitivity``."""
    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """The cut is made in so many steps, each scored anew on what the last one left."""
    schedule: Literal["linear", "geometric"] = "linear"
    """Each round removes the same amount, or the same share of what the last one left."""
    recover_epochs_between: Annotated[int, Field(ge=0)] = 0
    """Epochs of recovery after every round but the last; 0: the weights stay what they were."""
    sparse_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs that train the unpruned network towards small batch-normalisation scales first; 0: none."""
    sparse_strength: Annotated[float, Field(gt=0)] = 0.001
    """Weight of the sum of those scales' absolute values in the loss of one image."""
    protect: list[str] = []
    """Layers whose outputs stay as they are: names, blocks or patterns (``model.2``, ``model.*.cv1.conv``)."""
    round_to: Positive | None = None
    """Widths stay multiples of this, which devices compute fastest; absent: the target's ``channel_multiple``."""
    min_width: Positive = 8
    """No layer is cut below this many channels."""
    min_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """No layer is cut below this fraction of its own width."""
    images: Positive | None = None
    """Training images that score the channels in each round; absent: 8 to 64, fewer for larger models and inputs."""
    bn_images: Annotated[int, Field(ge=0)] | None = None
    """Training images that re-estimate the batch-normalisation statistics after the cut; 0: none; absent: 64 to 256."""

    @model_validator(mode="before")
    @classmethod
    def _another_budget(cls, values: Any) -> Any:
        """Let the default budget step back where another one is given."""
        if isinstance(values, Mapping) and "macs_removed" not in values:
            return {**values, **({"macs_removed": None} if any(values.get(key) for key in BUDGETS[1:]) else {})}
        return values

    @field_validator("params_removed", "max_size_mb")
    @classmethod
    def _one_budget(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a second budget, and none at all."""
        others = [key for key in BUDGETS if info.data.get(key) is not None]
        if value is not None and others:
            raise PydanticCustomError("budget", "no value, because {other} decides already", {"other": others[0]})
        if value is None and not others and info.field_name == BUDGETS[-1] and set(BUDGETS[:-1]) <= set(info.data):
            raise PydanticCustomError("budget", "a value here, or of macs_removed or params_removed")
        return value

    @field_validator("scope")
    @classmethod
    def _map_prices_the_head(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a gentleness that nothing would heed."""
        default = cls.model_fields["head_gentleness"].default
        if value == "sensitivity" and info.data.get("head_gentleness", default) not in (0, default):
            raise PydanticCustomError("head", "another scope, or no head_gentleness but 0: the map prices the head")
        return value

    @field_validator("sensitivity")
    @classmethod
    def _map_for_scope(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a map that nothing reads, and a scope without its map."""
        scope = info.data.get("scope")
        if value is not None and scope not in (None, "sensitivity"):
            raise PydanticCustomError("map", "no value, because scope is {scope}", {"scope": scope})
        if value is None and scope == "sensitivity":
            raise PydanticCustomError("map", "the file that scope sensitivity reads")
        return value

    @property
    def budget(self) -> tuple[str, float]:
        """Return the name and value of the budget that decides."""
        return next((key, value) for key in BUDGETS if (value := getattr(self, key)) is not None)


BUDGETS = ("macs_removed", "params_removed", "max_size_mb")
"""Settings of prune of which one decides."""


class SensitivityConfig(Frozen):
    """How `yolo-slim sensitivity` measures blocks; no other command reads it."""

    removed: Fraction = 0.5
    """Fraction of its channels that each block loses, alone, while it is measured."""
    runtime: str = "onnxruntime"
    """Where milliseconds are measured: `onnxruntime` (fp32) or `ncnn` (fp16)."""
    images: Annotated[int, Field(ge=0)] = 0
    """Measure mAP on the first so many validation images; 0 takes all."""
    rounds: Positive = 25
    """Turns in which unpruned and cut network are timed once each; many short ones ride out a machine that drifts."""
    frames: Positive = 6
    """Timed frames of one network in one turn."""


class RecoverConfig(Frozen):
    """How the pruned network is trained back."""

    epochs: Annotated[int, Field(ge=1)] = 30
    """Epochs of fine-tuning."""
    batch: Positive = 16
    """Images per step."""
    patience: Positive = 30
    """Epochs without a better validation mAP before it stops."""
    distill: Annotated[float, Field(ge=0)] = 3.0
    """Weight of the distance to the teacher's answers in the loss; 0 turns distillation off."""
    distill_on: Literal["answers", "features"] = "answers"
    """What is compared with the teacher: boxes and scores, or the neck's features (Ultralytics' own distillation)."""
    teacher: str | None = None
    """Checkpoint that teaches: larger, but with the same classes, levels and box bins; absent: the unpruned model."""
    device: str = ""
    """Ultralytics' own device string: empty chooses, ``cpu``, ``0``, ``0,1`` for several GPUs."""
    overrides: dict[str, Any] = {}
    """Any other Ultralytics training argument, passed through (``lr0: 0.002``)."""


class ExportConfig(Frozen):
    """What goes into the ONNX file."""

    end2end: bool = False
    """Score, train for and export the one-to-one head of yolov10 and yolo26, which needs no NMS; else one-to-many."""
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    """ONNX operator set; 17 is what TensorRT 8.6 to 11 and ONNX Runtime all read."""
    parity_images: Positive = 16
    """Validation images on which ONNX and PyTorch outputs must agree."""


class QuantizeConfig(Frozen):
    """How the int8 and fp16 graphs are made."""

    images: Annotated[int, Field(ge=32)] = 512
    """Training images that the int8 ranges are measured on; fewer where the split is smaller."""
    ranges: Literal["max", "percentile", "mse", "entropy"] = "mse"
    """How the largest value that int8 represents is chosen; the default measures best (docs/quantization.md)."""
    scan_images: Positive = 16
    """Calibration images on which each layer's own error is measured."""
    check_images: Annotated[int, Field(ge=0)] = 64
    """Training images beside the calibration's, a quarter at most, on which mAP decides what stays float; 0: none."""
    max_drop: Percent = 0.003
    """Layers return to float, the most sensitive first, until int8 loses no more mAP50-95 than this on those images."""
    max_float_layers: Annotated[int, Field(ge=0)] = 8
    """At most so many layers stay float beside the head's last ones."""
    parity_images: Positive = 16
    """Validation images on which the distance to fp32 is reported."""


class ValidateConfig(Frozen):
    """How accuracy and speed are measured."""

    split: Literal["val", "test", "auto"] = "auto"
    """Where mAP is measured; ``auto`` takes test where the data has one with labels."""
    min_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Least duration of one timing."""
    min_queries: Positive = 64
    """Least number of timed frames."""
    rounds: Positive = 5
    """Turns in which every bundle is timed once; control and slim are compared turn by turn."""
    max_images: Annotated[int, Field(ge=0)] = 0
    """Score only the first so many images; 0 takes all."""


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
    """Largest drop of mAP50-95 that one step of the chain may cost."""

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

    runtime: Literal["onnxruntime", "ncnn", "tensorrt"]
    """Module of :mod:`yolo_slim.backends`."""
    precisions: Annotated[list[Literal["fp32", "fp16", "int8"]], Field(min_length=1)]
    """Each becomes a bundle of its own; the fastest inside the accuracy budget wins."""


class Thermal(Frozen):
    """When a timing counts; one during which the device throttled never does."""

    max_celsius: Annotated[float, Field(gt=0)] | None = None
    """A run on the device that starts or ends hotter is marked invalid."""


class TensorRt(Frozen):
    """How a TensorRT engine is built and run on the device."""

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
    l4t: str
    """Jetson Linux release that it contains, e.g. ``"36.4"``."""
    tensorrt: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)*$")]
    """TensorRT that it contains, e.g. ``"10.3"``."""


class Jetson(Frozen):
    """Facts of a Jetson module that decide what can be built for it."""

    sm: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    """Compute capability of the GPU, e.g. ``"8.7"``."""
    dla_cores: Annotated[int, Field(ge=0)]
    """Deep-learning accelerators; 0: none."""
    memory_gb: Annotated[list[Positive], Field(min_length=1)]
    """Sizes of the memory that CPU and GPU share, by variant of the module."""
    power_modes: Annotated[list[str], Field(min_length=1)]
    """Names that ``nvpmodel -q`` can give, the fastest first."""
    jetpacks: Annotated[list[JetPack], Field(min_length=1)]
    """JetPacks that a bundle must work on; what is blocked on one of them is refused."""


class Profile(Frozen):
    """A device profile: one file of ``targets/``."""

    name: str
    """As in ``TARGET=``; equals the file's name."""
    description: str
    """One line for people."""
    device_model: str | None = None
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
    """Power mode or governor to time in; `yolo-slim targets` shows it to people, nothing checks it."""
    channel_multiple: Positive = 8
    """Widths of pruned layers stay multiples of this, the block in which the device's runtimes compute channels."""
    sdk: dict[str, str] = {}
    """Package to version for the device, e.g. ``onnxruntime: ">=1.18"``; shown to people, nothing checks it."""
    host: str | None = None
    """Where the device is; shown to people, nothing connects to it."""
    budget: Budget = Budget()
    """The gates."""
    rungs: RungBudgets = RungBudgets()
    """Largest drop per step of the ladder."""
    thermal: Thermal = Thermal()
    """When a timing counts."""
    tensorrt: TensorRt = TensorRt()
    """How a TensorRT engine is built and run on the device."""
    jetson: Jetson | None = None
    """Facts of a Jetson module; absent on other devices."""

    def build_settings(self, runtime: str) -> dict[str, Any]:
        """Return what a bundle of a runtime tells the device to build with (``build`` of bundle.json)."""
        return self.tensorrt.model_dump() if runtime == "tensorrt" else {}


class RunConfig(Frozen):
    """Everything that decides the result of a run."""

    model: str
    """Trained Ultralytics checkpoint (``best.pt``)."""
    data: str
    """Ultralytics data set description (``data.yaml``)."""
    target: str = "host"
    """Name of a device profile."""
    imgsz: Positive = 640
    """Input side in pixels, a multiple of the model's stride."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice."""
    prune: PruneConfig = PruneConfig()
    """What the prune stage removes."""
    sensitivity: SensitivityConfig = SensitivityConfig()
    """How blocks are measured one by one, for `prune.scope: sensitivity`."""
    recover: RecoverConfig = RecoverConfig()
    """How the pruned network is trained back."""
    export: ExportConfig = ExportConfig()
    """What goes into the ONNX file."""
    quantize: QuantizeConfig = QuantizeConfig()
    """How the int8 and fp16 graphs are made."""
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    """How accuracy and speed are measured."""


def parse(kind: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Return ``values`` as a checked ``kind``.

    Raises:
        SlimError: every unknown key, wrong type and impossible value of ``source``, all at once.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        culprits = [_explain(kind, problem) for problem in error.errors()]
        raise SlimError(
            f"{source}: {len(culprits)} {'value is' if len(culprits) == 1 else 'values are'} not valid.",
            culprits=culprits,
            remedy="Correct them and run the command again; docs/configuration.md lists every key.",
        ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML mapping.

    Raises:
        SlimError: the file is missing, isn't YAML or isn't a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SlimError(f"File not found: {path}", remedy="Check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SlimError(f"Not a YAML file: {path}", culprits=[str(error)], remedy="Correct its syntax.") from None
    if not isinstance(values, dict):
        raise SlimError(f"Not a mapping of keys to values: {path}", remedy="Write one 'key: value' a line.")
    return values


def _explain(kind: type[Frozen], problem: Any) -> str:
    """Return one line for one of pydantic's problems: key, what came, what was expected."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key.{did_you_mean(location[-1], _keys_at(kind, location[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: missing; expected a value"
    return f"{key}: got {problem['input']!r}; expected: {problem['msg'].removeprefix('Input should be ')}"


def _keys_at(kind: type[Frozen], location: list[str]) -> list[str]:
    """Return the keys that are known at a nested location of ``kind``."""
    for part in location:
        field = kind.model_fields.get(part) or kind.model_fields.get(f"{part}_")
        nested = [] if field is None else _models_in(field.annotation)
        if nested:
            kind = nested[0]
    return [field.alias or name for name, field in kind.model_fields.items()]


def _models_in(annotation: Any) -> list[type[Frozen]]:
    """Return the configuration classes named in an annotation such as ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
