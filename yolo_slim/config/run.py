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
    max_size_mb: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)
    """Budget in place of ``macs_removed``: the largest size of the fp32 ONNX file, megabytes (10^6 bytes)."""
    head_rate: Percent = 0.8
    """How readily channels of the detection head are removed: 1 like the rest, 0.5 half as readily, 0 never."""
    head_removed: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the head's own MACs (parameters) to remove; none: the head competes with the rest."""
    criterion: Literal["fisher", "hessian", "taylor", "lamp", "l1", "l2", "bn", "fpgm", "random"] = "fisher"
    """How channels are scored; no other beat ``fisher`` beyond the noise (docs/benchmarks/ablations.md)."""
    normalize: Literal["none", "sum", "mean", "max", "standard", "median"] = "none"
    """Divide scores by their layer's sum, mean, largest, range or median before layers are compared."""
    scope: Literal["global", "uniform", "isomorphic", "block_costs"] = "global"
    """Rank all channels together, remove one share everywhere, rank per kind of layer, or follow ``block_costs``."""
    block_costs: str | None = Field(default=None, validate_default=True)
    """Table of block costs (JSON) of this model, for scope ``block_costs``."""
    steps: Annotated[int, Field(ge=1, le=20)] = 3
    """Number of cuts; the channels are scored anew before each."""
    schedule: Literal["linear", "geometric"] = "linear"
    """Each step removes the same amount, or the same share of what the step before left."""
    recover_epochs_between: Annotated[int, Field(ge=0)] = 0
    """Epochs of recovery after every step but the last; 0: no training between steps."""
    sparse_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs that train the unpruned network towards small batch-normalisation scales first; 0: none."""
    sparse_strength: Annotated[float, Field(gt=0)] = 0.001
    """Weight of the sum of those scales' absolute values in the loss of one image."""
    protect: list[str] = []
    """Layers that keep all their output channels: names, blocks or patterns (``model.2``, ``model.*.cv1.conv``)."""
    round_to: Positive | None = None
    """Keep widths a multiple of this, which devices compute fastest; none: the target's ``channel_multiple``."""
    min_width: Positive = 8
    """Cut no layer below this many channels."""
    min_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Cut no layer below this fraction of its own width."""
    images: Positive | None = None
    """Training images that score the channels before each step; none: 8 to 64, fewer for larger models and inputs."""
    bn_images: Annotated[int, Field(ge=0)] | None = None
    """Training images that re-estimate batch-normalisation statistics after the cut; 0: keep them; none: 64 to 256."""

    @model_validator(mode="before")
    @classmethod
    def _another_budget(cls, values: Any) -> Any:
        """Drop the default budget where another one is given."""
        if isinstance(values, Mapping) and "macs_removed" not in values:
            return {**values, **({"macs_removed": None} if any(values.get(key) for key in BUDGETS[1:]) else {})}
        return values

    @field_validator("params_removed", "max_size_mb")
    @classmethod
    def _one_budget(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a second budget, and none at all."""
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
        if value is not None and scope not in (None, "block_costs"):
            raise conflict(f"conflicts with scope {scope}; set scope to block_costs, or leave block_costs out")
        if value is None and scope == "block_costs":
            raise conflict("missing; scope block_costs needs the file that `yolo-slim block-costs` writes")
        return value

    @property
    def budget(self) -> tuple[str, float]:
        """Name and value of the budget that decides."""
        return next((key, value) for key in BUDGETS if (value := getattr(self, key)) is not None)


BUDGETS = ("macs_removed", "params_removed", "max_size_mb")
"""Settings of prune of which exactly one is set."""


class BlockCostsConfig(Frozen):
    """How `yolo-slim block-costs` measures blocks; no other command reads these keys."""

    removed: Annotated[Fraction, Option("removed")] = 0.5
    """Fraction of its channels that a block loses while it is measured."""
    runtime: Annotated[str, Option("runtime")] = "onnxruntime"
    """Runtime that measures milliseconds: ``onnxruntime`` (fp32) or ``ncnn`` (fp16)."""
    images: Annotated[int, Field(ge=0), Option("images")] = 0
    """Number of validation images that measure mAP, the first ones; 0: all."""
    rounds: Positive = 25
    """Rounds; each times the unpruned and the cut network once. Many short rounds average out a drifting machine."""
    frames: Positive = 6
    """Timed frames of one network in one round."""


class RecoverConfig(Frozen):
    """How the pruned network is trained back (docs/recovery.md)."""

    epochs: Annotated[int, Field(ge=1), Option("epochs")] = 30
    """Epochs of recovery."""
    batch: Positive = 16
    """Images per training step."""
    patience: Positive = 30
    """Stop after so many epochs without a better validation mAP."""
    distill: Annotated[float, Field(ge=0)] = 3.0
    """Weight of the distance to the teacher's answers in the loss; 0 turns distillation off."""
    distill_on: Literal["answers", "features"] = "answers"
    """What is compared with the teacher: boxes and scores, or the neck's features (Ultralytics' own distillation)."""
    teacher: Annotated[str | None, Option("teacher", path=True)] = None
    """Checkpoint that teaches, perhaps larger, with equal classes, levels and box bins; none: the unpruned model."""
    device: Annotated[str, Option("device")] = ""
    """Ultralytics device: ``cpu``, ``0``, or ``0,1`` for several GPUs; empty: Ultralytics chooses."""
    overrides: Annotated[dict[str, Any], Option("train")] = {}
    """Any Ultralytics training argument, such as ``lr0=0.002``."""


class ExportConfig(Frozen):
    """What goes into the ONNX file."""

    end2end: bool = False
    """Score, train and export the one-to-one head of yolov10 and yolo26, which needs no NMS; else one-to-many."""
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    """ONNX operator set; 17 is what TensorRT 8.6 to 11 and ONNX Runtime all read."""
    parity_images: Positive = 16
    """Validation images on which ONNX and PyTorch outputs must agree."""


class QuantizeConfig(Frozen):
    """How the int8 and fp16 graphs are made (docs/quantization.md)."""

    images: Annotated[int, Field(ge=32)] = 512
    """Training images that the int8 ranges are measured on; fewer where the split is smaller."""
    ranges: Literal["max", "percentile", "mse", "entropy"] = "mse"
    """How the largest value that int8 represents is chosen; the default measured best (docs/quantization.md)."""
    scan_images: Positive = 16
    """Calibration images on which each layer's own error is measured."""
    check_images: Annotated[int, Field(ge=0)] = 64
    """Training images, other than the calibration's, whose mAP decides what stays float; 0: none."""
    max_drop: Percent = 0.003
    """Layers return to float, largest layer error first, until int8 loses at most this mAP50-95 on ``check_images``."""
    max_float_layers: Annotated[int, Field(ge=0)] = 8
    """Largest number of layers that stay float besides the head's last ones."""
    parity_images: Positive = 16
    """Validation images on which the distance to fp32 is reported."""


class ValidateConfig(Frozen):
    """How accuracy and speed are measured."""

    split: Literal["val", "test", "auto"] = "auto"
    """Split that measures mAP; ``auto``: test where the data set has one with labels, else val."""
    min_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Least duration of one timing."""
    min_queries: Positive = 64
    """Least number of timed frames."""
    rounds: Positive = 5
    """Rounds; each times every bundle once, and control and slim are compared round by round."""
    max_images: Annotated[int, Field(ge=0)] = 0
    """Score only so many images, the first ones; 0: all."""


class RunConfig(Frozen):
    """Everything that decides the result of a run."""

    renamed: ClassVar[Mapping[str, str]] = {"sensitivity": "block_costs"}

    model: Annotated[str, Option("model", path=True)]
    """Trained Ultralytics checkpoint (``best.pt``)."""
    data: Annotated[str, Option("data", path=True)]
    """Ultralytics data set description (``data.yaml``)."""
    target: Annotated[str, Option("target")] = "host"
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (``mine.yaml``)."""
    imgsz: Annotated[Positive, Option("imgsz", default="the target's")] = 640
    """Input side in pixels, a multiple of the model's stride."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice."""
    prune: PruneConfig = PruneConfig()
    """What the prune stage removes."""
    block_costs: BlockCostsConfig = BlockCostsConfig()
    """How blocks are measured one by one, for `prune.scope: block_costs`."""
    recover: RecoverConfig = RecoverConfig()
    """How the pruned network is trained back."""
    export: ExportConfig = ExportConfig()
    """What goes into the ONNX file."""
    quantize: QuantizeConfig = QuantizeConfig()
    """How the int8 and fp16 graphs are made."""
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    """How accuracy and speed are measured."""
