"""pruned.pt -> recovered.pt: train the pruned network back, with the unpruned one as its teacher."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.config.run import RecoverConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.models import checkpoint
from yolo_slim.models.size import conv_widths
from yolo_slim.models.ultralytics import log_to
from yolo_slim.progress import Progress, Silent
from yolo_slim.training.arguments import RecoverInputs, check_overrides, require_device, settings_of, training_arguments
from yolo_slim.training.guards import require_teacher
from yolo_slim.training.resume import _begun, epoch_of, is_finished, resumable, resuming, train_guarded
from yolo_slim.workspace.job import Job, changes, identity_of, read_manifest

BEFORE = "before"
"""Folder that keeps a finished recovery while another is trained in its place."""


PUT_ASIDE = ("train", "job.json", "manifest.json")
"""What is kept there; ``recovered.pt`` and ``results.csv`` stay where they are until they are replaced."""


SCORES = {
    "metrics/mAP50-95(B)": "mAP50-95",
    "metrics/mAP50-95(M)": "mask mAP50-95",
    "metrics/mAP50-95(P)": "pose mAP50-95",
    "metrics/accuracy_top1": "top-1 accuracy",
}
"""Ultralytics' metrics of all tasks that are told after an epoch, with their names for people."""


@dataclass(frozen=True, kw_only=True)
class RecoverOutputs:
    """What the stage wrote."""

    weights: Path
    """``recovered.pt``: the epoch with the best validation mAP."""
    results: Path
    """``results.csv``: Ultralytics' table of losses and mAP per epoch."""


def outputs_in(folder: Path) -> RecoverOutputs:
    """Return where the stage writes."""
    return RecoverOutputs(weights=folder / "recovered.pt", results=folder / "results.csv")


def run(
    inputs: RecoverInputs,
    config: RecoverConfig,
    out_dir: Path,
    *,
    imgsz: int,
    seed: int = 0,
    end2end: bool = False,
    data_digest: str = "",
    replace: bool = True,
    progress: Progress | None = None,
) -> RecoverOutputs:
    """Fine-tune a pruned checkpoint; a killed training goes on from its last whole epoch.

    Args:
        inputs: files to read.
        config: how to train.
        out_dir: folder of the stage; Ultralytics' own files go to ``train/`` below it.
        imgsz: training image side in pixels.
        seed: seed of the training.
        end2end: the one-to-one head will be exported, so the best epoch is that head's.
        data_digest: digest of the data set, see :func:`yolo_slim.datasets.description.digest`.
        replace: whether a finished recovery by other settings or of other weights is trained anew in its folder.
        progress: listener.

    Raises:
        SlimError: unknown training arguments, a teacher that can't be compared, an unfinished training with other
            arguments in the folder or a finished one that isn't to be replaced, a loss that isn't finite, too little
            memory, or widths that changed in training.
    """
    progress = progress or Silent()
    check_overrides(config.overrides)
    from yolo_slim.training.trainer import trainer_of

    pruned = checkpoint.load(inputs.weights, checkpoint.TASKS)
    checkpoint.require_float(pruned)
    teacher = checkpoint.load(inputs.teacher, (pruned.task,))
    job = Job(
        stage="recover",
        folder=out_dir,
        config={**settings_of(config), "imgsz": imgsz, "seed": seed, **({"end2end": True} if end2end else {})},
        inputs={"weights": pruned.sha256, "teacher": teacher.sha256, "data": data_digest},
    )
    outputs = outputs_in(out_dir)
    _take_back(out_dir)
    if job.is_done():
        progress.say("recover: done before, kept")
        return outputs
    if not replace:
        _require_no_other(job)
    if config.distill > 0:
        require_teacher(pruned.model, teacher.model, inputs.teacher)
    require_device(config.device)
    checkpoint.require_end2end(pruned, asked=end2end)
    kind = trainer_of(pruned.task, config.distill_on)
    _put_aside(job)
    last = resumable(job)
    job.begin()
    try:
        data = write_absolute_yaml(load_dataset(inputs.data), out_dir / "data.yaml")
        arguments = training_arguments(inputs, config, out_dir, data=data, imgsz=imgsz, seed=seed, end2end=end2end)
        with log_to(out_dir / "train.log"):
            best, mixed = _train(kind, arguments, last, config.epochs, progress)
        _keep_best(best, pruned, outputs, imgsz)
    except BaseException:
        _take_back(out_dir)
        raise
    job.finish([outputs.weights, outputs.results], {"resumed": last is not None, "mixed_precision": mixed})
    shutil.rmtree(out_dir / BEFORE, ignore_errors=True)
    return outputs


def _put_aside(job: Job) -> None:
    """Keep the finished recovery that another is to replace, until that one is finished.

    The training moves first: as long as there is none in its place, what was moved can be taken back.
    """
    if read_manifest(job.folder).get("stage") != job.stage or _begun(job.folder).get("fingerprint") == job.fingerprint:
        return
    with os_errors_explained(job.folder):
        shutil.rmtree(job.folder / BEFORE, ignore_errors=True)
        (job.folder / BEFORE).mkdir()
        for name in PUT_ASIDE:
            if (job.folder / name).exists():
                (job.folder / name).replace(job.folder / BEFORE / name)


def _take_back(folder: Path) -> None:
    """Give a finished recovery its place back where the one that was to replace it has no whole epoch."""
    if not (folder / BEFORE).is_dir() or (folder / "train" / "weights" / "last.pt").is_file():
        return
    with os_errors_explained(folder):
        shutil.rmtree(folder / "train", ignore_errors=True)
        for name in reversed(PUT_ASIDE):
            if (folder / BEFORE / name).exists():
                (folder / BEFORE / name).replace(folder / name)
        (folder / BEFORE).rmdir()


def _require_no_other(job: Job) -> None:
    """Raise where a folder that nobody chose holds a finished recovery by other settings, weights or yolo_slim."""
    found = read_manifest(job.folder)
    if found and (changed := changes(identity_of(found), job.identity)):
        raise SlimError(
            f"{job.folder} holds a finished recovery that was trained otherwise.",
            culprits=changed,
            remedy="Nothing was touched. Take it as it is, or choose another folder (--out) to train anew.",
        )


def _train(
    kind: Any, arguments: dict[str, Any], last: Path | None, epochs: int, progress: Progress
) -> tuple[Path, bool | None]:
    """Train, resume or, where only the manifest was missing, do nothing.

    Returns:
        ``best.pt``, and whether it was trained in mixed precision; None: not known any more.
    """
    if last is not None:
        epoch = epoch_of(last)
        if is_finished(epoch, epochs, arguments):
            return last.with_name("best.pt"), None
        progress.say(f"recover: goes on after epoch {epoch + 1} of {epochs}")
        arguments = {**arguments, **resuming(last)}
    trainer = kind(overrides=arguments)
    if not getattr(trainer, "ddp", False):
        # Several GPUs get the callbacks as a pickle, and a terminal's progress bars can't be one.
        for event, callback in _callbacks(progress).items():
            trainer.add_callback(event, callback)
    train_guarded(trainer)
    mixed = getattr(trainer, "amp", None)
    return Path(trainer.best), None if mixed is None else bool(mixed)


def _callbacks(progress: Progress) -> dict[str, Any]:
    """Return the trainer's callbacks that report progress."""
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
            told = ", ".join(f"{name} {value:.3f}" for value, name in found)
            progress.say(f"recover: epoch {trainer.epoch + 1} of {trainer.epochs}, val {told}")

    return {"on_train_batch_end": batch_end, "on_model_save": epoch_end}


def _keep_best(best: Path, pruned: checkpoint.Checkpoint, outputs: RecoverOutputs, imgsz: int) -> None:
    """Write the best weights as a plain checkpoint, after a check that the widths are still the pruned ones."""
    trained = checkpoint.load(best, (pruned.task,))
    before, after = conv_widths(pruned.model), conv_widths(trained.model)
    changed = [f"{name}: {before[name]} -> {after.get(name)}" for name in before if before[name] != after.get(name)]
    if changed:
        raise SlimError(
            "Training changed the widths of the pruned network.",
            culprits=changed,
            remedy="Report this with your Ultralytics version; the pruned weights are untouched.",
        )
    checkpoint.save(outputs.weights, pruned, trained.model, trained.quantization, imgsz=imgsz)
    shutil.copyfile(best.parents[1] / "results.csv", outputs.results)
