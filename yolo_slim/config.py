"""Frozen, typed configuration of a run and of a device profile; every problem of a file is reported at once.

Host half only (pydantic). A device reads ``bundle.json`` instead, see :mod:`yolo_slim.runtime.bundle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yolo_slim.errors import SlimError, did_you_mean

Model = TypeVar("Model", bound="Frozen")
Fraction = Annotated[float, Field(gt=0, lt=1)]
Percent = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Frozen(BaseModel):
    """Immutable configuration: unknown keys and wrong types are errors, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PruneConfig(Frozen):
    """What the prune stage removes."""

    macs_removed: Fraction = 0.5
    """Fraction of the fused graph's multiply-accumulates to remove."""
    head_gentleness: Percent = 0.8
    """How readily the head gives channels up: 1 like the rest, .5 half as readily, 0 not at all."""
    criterion: Literal["fisher", "hessian", "taylor", "lamp", "l2", "random"] = "fisher"
    """How channels are scored; ``fisher`` measures best (docs/benchmarks/recovery.md)."""
    scope: Literal["global", "local"] = "global"
    """Rank all channels of the network together, or remove the same share from every layer."""
    rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """The cut is made in so many steps, each scored anew on what the last one left."""
    round_to: Positive = 8
    """Widths stay multiples of this; devices compute unrounded widths more slowly."""
    min_width: Positive = 8
    """No layer is cut below this many channels."""
    images: Positive | None = None
    """Training images that score the channels in each round; absent: 8 to 64, fewer for larger models and inputs."""
    bn_images: Positive | None = None
    """Training images that re-estimate the batch-normalisation statistics after the cut; absent: 64 to 256."""


class RecoverConfig(Frozen):
    """How the pruned network is trained back."""

    epochs: Annotated[int, Field(ge=1)] = 30
    """Epochs of fine-tuning."""
    batch: Positive = 16
    """Images per step."""
    patience: Positive = 30
    """Epochs without a better validation mAP before it stops."""
    distill: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the distance to the unpruned teacher's answers in the loss; 0 turns distillation off."""
    device: str = ""
    """Ultralytics' own device string: empty chooses, ``cpu``, ``0``, ``0,1`` for several GPUs."""
    overrides: dict[str, Any] = {}
    """Any other Ultralytics training argument, passed through (``lr0: 0.002``)."""


class ExportConfig(Frozen):
    """What goes into the ONNX file."""

    end2end: bool = False
    """Export yolo26's one-to-one head, which needs no NMS, in place of the raw one-to-many layout."""
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    """ONNX operator set; 17 is what TensorRT 8.6 to 11 and ONNX Runtime all read."""
    parity_images: Positive = 16
    """Validation images on which ONNX and PyTorch outputs must agree."""


class ValidateConfig(Frozen):
    """How accuracy and speed are measured."""

    split: Literal["val", "test", "auto"] = "auto"
    """Where mAP is measured; ``auto`` takes test where the data has one."""
    min_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Least duration of one timing."""
    min_queries: Positive = 64
    """Least number of timed frames."""
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


class RuntimeChoice(Frozen):
    """One runtime of a profile with the precisions to build."""

    runtime: Literal["onnxruntime", "ncnn"]
    """Module of :mod:`yolo_slim.backends`."""
    precisions: Annotated[list[Literal["fp32", "fp16"]], Field(min_length=1)]
    """Each becomes a bundle of its own; the fastest inside the accuracy budget wins."""


class Thermal(Frozen):
    """When a timing counts."""

    max_celsius: Annotated[float, Field(gt=0)] | None = None
    """A run that starts or ends hotter is marked invalid."""
    invalid_if_throttled: bool = True
    """A run during which the device throttled is marked invalid."""


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
    """Power mode or governor expected while timing."""
    channel_multiple: Positive = 8
    """Widths of pruned layers stay multiples of this."""
    sdk: dict[str, str] = {}
    """Package to version expected on the device, e.g. ``onnxruntime: ">=1.18"``."""
    host: str | None = None
    """How to reach the device; absent means this machine, if it is that device."""
    budget: Budget = Budget()
    """The gates."""
    rungs: RungBudgets = RungBudgets()
    """Largest drop per step of the ladder."""
    thermal: Thermal = Thermal()
    """When a timing counts."""


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
    recover: RecoverConfig = RecoverConfig()
    """How the pruned network is trained back."""
    export: ExportConfig = ExportConfig()
    """What goes into the ONNX file."""
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
