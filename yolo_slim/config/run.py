"""The settings of a run, a section per stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from yolo_slim.config.strict import Fraction, Frozen, Percent, Positive


class PruneConfig(Frozen):
    """What the prune stage removes, and how it is chosen. docs/pruning.md tells what is for what."""

    macs_removed: Fraction | None = 0.5
    """Fraction of the fused graph's multiply-accumulates to remove; only one of the three budgets may decide."""
    params_removed: Fraction | None = None
    """In its place: the fraction of the fused graph's parameters to remove."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)
    """In its place: the largest size of the fp32 ONNX file, megabytes (10^6 bytes)."""
    head_rate: Percent = 0.8
    """How readily the head gives channels up: 1 like the rest, .5 half as readily, 0 not at all."""
    head_removed: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the head's own MACs (parameters) that goes, whatever its scores; absent: ranked with the rest."""
    criterion: Literal["fisher", "hessian", "taylor", "lamp", "l1", "l2", "bn", "fpgm", "random"] = "fisher"
    """How channels are scored; no other beat ``fisher`` beyond the noise (docs/benchmarks/ablations.md)."""
    normalize: Literal["none", "sum", "mean", "max", "standard", "median"] = "none"
    """Make scores relative to their layer's sum, mean, largest, range or median before layers are compared."""
    scope: Literal["global", "uniform", "isomorphic", "block_costs"] = "global"
    """Rank all channels together, remove one share everywhere, rank per kind of layer, or follow ``block_costs``."""
    block_costs: str | None = Field(default=None, validate_default=True)
    """Table of block costs (JSON) of this model, for scope ``block_costs``."""
    steps: Annotated[int, Field(ge=1, le=20)] = 3
    """Number of cuts; the channels are scored anew before each."""
    schedule: Literal["linear", "geometric"] = "linear"
    """Each step removes the same amount, or the same share of what the one before it left."""
    recover_epochs_between: Annotated[int, Field(ge=0)] = 0
    """Epochs of recovery after every step but the last; 0: the weights stay what they were."""
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
    """Training images that score the channels before each step; absent: 8 to 64, fewer for larger models and inputs."""
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
        default = cls.model_fields["head_rate"].default
        if value == "block_costs" and info.data.get("head_rate", default) not in (0, default):
            raise PydanticCustomError("head", "another scope, or no head_rate but 0: the map prices the head")
        return value

    @field_validator("block_costs")
    @classmethod
    def _map_for_scope(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a map that nothing reads, and a scope without its map."""
        scope = info.data.get("scope")
        if value is not None and scope not in (None, "block_costs"):
            raise PydanticCustomError("map", "no value, because scope is {scope}", {"scope": scope})
        if value is None and scope == "block_costs":
            raise PydanticCustomError("map", "the file that scope block_costs reads")
        return value

    @property
    def budget(self) -> tuple[str, float]:
        """Return the name and value of the budget that decides."""
        return next((key, value) for key in BUDGETS if (value := getattr(self, key)) is not None)


BUDGETS = ("macs_removed", "params_removed", "max_size_mb")
"""Settings of prune of which one decides."""


class BlockCostsConfig(Frozen):
    """How `yolo-slim block-costs` measures blocks; no other command reads it."""

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
