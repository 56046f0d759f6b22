"""Resume a killed training from its last whole epoch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import read_json, write_json
from yolo_slim.training.guards import is_out_of_memory, is_worker_lost, out_of_memory, worker_lost
from yolo_slim.workspace.job import Job, changes, read_manifest


def resumable(job: Job) -> Path | None:
    """Return the last checkpoint of the same job if there is one; otherwise clear what a finished job left.

    Call it before :meth:`~yolo_slim.workspace.job.Job.begin`, which withdraws the manifest that says "finished".

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
