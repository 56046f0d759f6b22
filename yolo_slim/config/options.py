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
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    imgsz: int | Literal["auto"] | None
    """Input side in pixels, a multiple of the model's stride; `auto`: the best one for `--target-fps`."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    prune: float | None
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    target_fps: float | None
    """Budget in place of `macs_removed`: frames per second that the device must reach, end to end."""
    latency_ms: float | None
    """Budget in place of `macs_removed`: milliseconds that a frame may take on the device, end to end."""
    removed: float | None
    """Fraction of a block's channels that is removed to measure it."""
    runtime: str | None
    """Runtime that measures milliseconds: `onnxruntime` (fp32) or `ncnn` (fp16)."""
    images: int | None
    """Number of validation images that mAP is measured on, the first ones; 0: all."""
    epochs: int | None
    """Epochs of recovery."""
    teacher: str | Path | None
    """Checkpoint of the teacher, with the same classes, strides and box bins; none: the unpruned model."""
    device: str | None
    """Where training runs: `cpu`, `mps`, a GPU (`0`) or several (`0,1`); empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class RunOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.run`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    prune: float | None
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    target_fps: float | None
    """Budget in place of `macs_removed`: frames per second that the device must reach, end to end."""
    latency_ms: float | None
    """Budget in place of `macs_removed`: milliseconds that a frame may take on the device, end to end."""
    epochs: int | None
    """Epochs of recovery."""
    device: str | None
    """Where training runs: `cpu`, `mps`, a GPU (`0`) or several (`0,1`); empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    teacher: str | Path | None
    """Checkpoint of the teacher, with the same classes, strides and box bins; none: the unpruned model."""
    imgsz: int | Literal["auto"] | None
    """Input side in pixels, a multiple of the model's stride; `auto`: the best one for `--target-fps`."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class CompareOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.compare`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    target_fps: float | None
    """Budget in place of `macs_removed`: frames per second that the device must reach, end to end."""
    latency_ms: float | None
    """Budget in place of `macs_removed`: milliseconds that a frame may take on the device, end to end."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    epochs: int | None
    """Epochs of recovery."""
    device: str | None
    """Where training runs: `cpu`, `mps`, a GPU (`0`) or several (`0,1`); empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    methods: str | Sequence[str] | None
    """Methods to compare with ours and the control. None: all but `control-trained`; with a frame rate `macs` alone."""
    prune: float | Sequence[float] | None
    """Fractions of the multiply-accumulates (MACs) to remove; none: `prune.macs_removed`."""
    seeds: int | Sequence[int] | None
    """Number of seeds (`3`: seeds 0, 1 and 2), or the seeds themselves (`0,1,2`; `4,` is seed 4 alone)."""
    runtimes: str | Sequence[str] | None
    """Builds to compare, such as `onnxruntime-fp32` and `ncnn-fp16`; the first decides the verdict."""
    measured: str | Path | Sequence[str | Path] | None
    """`compare.json` of an earlier comparison: import the networks that it trained. Give it once per file."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class PruneOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.prune`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    prune: float | None
    """Fraction of the multiply-accumulates (MACs) to remove from the fused network."""
    target_fps: float | None
    """Budget in place of `macs_removed`: frames per second that the device must reach, end to end."""
    latency_ms: float | None
    """Budget in place of `macs_removed`: milliseconds that a frame may take on the device, end to end."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class LatencyOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.latency`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class BlockCostsOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.block_costs`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    removed: float | None
    """Fraction of a block's channels that is removed to measure it."""
    runtime: str | None
    """Runtime that measures milliseconds: `onnxruntime` (fp32) or `ncnn` (fp16)."""
    images: int | None
    """Number of validation images that mAP is measured on, the first ones; 0: all."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class RecoverOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.recover`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    epochs: int | None
    """Epochs of recovery."""
    device: str | None
    """Where training runs: `cpu`, `mps`, a GPU (`0`) or several (`0,1`); empty: Ultralytics chooses."""
    train: Mapping[str, object] | None
    """Any Ultralytics training argument, such as `lr0=0.002`."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class ExportOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.export`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class QuantizeOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.quantize`."""

    precisions: Literal["int8", "fp16"] | Sequence[Literal["int8", "fp16"]] | None
    """Graphs to make."""
    trained: str | Path | None
    """`model-qat.onnx` of the same export, if the recovery was trained with `--train quantize=8`."""
    calibration: str | Path | None
    """`calibration.json` of an earlier run, to use its images; none: new images are chosen."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""


class ValidateOptions(TypedDict, total=False):
    """Keyword arguments of :func:`yolo_slim.validate`."""

    target: str | None
    """Target: a name of `yolo-slim targets`, or your own profile (`mine.yaml`). Not given: that of `--host`, if any."""
    host: str | None
    """Device that runs bundles: a name of `yolo-slim device list`, or `[user@]host[:port]`; none: this machine."""
    any_device: bool | None
    """Use a device that isn't the target; its figures prove nothing about the target."""
    offline: bool | None
    """The device has no network: this machine collects the wheels and sends them."""
    wait: bool | None
    """Wait while another run uses the device; off: that is an error."""
    imgsz: int | None
    """Input side in pixels, a multiple of the model's stride."""
    pruned: str | Path | None
    """Pruned checkpoint (`pruned.pt`), a rung of the ladder."""
    recovered: str | Path | None
    """Recovered checkpoint (`recovered.pt`), a rung of the ladder."""
    onnx: str | Path | None
    """Exported ONNX file, a rung of the ladder."""
    quantized: str | Path | None
    """Folder of `yolo-slim quantize`; if int8 loses too much, its layer errors name the layer to look at first."""
    settings: Mapping[str, object] | None
    """Any setting of docs/configuration.md, such as `prune.steps=2`."""
    config: str | Path | None
    """YAML file with settings; options win over it."""
