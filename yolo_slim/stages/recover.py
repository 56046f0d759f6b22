"""pruned.pt -> recovered.pt: train the pruned network back, with the unpruned one as its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.run import RecoverConfig
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.stages.context import Context
from yolo_slim.training import replacement
from yolo_slim.training.record import resumable, updates_since_begun
from yolo_slim.training.settings import TRAINING_PACKAGES, settings_of
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

if TYPE_CHECKING:
    from yolo_slim.training.recovery import Recovery

REVISION = 1
"""Raised when equal inputs train otherwise."""


@dataclass(frozen=True, kw_only=True)
class RecoverInputs:
    """What the stage reads."""

    weights: Path
    """``pruned.pt``."""
    teacher: Path
    """The unpruned checkpoint, or a larger one with the same classes and head."""


@dataclass(frozen=True, kw_only=True)
class RecoverOutputs:
    """What the stage wrote."""

    weights: Path
    """``recovered.pt``: the epoch with the best validation mAP."""
    results: Path
    """``results.csv``: Ultralytics' table of losses and mAP per epoch."""


def outputs_in(folder: Path) -> RecoverOutputs:
    """Say where the stage writes."""
    return RecoverOutputs(weights=folder / "recovered.pt", results=folder / "results.csv")


def job_of(inputs: RecoverInputs, config: RecoverConfig, folder: Path, context: Context) -> Job:
    """Say what decides the stage's result."""
    shared = {"imgsz": context.imgsz, "seed": context.seed, "end2end": context.end2end}
    return Job(
        stage="recover",
        folder=folder,
        settings={**settings_of(config), **shared},
        inputs={
            "weights": content(inputs.weights), "teacher": content(inputs.teacher), "data": context.dataset.digest,
        },
        revision=REVISION,
        packages=TRAINING_PACKAGES,
    )  # fmt: skip


def run(
    inputs: RecoverInputs, config: RecoverConfig, folder: Path, context: Context, *, replace: bool = True
) -> RecoverOutputs:
    """Fine-tune a pruned checkpoint; an interrupted training resumes after its last complete epoch.

    Args:
        inputs: files to read.
        config: how to train.
        folder: folder of the stage; Ultralytics' own files go to ``train/`` below it.
        context: data, input side and seed of the training.
        replace: whether a finished recovery with other settings or weights is replaced.

    Raises:
        SlimError: unknown training arguments, a teacher that can't be compared, an unfinished training of other
            settings or a finished one that isn't to be replaced, a loss that isn't finite, too little memory, or
            widths that changed in training.
    """
    job, outputs = job_of(inputs, config, folder, context), outputs_in(folder)
    replacement.move_back(folder)

    def check() -> Recovery:
        return _checked(job, inputs, config, context, replace=replace)

    def make(recovery: Recovery) -> Made:
        return _trained(recovery, outputs, context)

    run_once(job, make, context, check=check, is_training=True)
    return outputs


def _checked(job: Job, inputs: RecoverInputs, config: RecoverConfig, context: Context, *, replace: bool) -> Recovery:
    """Refuse what can't be trained, then make room for the training."""
    from yolo_slim.training.arguments import Training
    from yolo_slim.training.recovery import Recovery, checked

    if not replace:
        replacement.require_replaceable(job)
    training = Training(
        weights=inputs.weights,
        teacher=inputs.teacher,
        data=job.folder / "data.yaml",
        folder=job.folder,
        imgsz=context.imgsz,
        seed=context.seed,
        end2end=context.end2end,
    )
    pruned = checked(training, config)
    replacement.move_aside(job)
    last = resumable(job, context.progress)
    return Recovery(
        training=training, config=config, pruned=pruned, last=last, updates=tuple(updates_since_begun(job))
    )  # fmt: skip


def _trained(recovery: Recovery, outputs: RecoverOutputs, context: Context) -> Made:
    """Train, and keep the best epoch; a training that fails gives an earlier one its place back."""
    from dataclasses import replace

    from yolo_slim.training.exchange import exchanged
    from yolo_slim.training.recovery import keep_best, train

    folder, config = recovery.training.folder, recovery.config
    try:
        data = write_absolute_yaml(context.dataset, recovery.training.data)
        training = replace(recovery.training, data=data)
        # A training that resumes has its activation in last.pt.
        if config.activation != "none" and recovery.last is None:
            training = exchanged(training, recovery.pruned, config.activation, context.dataset, context.progress)
        recovery = replace(recovery, training=training)
        found = train(recovery, context.progress)
        keep_best(found.best, recovery, outputs.weights, outputs.results)
    except BaseException:
        replacement.move_back(folder)
        raise
    replacement.forget(folder)
    facts = {
        "resumed": recovery.last is not None, "updates": list(recovery.updates),
        "mixed_precision": found.mixed_precision,
    }  # fmt: skip
    return Made(outputs=[outputs.weights, outputs.results], facts=facts)
