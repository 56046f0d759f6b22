"""Trainings inside the prune stage: they save float32 weights, and can pull batch-norm scales to zero.

Ultralytics writes checkpoints in float16, which would round the weights again between any two steps.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

from yolo_slim.files import write_atomic
from yolo_slim.training.trainer import trainer_of

KEPT_FLOAT32 = "kept-float32.pt"
"""Beside Ultralytics' ``best.pt``: the state of the epoch with the best score; under a penalty, of the last epoch."""


class Phase:
    """What such a training does more; the first base class beside a trainer that keeps widths."""

    accumulate: int
    l1 = 0.0
    """Weight of the sum of |gamma| in the loss of one image."""
    args: Any
    best: Any
    ema: Any
    fitness: Any
    best_fitness: Any
    model: Any
    scaler: Any

    def optimizer_step(self) -> None:
        """Add the penalty's subgradient (Liu et al. 2017, Network Slimming), then step as Ultralytics does."""
        if self.l1:
            # Ultralytics' loss is summed over the batch (a classifier's is its mean) and the batches of a step, and
            # scaled in float16.
            images = (1 if self.args.task == "classify" else self.args.batch) * self.accumulate
            add_l1_gradient(unwrap_model(self.model), self.l1 * images * self.scaler.get_scale())
        super().optimizer_step()  # type: ignore[misc]

    def save_model(self) -> bool:
        """Save the float32 state, and then the checkpoints: a kill in between only repeats the epoch."""
        # Under a penalty the first epochs score best, because it has pulled the scales least by then.
        # Without one, the kept epoch is the one that Ultralytics writes to best.pt.
        if self.l1 or self.best_fitness == self.fitness:
            # Ultralytics' feature distillation trains a pair of student and teacher.
            network = getattr(self.ema.ema, "student_model", self.ema.ema)
            state = {key: value.detach().float().cpu() if value.is_floating_point() else value.cpu()
                     for key, value in network.state_dict().items()}  # fmt: skip
            write_atomic(Path(self.best).with_name(KEPT_FLOAT32), lambda path: _save(state, path))
        return bool(super().save_model())  # type: ignore[misc]


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path)
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def add_l1_gradient(model: nn.Module, strength: float) -> None:
    """Add ``strength`` * sign(gamma) to the gradient of every batch normalisation's scale.

    What torch-pruning's ``BNScalePruner.regularize`` does; that class traces the network first, which fails on stock
    YOLO blocks.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine and module.weight.grad is not None:
            module.weight.grad.add_(module.weight.detach().sign(), alpha=strength)


def phase_trainer(task: str, l1: float, distill_on: str) -> Any:
    """The trainer class of a task for one phase."""
    # By an attribute of the class: Ultralytics refuses arguments that it doesn't know.
    return type("PhaseTrainer", (Phase, trainer_of(task, distill_on)), {"l1": l1})
