"""The settings of a run, a section per stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from yolo_slim.config.declaration import Option
from yolo_slim.config.strict import Fraction, Frozen, Percent, Positive, conflict


class PruneConfig(Frozen):
    """What the prune stage removes, and how it is chosen (docs/pruning.md)."""

    renamed: ClassVar[Mapping[str, str]] = {
        "rounds": "steps",
        "head_gentleness": "head_rate",
        "sensitivity": "block_costs",
        "scope=sensitivity": "scope=block_costs",
    }

    macs_removed: Annotated[Fraction | None, Option("prune")] = 0.5
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    params_removed: Fraction | None = None
    """Budget in place of ``macs_removed``: the fraction of the fused network's parameters to remove."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    """Budget in place of ``macs_removed``: the largest size of the fp32 ONNX file, megabytes (10^6 bytes)."""
    target_fps: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, Option("target_fps", flag="--target-fps")
    ] = None
    """Budget in place of ``macs_removed``: frames per second that the device must reach, end to end."""
    # pydantic doesn't validate defaults by itself; only this check sees that no budget is set.
    latency_ms: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, Option("latency_ms", flag="--latency-ms")
    ] = Field(default=None, validate_default=True)
    """Budget in place of ``macs_removed``: milliseconds that a frame may take on the device, end to end."""
    head_rate: Percent = 0.8
    """How readily channels of the detection head are removed: 1 like the rest, 0.5 half as readily, 0 never."""
    head_removed: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the head's own MACs (or parameters) to remove; none: its channels are ranked with all others."""
    criterion: Literal["fisher", "hessian", "taylor", "lamp", "l1", "l2", "bn", "fpgm", "random"] = "fisher"
    """How channels are scored; none was better than ``fisher`` beyond the noise (docs/benchmarks/ablations.md)."""
    normalize: Literal["none", "sum", "mean", "max", "standard", "median"] = "none"
    """Divide each score by this value of its layer; ``standard``: subtract the smallest score, divide by the range."""
    scope: Literal["global", "uniform", "isomorphic", "block_costs"] = "global"
    """Rank all channels together, remove the same fraction of every layer, rank within each kind of layer, or follow
    the table ``block_costs``."""
    # validate_default: a scope without its table must be refused too.
    block_costs: str | None = Field(default=None, validate_default=True)
    """Table of block costs (JSON) that `yolo-slim block-costs` wrote for this model, for scope ``block_costs``."""
    steps: Annotated[int, Field(ge=1, le=20)] = 3
    """Number of cuts; the channels are scored anew before each."""
    schedule: Literal["linear", "geometric"] = "linear"
    """Each step removes the same amount (linear), or the same fraction of what is left (geometric)."""
    recover_epochs_between: Annotated[int, Field(ge=0)] = 0
    """Epochs of recovery after every step but the last; 0: no training between steps."""
    sparse_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs that first train the unpruned network towards small batch-normalisation scales; 0: none."""
    sparse_strength: Annotated[float, Field(gt=0)] = 0.001
    """Weight in the loss of the sum of these scales' absolute values, per image."""
    protect: list[str] = []
    """Layers that keep all their output channels: names, blocks or patterns (``model.2``, ``model.*.cv1.conv``)."""
    round_to: Positive | None = None
    """Widths stay multiples of this; none: the target's ``channel_multiple``, which its runtimes compute fastest, or 8
    with a frame rate, because the latency table shows which widths are fast."""
    min_width: Positive = 8
    """Every layer keeps at least this many channels."""
    min_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Every layer keeps at least this fraction of its channels."""
    images: Positive | None = None
    """Number of training images that score the channels before each step; none: 8 to 64, by size of model and input."""
    bn_images: Annotated[int, Field(ge=0)] | None = None
    """Number of training images that re-estimate batch-normalisation statistics after the cut; 0: the statistics stay
    as they are; none: 64 to 256."""

    # Before: a checked value no longer shows whether it was given or is the default.
    @model_validator(mode="before")
    @classmethod
    def _another_budget(cls, values: Any) -> Any:
        """Drop the default budget where another one is given."""
        if isinstance(values, Mapping) and "macs_removed" not in values:
            return {**values, **({"macs_removed": None} if any(values.get(key) for key in BUDGETS[1:]) else {})}
        return values

    @field_validator("params_removed", "max_size_mb", "target_fps", "latency_ms")
    @classmethod
    def _one_budget(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a second budget, and none at all."""
        # info.data has the budgets declared above this one, so each pair is compared once.
        others = [key for key in BUDGETS if info.data.get(key) is not None]
        if value is not None and others:
            raise conflict(f"conflicts with {others[0]}; set only one budget")
        # A budget that is missing from `info.data` failed its own check, which is reported already.
        if value is None and not others and info.field_name == BUDGETS[-1] and set(BUDGETS[:-1]) <= set(info.data):
            raise conflict(f"no budget is set; set one of {', '.join(BUDGETS)}")
        return value

    @field_validator("scope")
    @classmethod
    def _table_decides_about_the_head(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a head rate that would change nothing: the table of block costs already prices the head."""
        default = cls.model_fields["head_rate"].default
        rate = info.data.get("head_rate", default)
        if value == "block_costs" and rate not in (0, default):
            raise conflict(f"block_costs conflicts with head_rate {rate:g}; leave head_rate out, or set it to 0")
        return value

    @field_validator("block_costs")
    @classmethod
    def _table_for_scope(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a table that nothing reads, and a scope without its table."""
        scope = info.data.get("scope")
        # None: the scope failed its own check, which is reported already.
        if value is not None and scope not in (None, "block_costs"):
            raise conflict(f"conflicts with scope {scope}; set scope to block_costs, or leave block_costs out")
        if value is None and scope == "block_costs":
            raise conflict("missing; scope block_costs needs the file that `yolo-slim block-costs` writes")
        return value

    @field_validator("scope", "head_removed", "recover_epochs_between")
    @classmethod
    def _not_in_milliseconds(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what has no meaning beside a budget in milliseconds."""
        budget = next((key for key in BUDGETS[3:] if info.data.get(key) is not None), None)
        if budget and value != cls.model_fields[str(info.field_name)].default:
            raise conflict(f"conflicts with {budget}; leave {info.field_name} out")
        return value

    @property
    def budget(self) -> tuple[str, float]:
        """Name and value of the budget that decides."""
        return next((key, value) for key in BUDGETS if (value := getattr(self, key)) is not None)

    def recorded(self) -> dict[str, Any]:
        """The settings as they decide a cut. A budget in milliseconds that isn't set is left out: results of versions
        that didn't know it stay up to date.
        """
        unset = {key for key in ("target_fps", "latency_ms") if getattr(self, key) is None}
        return self.model_dump(exclude=unset)

    @property
    def frame_ms(self) -> float | None:
        """The milliseconds that a frame may take, end to end; None: the budget is of another kind."""
        return 1000 / self.target_fps if self.target_fps else self.latency_ms


BUDGETS = ("macs_removed", "params_removed", "max_size_mb", "target_fps", "latency_ms")
"""Settings of prune of which exactly one is set."""


class BlockCostsConfig(Frozen):
    """How `yolo-slim block-costs` measures blocks. No other command reads these keys."""

    removed: Annotated[Fraction, Option("removed")] = 0.5
    """Fraction of a block's channels that is removed to measure it."""
    runtime: Annotated[str, Option("runtime")] = "onnxruntime"
    """Runtime that measures milliseconds: ``onnxruntime`` (fp32) or ``ncnn`` (fp16)."""
    images: Annotated[int, Field(ge=0), Option("images")] = 0
    """Number of validation images that mAP is measured on, the first ones; 0: all."""
    rounds: Positive = 25
    """Number of rounds. Each times the unpruned and the cut network; many short rounds even out a busy machine."""
    frames: Positive = 6
    """Timed frames per network and round."""


class LatencyConfig(Frozen):
    """How latency tables are measured (docs/latency.md)."""

    networks: Annotated[int, Field(ge=4)] = 9
    """Number of cut networks that are timed whole; the table is fitted to them."""
    checks: Annotated[int, Field(ge=2)] = 4
    """Number of further networks, which say how far the table is off."""
    rounds: Positive = 25
    """Number of rounds. Each times the unpruned and a cut network."""
    frames: Positive = 6
    """Timed frames per network and round."""
    control_seconds: Annotated[float, Field(gt=0)] = 4.0
    """Least duration of the timing of the unpruned network, end to end."""
    explore_epochs: Positive = 3
    """Epochs of the short trainings with which ``--imgsz auto`` compares input sides."""
    runtime: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)?$")] | None = None
    """Build that the cut is made for, such as ``ncnn-fp16``; none: of the target's float builds the one that reaches
    the budget at the least loss. An int8 build is pruned for only if it is named here."""


class RecoverConfig(Frozen):
    """How the pruned network is trained back (docs/recovery.md)."""

    epochs: Annotated[int, Field(ge=1), Option("epochs")] = 30
    """Epochs of recovery."""
    batch: Positive = 16
    """Images per training step."""
    patience: Positive = 30
    """Stop after this many epochs without a better validation mAP."""
    distill: Annotated[float, Field(ge=0)] = 3.0
    """Weight in the loss of the distance to the teacher's outputs; 0: no distillation."""
    distill_on: Literal["answers", "features"] = "answers"
    """What is compared with the teacher: boxes and scores, or the neck's features (Ultralytics' own distillation)."""
    teacher: Annotated[str | None, Option("teacher", path=True)] = None
    """Checkpoint of the teacher, with the same classes, strides and box bins; none: the unpruned model."""
    activation: Literal["none", "relu", "hardswish"] = "none"
    """Exchange SiLU for this activation before the training; none: leave it. Runtimes compute ReLU and Hardswish
    together with the convolution (docs/recovery.md)."""
    device: Annotated[str, Option("device")] = ""
    """Where training runs: ``cpu``, ``mps``, a GPU (``0``) or several (``0,1``); empty: Ultralytics chooses."""
    overrides: Annotated[dict[str, Any], Option("train")] = {}
    """Any Ultralytics training argument, such as ``lr0=0.002``."""


class ExportConfig(Frozen):
    """What goes into the ONNX file."""

    end2end: bool = False
    """Score, train and export the one-to-one head (yolov10, yolo26), which needs no NMS; off: the one-to-many head."""
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    """ONNX operator set; TensorRT 8.6 to 11 and ONNX Runtime all read 17."""
    parity_images: Positive = 16
    """Number of validation images on which the outputs of ONNX and PyTorch must agree."""


class QuantizeConfig(Frozen):
    """How the int8 and fp16 graphs are made (docs/quantization.md)."""

    images: Annotated[int, Field(ge=32)] = 512
    """Number of training images that the int8 ranges are measured on; fewer if the split is smaller."""
    ranges: Literal["max", "percentile", "mse", "entropy"] = "mse"
    """How the largest value that int8 represents is chosen; the default measured best (docs/quantization.md)."""
    scan_images: Positive = 16
    """Number of calibration images on which each layer error is measured."""
    check_images: Annotated[int, Field(ge=0)] = 64
    """Training images, other than the calibration images, on which mAP decides which layers stay float; at most a
    quarter of the split; 0: none."""
    max_drop: Percent = 0.003
    """More layers stay float, largest layer error first, until int8 loses at most this mAP50-95 on ``check_images``."""
    max_float_layers: Annotated[int, Field(ge=0)] = 8
    """Most layers that stay float, besides the last ones of the head."""
    parity_images: Positive = 16
    """Number of validation images on which the distance to fp32 is measured."""


class ValidateConfig(Frozen):
    """How accuracy and speed are measured."""

    split: Literal["val", "test", "auto"] = "auto"
    """Split that mAP is measured on; ``auto``: test if the data set has one with labels, else val."""
    min_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Least duration of one timing."""
    min_queries: Positive = 64
    """Least number of timed frames."""
    rounds: Positive = 5
    """Number of rounds. Each times every bundle once; control and slim are compared round by round."""
    busy: Literal["repeat", "mark", "refuse"] = "repeat"
    """What happens to a timing that other programs on the device disturbed. ``repeat``: it is repeated up to twice,
    then marked invalid, and the next call measures again. ``mark``: marked invalid at once, and kept. ``refuse``: an
    error."""
    tune: bool = False
    """Find the fastest threads and runtime options of every bundle on the device first (docs/tuning.md)."""
    sustained_minutes: Annotated[float, Field(ge=0)] = 0.0
    """Minutes for which the winner runs on after it was timed: FPS over time, and what heat leaves of it; 0: none."""
    breakdown: bool = True
    """After its first timing, look where each bundle's time goes: convolutions, activations, copies and so on
    (docs/bench.md)."""
    max_images: Annotated[int, Field(ge=0)] = 0
    """Most images that mAP is measured on, the first ones; 0: all."""


class EmulateConfig(Frozen):
    """Whether bundles are tried on an emulated processor of the target (docs/emulated.md)."""

    # Not on and off, which YAML reads as true and false.
    mode: Literal["auto", "always", "never"] = "auto"
    """``auto``: where the target isn't there and `yolo-slim device prepare` was run; ``always``: an error where that
    is impossible."""
    images: Positive = 8
    """Number of images that are emulated, spread over those that mAP is measured on. An image takes seconds."""


class DeviceConfig(Frozen):
    """The device that runs the bundles (docs/devices.md). These keys decide no result by themselves."""

    host: Annotated[str | None, Option("host")] = None
    """Device that runs bundles: a name of `yolo-slim device list`, or ``[user@]host[:port]``; none: this
    machine."""
    any_device: Annotated[bool, Option("any_device", flag="--any-device")] = False
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: Annotated[bool, Option("offline")] = False
    """The device has no network: this machine collects the wheels and sends them."""
    wait: Annotated[bool, Option("wait")] = False
    """Wait while another run uses the device; off: that is an error."""


class RunConfig(Frozen):
    """Everything that decides the result of a run."""

    renamed: ClassVar[Mapping[str, str]] = {"sensitivity": "block_costs"}

    model: Annotated[str, Option("model", path=True)]
    """Trained Ultralytics checkpoint (``best.pt``)."""
    data: Annotated[str, Option("data", path=True)]
    """Ultralytics data set description (``data.yaml``)."""
    target: Annotated[str, Option("target")] = "host"
    """Target: a name of `yolo-slim targets`, or your own profile (``mine.yaml``). Not given: that of ``--host``, if
    any."""
    imgsz: Annotated[Positive, Option("imgsz", default="the target's")] = 640
    """Input side in pixels, a multiple of the model's stride."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice."""
    device: DeviceConfig = DeviceConfig()
    """The device that runs the bundles."""
    prune: PruneConfig = PruneConfig()
    """What the prune stage removes."""
    block_costs: BlockCostsConfig = BlockCostsConfig()
    """How `yolo-slim block-costs` measures blocks."""
    latency: LatencyConfig = LatencyConfig()
    """How latency tables are measured."""
    recover: RecoverConfig = RecoverConfig()
    """How the pruned network is trained back."""
    export: ExportConfig = ExportConfig()
    """What goes into the ONNX file."""
    quantize: QuantizeConfig = QuantizeConfig()
    """How the int8 and fp16 graphs are made."""
    emulate: EmulateConfig = EmulateConfig()
    """Whether bundles are tried on an emulated processor of the target."""
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    """How accuracy and speed are measured."""
