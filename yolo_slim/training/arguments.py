"""Ultralytics' training arguments for the recovery: our defaults, and the checks of the user's own."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.machine import cores
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.training.defaults import DEFAULTS, OURS
from yolo_slim.training.guards import require_teacher


def check_teacher(config: RecoverConfig, student: checkpoint.Checkpoint) -> None:
    """Raise where the settings name a teacher that can't teach a model or what is left of it."""
    if config.teacher and config.distill > 0:
        path = Path(config.teacher)
        require_teacher(student.model, checkpoint.load(path, (student.task,)).model, path)


def require_plain_path(path: Path) -> None:
    """Raise for a path with an apostrophe: Ultralytics removes it from the paths of weights that it trains."""
    if "'" in str(path.absolute()):
        raise SlimError(
            f"{path.absolute()}: Ultralytics removes the apostrophe from this path, so it can't train there.",
            remedy="Work in a folder without an apostrophe, or choose one with --project, --name or --out.",
        )


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
            "recover.device asks for mps, which this machine doesn't have.", remedy="Leave it empty, or give cpu."
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
    prepare_ultralytics()
    from ultralytics.cfg import QUANTIZE_ALIASES, get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    problems = [
        f"{key}: unknown argument.{did_you_mean(key, list(DEFAULT_CFG_DICT))}"
        for key in overrides
        if key not in DEFAULT_CFG_DICT
    ]
    problems += [
        f"{key}: {f'set recover.{key} instead' if key in RecoverConfig.model_fields else 'set by yolo_slim'}"
        for key in overrides
        if key in OURS
    ]
    if problems:
        raise SlimError(
            "Some training arguments (--train) can't be passed to Ultralytics.",
            culprits=problems,
            remedy="docs.ultralytics.com/modes/train lists the arguments, docs/configuration.md our settings.",
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


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: what it reads, where it writes, and what every training of a run shares."""

    weights: Path
    """The network to train."""
    teacher: Path
    data: Path
    """``data.yaml`` (or folder of class folders) as Ultralytics shall read it."""
    folder: Path
    """Ultralytics' own files go to ``train/`` below it."""
    imgsz: int
    """Side of the training images, pixels."""
    seed: int
    end2end: bool = False
    """The one-to-one head will be exported, so the best epoch is that head's."""


def training_arguments(training: Training, config: RecoverConfig) -> dict[str, Any]:
    """Put Ultralytics' training arguments together: our defaults, the run's own, then the user's."""
    from yolo_slim.training.precision import has_bfloat16

    gpu = torch.cuda.is_available() and config.device not in ("cpu", "mps")
    # Ultralytics lets float16 be tried by a network that it downloads; bfloat16 needs no trial.
    # By default torch also counts bfloat16 that a GPU only emulates.
    amp: bool | str = "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else gpu
    given = {
        "model": str(training.weights.absolute()),
        "data": str(training.data),
        "imgsz": training.imgsz,
        "epochs": config.epochs,
        "batch": config.batch,
        # Ultralytics accumulates gradients up to nbs images (64 by default); equal to the batch, every batch is a step.
        "nbs": config.batch,
        "patience": config.patience,
        "device": config.device or (None if gpu else "cpu"),
        "seed": training.seed,
        "amp": amp or has_bfloat16(),
        "close_mosaic": max(1, config.epochs * 3 // 10),
        "workers": min(8, cores()),
        "project": str(training.folder.absolute()),
        "name": "train",
        # Otherwise a second start would train in train-2/, where nothing looks for last.pt.
        "exist_ok": True,
    }
    if training.end2end:
        # While it trains, Ultralytics validates the one-to-one head only if nms is False.
        given["nms"] = False
    if config.distill > 0:
        given |= {"distill_model": str(training.teacher.absolute()), "dis": config.distill}
    arguments = {**DEFAULTS, **given, **config.overrides}
    if not gpu and (config.distill_on == "features" or arguments.get("quantize")):
        # Their losses are computed inside the network, or by quantizers, out of our criterion's reach.
        arguments["amp"] = False
    return arguments
