"""Check the inputs of a run or of one stage, all at once and before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from yolo_slim.config import targets
from yolo_slim.config.run import RunConfig
from yolo_slim.devices.connect import require_address
from yolo_slim.export.builds import precisions_needed
from yolo_slim.measuring.images import choose_split
from yolo_slim.preparation import Run, resolved
from yolo_slim.stages import emulate
from yolo_slim.stages.context import Context
from yolo_slim.workspace.up_to_date import NotUpToDate

if TYPE_CHECKING:
    from yolo_slim.models.checkpoint import Checkpoint

Answer = TypeVar("Answer")
DETECTION = ("detect",)
"""Tasks that the whole chain handles; pruning, recovery and export handle all of Ultralytics'."""


@dataclass
class _Recorder:
    """A listener that keeps the facts until it is clear whether they are all there is to say."""

    facts: list[str] = field(default_factory=list)

    def step(self, text: str, done: int, total: int) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Keep a fact."""
        self.facts.append(text)


def check_then_make(context: Context, call: Callable[[Context], Answer], check: Callable[[], None]) -> Answer:
    """Answer from what is up to date, without loading a network; otherwise check the inputs and make the rest.

    Args:
        context: of the call.
        call: runs one stage or all of them.
        check: refuses bad inputs, before anything is made.
    """
    recorder = _Recorder()
    try:
        answer = call(replace(context, only_check=True, progress=recorder))
    except NotUpToDate:
        check()
        return call(context)
    for fact in recorder.facts:
        context.progress.say(fact)
    return answer


def require_good_settings(config: RunConfig) -> None:
    """Check all of a run that needs no data: target, device, model, stride, training arguments.

    Raises:
        SlimError: anything wrong with them.
    """
    profile = targets.load(config.target)
    resolved(config, profile, in_ms=config.prune.frame_ms is not None)
    emulate.require_ready(config.emulate, profile)
    require_address(config.device)
    _good_model(config, DETECTION)


def require_good_inputs(this: Run, tasks: Sequence[str] = DETECTION) -> None:
    """Check every input at once: model, stride, training arguments, data set.

    Args:
        this: the run.
        tasks: Ultralytics' tasks that the caller's stages handle.

    Raises:
        SlimError: anything wrong with the inputs.
    """
    from yolo_slim.datasets.check import check_dataset

    config, context = this.config, this.context
    loaded = _good_model(config, tasks)
    check_dataset(
        context.dataset,
        model_names=loaded.names,
        task=loaded.task,
        progress=context.progress,
    )
    choose_split(context.dataset, config.validate_)


def _good_model(config: RunConfig, tasks: Sequence[str]) -> Checkpoint:
    """The model, once it and what the settings ask of it are fine."""
    from yolo_slim.models import checkpoint
    from yolo_slim.models.activation import require_exchangeable
    from yolo_slim.training.arguments import check_overrides, check_teacher, require_device

    loaded = checkpoint.load(Path(config.model), tasks)
    checkpoint.require_float(loaded)
    checkpoint.require_imgsz(loaded, config.imgsz)
    checkpoint.require_end2end(loaded, asked=config.export.end2end)
    check_overrides(config.recover.overrides)
    require_device(config.recover.device)
    check_teacher(config.recover, loaded)
    require_exchangeable(loaded.model, config.recover.activation)
    return loaded


def require_calibration(this: Run) -> None:
    """Refuse data that int8 can't be calibrated on: better now than after hours of training."""
    from yolo_slim.quantization import calibration

    if "int8" in precisions_needed(this.context.profile):
        config, wanted = this.config, this.config.quantize
        calibration.choose(
            this.context.dataset, count=wanted.images, check=wanted.check_images, imgsz=config.imgsz, seed=config.seed
        )
