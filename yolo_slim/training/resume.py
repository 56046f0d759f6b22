"""Resume an interrupted training from its last complete epoch, and explain how a training can fail."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from yolo_slim.errors import SlimError
from yolo_slim.training.guards import is_out_of_memory, is_worker_lost, out_of_memory, worker_lost


def is_finished(epoch: int, epochs: int, arguments: Mapping[str, Any]) -> bool:
    """Tell whether nothing is left to train after an epoch, from 0; -1: Ultralytics has finished it.

    By ``time`` Ultralytics decides about the number of epochs, whatever was asked for.
    """
    return epoch < 0 or (epoch + 1 >= epochs and not arguments.get("time"))


def epoch_of(last: Path) -> int:
    """Read the last complete epoch of a training, from 0; -1 where it is finished.

    Raises:
        SlimError: a checkpoint that can't be read.
    """
    try:
        return int(torch.load(last, map_location="cpu", weights_only=False)["epoch"])
    except (RuntimeError, OSError, EOFError, UnpicklingError, KeyError, TypeError) as error:
        raise SlimError(
            f"{last} can't be read ({type(error).__name__}), so the training can't be resumed.",
            remedy=f"The best epoch so far is {last.with_name('best.pt')}. To start again, choose another folder (NAME "
            f"or --out), or remove {last.parents[1]} yourself.",
        ) from error


def resuming(last: Path) -> dict[str, Any]:
    """Give the arguments that resume a checkpoint from where it lies now; it records the folder that it was made in."""
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
            remedy="Its own message is above. Try one GPU, and run the same command again to resume.",
        ) from error
    except NotImplementedError as error:
        raise _unsupported(error, "Correct the argument after --train.") from error
    except (MemoryError, RuntimeError) as error:
        # A plain RuntimeError of Ultralytics, which only its text tells apart.
        if "froze the entire model" in str(error):
            raise _unsupported(error, "Freeze fewer layers.") from error
        if is_worker_lost(error):
            raise worker_lost(error) from error
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(trainer.batch_size, trainer.args.imgsz, trainer.device) from error


def _unsupported(error: Exception, remedy: str) -> SlimError:
    """Make the error for arguments that Ultralytics takes and then can't train with."""
    return SlimError(f"Ultralytics can't train with these arguments: {error}", remedy=remedy)
