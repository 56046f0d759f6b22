"""Keyword arguments of the Python API, from the settings that yolo_slim/config/commands.py names.

This file is generated: change the fields of yolo_slim/config, then run `make generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict


class AnyOptions(TypedDict, total=False):
    """Keyword arguments of any command that makes a configuration."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    prune: float | None
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    removed: float | None
    """Fraction of its channels that a block loses while it is measured."""
    runtime: str | None
    """Runtime that measures milliseconds: `onnxruntime` (fp32) or `ncnn` (fp16)."""
    images: int | None
    """Number of validation images that measure mAP, the first ones; 0: all."""
    epochs: int | None
    """Epochs of recovery."""
    teacher: str | Path | None
    """Checkpoint that teaches, perhaps larger, with equal classes, levels and box bins; none: the unpruned model."""
    device: str | None
    """Ultralytics device: `cpu`, `0`, or `0,1` for several GPUs; empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class RunOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.run`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    prune: float | None
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    epochs: int | None
    """Epochs of recovery."""
    device: str | None
    """Ultralytics device: `cpu`, `0`, or `0,1` for several GPUs; empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    teacher: str | Path | None
    """Checkpoint that teaches, perhaps larger, with equal classes, levels and box bins; none: the unpruned model."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class CompareOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.compare`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    epochs: int | None
    """Epochs of recovery."""
    device: str | None
    """Ultralytics device: `cpu`, `0`, or `0,1` for several GPUs; empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    methods: str | Sequence[str] | None
    """Methods to compare with ours and the control; none: all but `control-trained`."""
    prune: float | Sequence[float] | None
    """Fractions of the multiply-accumulates (MACs) to remove; none: `prune.macs_removed`."""
    seeds: int | Sequence[int] | None
    """Number of seeds (`3`: seeds 0, 1 and 2), or the seeds themselves (`0,1,2`; `4,` is seed 4 alone)."""
    runtimes: str | Sequence[str] | None
    """Builds to compare, such as `onnxruntime-fp32` and `ncnn-fp16`; the first decides the verdict."""
    measured: str | Path | Sequence[str | Path] | None
    """Results of earlier comparisons (`compare.json`) whose trained networks are imported."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class PruneOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.prune`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    prune: float | None
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class BlockCostsOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.block_costs`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    removed: float | None
    """Fraction of its channels that a block loses while it is measured."""
    runtime: str | None
    """Runtime that measures milliseconds: `onnxruntime` (fp32) or `ncnn` (fp16)."""
    images: int | None
    """Number of validation images that measure mAP, the first ones; 0: all."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class RecoverOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.recover`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    epochs: int | None
    """Epochs of recovery."""
    device: str | None
    """Ultralytics device: `cpu`, `0`, or `0,1` for several GPUs; empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class ExportOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.export`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class QuantizeOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.quantize`."""

    precisions: Literal["int8", "fp16"] | Sequence[Literal["int8", "fp16"]] | None
    """Graphs to make."""
    trained: str | Path | None
    """`model-qat.onnx` of the same export, after a recovery with `--train quantize=8`."""
    calibration: str | Path | None
    """`calibration.json` of an earlier run; none: the images are chosen anew."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""


class ValidateOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.validate`."""

    target: str | None
    """Device that the run is made for, see `yolo-slim targets`; or your own profile (`mine.yaml`)."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    pruned: str | Path | None
    """Pruned checkpoint (`pruned.pt`), a rung of the ladder."""
    recovered: str | Path | None
    """Recovered checkpoint (`recovered.pt`), a rung of the ladder."""
    onnx: str | Path | None
    """Exported ONNX file, a rung of the ladder."""
    quantized: str | Path | None
    """Folder of `yolo-slim quantize`, to name the layers with the largest errors."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file of settings; options win over it."""
