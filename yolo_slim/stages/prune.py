"""best.pt -> pruned.pt: remove channels down to a share of the MACs, and say which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim import checkpoint, ultra
from yolo_slim.config import PruneConfig
from yolo_slim.data import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.manifest import Job
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.importance import require_images
from yolo_slim.pruning.macs import Size, measure
from yolo_slim.pruning.pruner import Pruner, Task
from yolo_slim.training.batches import loader

MAX_MACS_ERROR = 0.03
"""Largest distance between the MACs asked for and got, as a share of the unpruned MACs."""


@dataclass(frozen=True, kw_only=True)
class PruneInputs:
    """What the stage reads."""

    model: Path
    """Trained checkpoint."""
    data: Path
    """Ultralytics data set description."""


@dataclass(frozen=True, kw_only=True)
class PruneOutputs:
    """What the stage wrote."""

    weights: Path
    """``pruned.pt``."""
    plan: Path
    """``plan.json``: the channels that stay."""
    widths: Path
    """``widths.json``: width of every convolution before and after, MACs and parameters."""


def outputs_in(folder: Path) -> PruneOutputs:
    """Return where the stage writes."""
    return PruneOutputs(weights=folder / "pruned.pt", plan=folder / "plan.json", widths=folder / "widths.json")


def run(
    inputs: PruneInputs,
    config: PruneConfig,
    out_dir: Path,
    *,
    imgsz: int,
    seed: int = 0,
    end2end: bool = False,
    data_digest: str = "",
    progress: Progress | None = None,
) -> PruneOutputs:
    """Prune a checkpoint; a finished result of the same settings and inputs is kept.

    Args:
        inputs: files to read.
        config: what to remove.
        out_dir: folder of the stage.
        imgsz: input side in pixels: MACs and scores are computed at it.
        seed: seed of the choice of images.
        end2end: yolo26's one-to-one head is the one that will be exported.
        data_digest: digest of the data set, see :func:`yolo_slim.data.digest`.
        progress: listener.

    Raises:
        SlimError: an unusable checkpoint, or MACs that can't be reached.
    """
    progress = progress or Silent()
    loaded = checkpoint.load(inputs.model, checkpoint.TASKS)
    require_imgsz(imgsz, loaded.stride)
    settings = {**config.model_dump(), "imgsz": imgsz, "seed": seed, "end2end": end2end}
    job = Job(stage="prune", folder=out_dir, config=settings, inputs={"model": loaded.sha256, "data": data_digest})
    outputs = outputs_in(out_dir)
    if job.is_done():
        progress.say("prune: done before, kept")
        return outputs
    job.begin()
    ultra.use_all_cores()
    dataset = load_dataset(inputs.data)
    images = dataset.splits.get("train", [])
    before = measure(loaded.model, imgsz, end2end=end2end)
    widths_before = conv_widths(loaded.model)
    task = Task(
        config=config, model_sha256=loaded.sha256, settings=settings, before=before, removed=config.budget[1],
        what="MACs", images=images, imgsz=imgsz, seed=seed, end2end=end2end,
        load=loader(loaded.task, dataset, imgsz, out_dir),
    )  # fmt: skip
    require_images(config.criterion, len(images))
    pruner = Pruner(task=task, progress=progress)
    pruner.begin(loaded.model)
    plan = pruner.cut(loaded.model)
    pruner.restat(loaded.model, last=True)
    after = measure(loaded.model, imgsz, end2end=end2end)
    _require_target(before, after, config.budget[1])
    plan.save(outputs.plan)
    checkpoint.save(outputs.weights, loaded, loaded.model)
    write_json(outputs.widths, width_table(widths_before, loaded.model, before, after))
    job.finish([outputs.weights, outputs.plan, outputs.widths], {"before": before.to_json(), "after": after.to_json()})
    progress.say(
        f"prune: {before.macs / 1e9:.2f} -> {after.macs / 1e9:.2f} GMACs ({1 - after.macs / before.macs:.0%} removed), "
        f"{before.params / 1e6:.2f} -> {after.params / 1e6:.2f} M parameters"
    )
    return outputs


def require_imgsz(imgsz: int, stride: int) -> None:
    """Raise unless the input side is a multiple of the model's largest stride."""
    if imgsz % stride:
        below, above = imgsz // stride * stride, -(-imgsz // stride) * stride
        near = f"{below} or {above}" if below else f"{above}"
        raise SlimError(
            f"imgsz {imgsz} is not a multiple of the model's stride {stride}.", remedy=f"Set IMGSZ to {near}."
        )


def conv_widths(model: nn.Module) -> dict[str, int]:
    """Return the output channels of every convolution by name."""
    return {name: m.out_channels for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def width_table(before: dict[str, int], model: nn.Module, size_before: Size, size_after: Size) -> dict[str, Any]:
    """Return the JSON value of ``widths.json``."""
    after = conv_widths(model)
    layers = [{"layer": name, "before": width, "after": after[name]} for name, width in before.items()]
    return {"control": size_before.to_json(), "slim": size_after.to_json(), "layers": layers}


def _require_target(before: Size, after: Size, removed: float) -> None:
    """Raise unless the MACs fell, and to what was asked."""
    got = 1 - after.macs / before.macs
    if got <= 0:
        raise SlimError(
            "The MACs did not fall: nothing was pruned.",
            remedy="Raise PRUNE, or lower prune.round_to for small models.",
        )
    if abs(got - removed) > MAX_MACS_ERROR:
        raise SlimError(
            f"Asked to remove {removed:.1%} of the MACs, got {got:.1%}: more than {MAX_MACS_ERROR:.0%} apart.",
            remedy="Lower prune.round_to, so that smaller steps are possible.",
        )
