"""Train a pruned network back: what is checked before, the training, and what is kept of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import require_exchangeable
from yolo_slim.models.macs import conv_widths
from yolo_slim.models.ultralytics import log_to
from yolo_slim.progress import Progress
from yolo_slim.training.arguments import (
    Training,
    check_overrides,
    require_device,
    require_plain_path,
    training_arguments,
)
from yolo_slim.training.guards import require_teacher
from yolo_slim.training.resume import epoch_of, is_finished, resuming, train_guarded
from yolo_slim.training.trainer import trainer_of

SCORES = {
    "metrics/mAP50-95(B)": "mAP50-95",
    "metrics/mAP50-95(M)": "mask mAP50-95",
    "metrics/mAP50-95(P)": "pose mAP50-95",
    "metrics/accuracy_top1": "top-1 accuracy",
}
"""Ultralytics' metrics that are reported after an epoch, of all tasks, with their names for people."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """A checked recovery."""

    training: Training
    config: RecoverConfig
    pruned: checkpoint.Checkpoint
    last: Path | None = None
    """Last complete epoch of an interrupted training, which resumes there."""
    updates: tuple[str, ...] = ()
    """Packages whose version has changed since the training began."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a training gave."""

    best: Path
    """``best.pt``: the epoch with the best validation mAP."""
    mixed_precision: bool | None
    """None: not known, because only the manifest was missing."""


def checked(training: Training, config: RecoverConfig) -> checkpoint.Checkpoint:
    """Load the pruned network and refuse what can't be trained.

    Raises:
        SlimError: unknown training arguments, a path with an apostrophe, a teacher that can't be compared, a device
            that isn't there, an activation that can't replace the network's.
    """
    check_overrides(config.overrides)
    for path in (training.weights, training.folder):
        require_plain_path(path)
    pruned = checkpoint.load(training.weights, checkpoint.TASKS)
    checkpoint.require_float(pruned)
    require_exchangeable(pruned.model, config.activation)
    teacher = checkpoint.load(training.teacher, (pruned.task,))
    if config.distill > 0:
        require_teacher(pruned.model, teacher.model, training.teacher)
    require_device(config.device)
    checkpoint.require_end2end(pruned, asked=training.end2end)
    return pruned


def train(recovery: Recovery, progress: Progress) -> Recovered:
    """Train, resume or, where only the manifest was missing, do nothing."""
    config, last = recovery.config, recovery.last
    arguments = training_arguments(recovery.training, config)
    if last is not None:
        epoch = epoch_of(last)
        if is_finished(epoch, config.epochs, arguments):
            return Recovered(best=last.with_name("best.pt"), mixed_precision=None)
        progress.say(f"recover: resumes after epoch {epoch + 1} of {config.epochs}")
        arguments |= resuming(last)
    else:
        progress.say(f"recover: training begins, {config.epochs} epoch{'s' * (config.epochs > 1)}")
    with log_to(recovery.training.folder / "train.log"):
        trainer = trainer_of(recovery.pruned.task, config.distill_on)(overrides=arguments)
        if not getattr(trainer, "ddp", False):
            # Several GPUs get the callbacks as a pickle, and a terminal's progress bars can't be one.
            for event, callback in _callbacks(progress).items():
                trainer.add_callback(event, callback)
        train_guarded(trainer)
    mixed = getattr(trainer, "amp", None)
    return Recovered(best=Path(trainer.best), mixed_precision=None if mixed is None else bool(mixed))


def _callbacks(progress: Progress) -> dict[str, Any]:
    """Report batches and epochs as Ultralytics' trainer finishes them."""
    seen = {"batches": 0, "epoch": -1}

    def batch_end(trainer: Any) -> None:
        if trainer.epoch != seen["epoch"]:
            seen.update(batches=0, epoch=trainer.epoch)
        seen["batches"] += 1
        per_epoch = len(trainer.train_loader)
        progress.step("recover: train", trainer.epoch * per_epoch + seen["batches"], trainer.epochs * per_epoch)

    def epoch_end(trainer: Any) -> None:
        metrics = trainer.metrics or {}
        found = [(metrics[key], name) for key, name in SCORES.items() if key in metrics]
        if found and trainer.epoch < trainer.epochs:
            scores = ", ".join(f"{name} {value:.3f}" for value, name in found)
            progress.say(f"recover: epoch {trainer.epoch + 1} of {trainer.epochs}, val {scores}")

    return {"on_train_batch_end": batch_end, "on_model_save": epoch_end}


def keep_best(best: Path, recovery: Recovery, weights: Path, results: Path) -> None:
    """Write the best weights as a plain checkpoint.

    Raises:
        SlimError: the widths are no longer the pruned ones. Ultralytics builds the full network again wherever a
            trainer doesn't stop it.
    """
    pruned = recovery.pruned
    trained = checkpoint.load(best, (pruned.task,))
    before, after = conv_widths(pruned.model), conv_widths(trained.model)
    changed = [f"{name}: {before[name]} -> {after.get(name)}" for name in before if before[name] != after.get(name)]
    if changed:
        raise SlimError(
            "Training changed the widths of the pruned network.",
            culprits=changed,
            remedy="Report this with your Ultralytics version; the pruned weights are unchanged.",
            topic="the-network-is-wide-again",
        )
    checkpoint.save(weights, pruned, trained.model, trained, imgsz=recovery.training.imgsz)
    shutil.copyfile(best.parents[1] / "results.csv", results)
