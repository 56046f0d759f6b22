"""pruned.pt -> recovered.pt: train the pruned network back, with the unpruned one as its teacher."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from yolo_slim import checkpoint, ultra
from yolo_slim.config import RecoverConfig
from yolo_slim.data import load_dataset, write_absolute_yaml
from yolo_slim.errors import SlimError, did_you_mean, os_errors_explained
from yolo_slim.files import read_json, write_json
from yolo_slim.manifest import Job, changes, identity_of, read_manifest
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.macs import conv_widths
from yolo_slim.training.guards import is_out_of_memory, is_worker_lost, out_of_memory, require_teacher, worker_lost

DEFAULTS: dict[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 0.001,
    "lrf": 0.01,
    "cos_lr": True,
    "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.0,
    "cache": "ram",
    "plots": False,
    "verbose": False,
}
"""Ultralytics arguments that differ from its own defaults; each can be overridden.

lr0 was held against its half and double, AdamW against SGD, the cosine against linear decay, the warm-up against none:
docs/benchmarks/ablations.md.
"""

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

OURS = frozenset(
    [
        "model",
        "data",
        "imgsz",
        "epochs",
        "batch",
        "patience",
        "device",
        "seed",
        "project",
        "name",
        "exist_ok",
        "resume",
        "save_dir",
        "mode",
        # Only Ultralytics' own command line reads that file.
        "cfg",
        "task",
        "distill_model",
        "dis",
        # Other weights would take the pruned ones' place; without saving, nothing could be resumed or kept.
        "pretrained",
        "save",
        # Another split would choose the best epoch, with test images in view; the model has its classes, all of them.
        "split",
        "single_cls",
        "classes",
        # Which head is validated follows from export.end2end.
        "nms",
    ]
)
"""Arguments that the stage sets itself."""


@dataclass(frozen=True, kw_only=True)
class RecoverInputs:
    """What the stage reads."""

    weights: Path
    """``pruned.pt``."""
    teacher: Path
    """The unpruned checkpoint, or a larger one with the same classes and head."""
    data: Path
    """Ultralytics data set description."""


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
        data_digest: digest of the data set, see :func:`yolo_slim.data.digest`.
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
        with ultra.log_to(out_dir / "train.log"):
            best, mixed = _train(kind, arguments, last, config.epochs, progress)
        _keep_best(best, pruned, outputs, imgsz)
    except BaseException:
        _take_back(out_dir)
        raise
    job.finish([outputs.weights, outputs.results], {"resumed": last is not None, "mixed_precision": mixed})
    shutil.rmtree(out_dir / BEFORE, ignore_errors=True)
    return outputs


def settings_of(config: RecoverConfig) -> dict[str, Any]:
    """Return the settings that decide a training; the teacher counts by its content, among the inputs."""
    # Where it runs decides nothing but its duration. A default is left out, so that what was trained before it could
    # be chosen still counts as done.
    without = {"teacher", "device"} | ({"distill_on"} if config.distill_on == "answers" else set())
    return config.model_dump(exclude=without)


def teacher_of(config: RecoverConfig, model: Path) -> Path:
    """Return the checkpoint that teaches: the one of the settings, else the unpruned model."""
    return Path(config.teacher) if config.teacher else model


def check_teacher(config: RecoverConfig, student: checkpoint.Checkpoint) -> None:
    """Raise where the settings name a teacher that can't teach a model or what is left of it."""
    if config.teacher and config.distill > 0:
        path = Path(config.teacher)
        require_teacher(student.model, checkpoint.load(path, (student.task,)).model, path)


def require_device(device: str) -> None:
    """Raise for GPUs that aren't there, and several ones without what Ultralytics sends the trainer to them with."""
    there = torch.cuda.device_count()
    if not re.fullmatch(r"(cpu|mps|(cuda:)?\d+(,\d+)*)?", device):
        raise SlimError(
            f"recover.device {device!r} isn't a device that yolo_slim trains on.",
            remedy="Leave it empty (the first GPU, else the CPU), or give cpu, mps, or the numbers of GPUs: 0 or 0,1.",
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise SlimError(
            "recover.device asks for mps, which this machine hasn't.", remedy="Leave it empty, or give cpu."
        )
    missing = [part for part in device.removeprefix("cuda:").split(",") if part.isdigit() and int(part) >= there]
    if missing:
        raise SlimError(
            f"recover.device asks for GPU {', '.join(missing)}; this machine has {there or 'none that torch can use'}.",
            remedy="Leave it empty (the first GPU, else the CPU), or give cpu or the number of a GPU that is there.",
        )
    if "," in device and importlib.util.find_spec("cloudpickle") is None:
        raise SlimError(
            f"Training on several GPUs ({device}) needs the package cloudpickle.",
            remedy="Install it: pip install 'cloudpickle>=3.1.1', or train on one GPU.",
        )


def check_overrides(overrides: dict[str, Any]) -> None:
    """Raise for training arguments that Ultralytics doesn't know or that the stage sets itself, all at once."""
    ultra.prepare()
    from ultralytics.cfg import QUANTIZE_ALIASES, get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    problems = [
        f"{key}: unknown argument.{did_you_mean(key, list(DEFAULT_CFG_DICT))}"
        for key in overrides
        if key not in DEFAULT_CFG_DICT
    ]
    problems += [f"{key}: set by yolo_slim" for key in overrides if key in OURS]
    if problems:
        raise SlimError(
            "Some training arguments can't be passed to Ultralytics.",
            culprits=problems,
            remedy="docs.ultralytics.com/modes/train lists the arguments; epochs, batch, patience, device, "
            "teacher and distill are settings of recover itself.",
        )
    try:
        get_cfg(overrides=dict(overrides))
    except (TypeError, ValueError) as error:
        raise SlimError(
            f"A training argument has a value that Ultralytics doesn't take: {error}",
            remedy="docs.ultralytics.com/modes/train lists the arguments and their types.",
        ) from None
    if QUANTIZE_ALIASES.get(str(overrides.get("quantize")).lower()) == 8:
        checkpoint.require_modelopt("quantize: 8 asks for quantization-aware training")


def training_arguments(
    inputs: RecoverInputs,
    config: RecoverConfig,
    out_dir: Path,
    *,
    data: Path,
    imgsz: int,
    seed: int,
    end2end: bool = False,
) -> dict[str, Any]:
    """Return the Ultralytics training arguments."""
    from yolo_slim.training.precision import has_bfloat16

    gpu = torch.cuda.is_available() and config.device not in ("cpu", "mps")
    # Ultralytics lets float16 be tried by a network that it downloads; bfloat16 needs no trial.
    amp: bool | str = "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else gpu
    given = {
        "model": str(inputs.weights.absolute()),
        "data": str(data),
        "imgsz": imgsz,
        "epochs": config.epochs,
        "batch": config.batch,
        "nbs": config.batch,
        "patience": config.patience,
        "device": config.device or (None if gpu else "cpu"),
        "seed": seed,
        "amp": amp or has_bfloat16(),
        "close_mosaic": max(1, config.epochs * 3 // 10),
        "workers": min(8, ultra.cores()),
        "project": str(out_dir.absolute()),
        "name": "train",
        "exist_ok": True,
    }
    if end2end:
        given["nms"] = False
    if config.distill > 0:
        given |= {"distill_model": str(inputs.teacher.absolute()), "dis": config.distill}
    arguments = {**DEFAULTS, **given, **config.overrides}
    if not gpu and (config.distill_on == "features" or arguments.get("quantize")):
        # Their losses are computed inside the network, or by quantizers, out of our criterion's reach.
        arguments["amp"] = False
    return arguments


def resumable(job: Job) -> Path | None:
    """Return the last checkpoint of the same job if there is one; otherwise clear what a finished job left.

    Call it before :meth:`~yolo_slim.manifest.Job.begin`, which withdraws the manifest that says "finished".

    Raises:
        SlimError: an unfinished training with whole epochs, of other arguments; it is left alone.
    """
    train, record = job.folder / "train", job.folder / "job.json"
    last = train / "weights" / "last.pt"
    found = _begun(job.folder)
    if found.get("fingerprint") == job.fingerprint and last.is_file():
        return last
    if last.is_file() and read_manifest(job.folder).get("stage") != job.stage:
        raise another_training(found, job)
    with os_errors_explained(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(train, ignore_errors=True)
        write_json(record, {"fingerprint": job.fingerprint, **job.identity})
    return None


def _begun(folder: Path) -> dict[str, Any]:
    """Return what the training in a folder was begun as; empty where nothing tells."""
    try:
        found = read_json(folder / "job.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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


def another_training(found: dict[str, Any], job: Job) -> SlimError:
    """Return the error for a folder whose unfinished training had other arguments, each with its old and new value."""
    changed = changes(found, job.identity)
    known = "config" in found
    return SlimError(
        f"{job.folder / 'train'} holds an unfinished training with other arguments.",
        culprits=changed if known else ["it doesn't say which: its job.json is missing or of an earlier version"],
        remedy="Nothing was touched. Give the old values back to go on with it, choose another folder (NAME or --out), "
        "or move or remove that folder yourself to start anew.",
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


def is_finished(epoch: int, epochs: int, arguments: Mapping[str, Any]) -> bool:
    """Tell whether nothing is left to train after an epoch, from 0; -1: Ultralytics has finished it.

    By ``time`` Ultralytics decides about the number of epochs, whatever was asked for.
    """
    return epoch < 0 or (epoch + 1 >= epochs and not arguments.get("time"))


def epoch_of(last: Path) -> int:
    """Return the last whole epoch of a training, from 0; -1 where it is finished.

    Raises:
        SlimError: a checkpoint that can't be read.
    """
    try:
        return int(torch.load(last, map_location="cpu", weights_only=False)["epoch"])
    except (RuntimeError, OSError, EOFError, UnpicklingError, KeyError, TypeError) as error:
        raise SlimError(
            f"{last} can't be read ({type(error).__name__}), so the training can't go on.",
            remedy=f"The best epoch so far is {last.with_name('best.pt')}. To train anew, choose another folder (NAME "
            f"or --out), or remove {last.parents[1]} yourself.",
        ) from error


def resuming(last: Path) -> dict[str, Any]:
    """Return the arguments that go on from a checkpoint where it lies now; it holds the folder that it was made in."""
    return {"resume": str(last), "save_dir": str(last.parents[1])}


def train_guarded(trainer: Any) -> None:
    """Train.

    Raises:
        SlimError: too little memory, with a batch that fits; a process of several GPUs, or one that loads images, that
            failed.
    """
    try:
        trainer.train()
    except subprocess.CalledProcessError as error:
        raise SlimError(
            f"The training on several GPUs ended with status {error.returncode}.",
            remedy="Its own message stands above; try one GPU, and the same command goes on from the last whole epoch.",
        ) from error
    except NotImplementedError as error:
        raise SlimError(f"Ultralytics can't train so: {error}", remedy="Correct the argument after --train.") from error
    except (MemoryError, RuntimeError) as error:
        if "froze the entire model" in str(error):
            raise SlimError(f"Ultralytics can't train so: {error}", remedy="Freeze fewer layers.") from error
        if is_worker_lost(error):
            raise worker_lost(error) from error
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(trainer.batch_size, trainer.args.imgsz, trainer.device) from error


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
