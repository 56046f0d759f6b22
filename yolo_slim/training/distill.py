"""Distillation from the outputs of the unpruned network.

A pruned network has the teacher's anchors, classes and box bins, so its raw head outputs can be compared one to one.
(Ultralytics' own ``distill_model`` compares neck features through trained projectors instead.) The terms:

- classes of a detector: binary cross-entropy against the teacher's class probabilities
- boxes with DFL: Kullback-Leibler divergence of the bin distributions (Zheng et al. 2022, Localization Distillation)
- boxes without bins: absolute difference of the four distances in grid units
- a classifier: Kullback-Leibler divergence of the class distributions (Hinton et al. 2015, at temperature 1)

The teacher's confidence weights the terms of boxes. Heads for segmentation, pose and rotated boxes have classes and
boxes too. Their mask coefficients, prototypes, keypoints and angles are not distilled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from yolo_slim.training.precision import as_float32

Raw = dict[str, torch.Tensor]
"""A head's raw outputs: ``boxes`` (N, 4 * reg_max, anchors), ``scores`` (N, classes, anchors) before the sigmoid."""
Batch = Mapping[str, Any]
"""An Ultralytics training batch; ``img`` (N, 3, H, W)."""


def heads(preds: Any) -> dict[str, Raw]:
    """The raw outputs of every head in a model's training or inference output, by head name."""
    # In inference mode Ultralytics returns decoded boxes first, and the raw outputs beside them.
    raw = preds[1] if isinstance(preds, tuple) else preds
    return {name: raw[name] for name in ("one2many", "one2one")} if "one2many" in raw else {"one2many": raw}


def class_loss(student: Raw, teacher: Raw) -> torch.Tensor:
    """Binary cross-entropy against the teacher's probabilities, per unit of teacher probability; 0 means agreement."""
    wanted = teacher["scores"].sigmoid()
    # Not the mean: nearly all anchors are background, and their tiny terms would drown the objects'.
    mass = wanted.sum().clamp(min=1.0)
    cross = functional.binary_cross_entropy_with_logits(student["scores"], wanted, reduction="sum")
    entropy = functional.binary_cross_entropy_with_logits(teacher["scores"], wanted, reduction="sum")
    # The cross-entropy of the teacher with itself is its entropy, which no student can get below.
    return (cross - entropy) / mass


def box_loss(student: Raw, teacher: Raw, reg_max: int) -> torch.Tensor:
    """Difference of the box outputs, averaged over four sides, weighted by the teacher's confidence."""
    weight = teacher["scores"].sigmoid().amax(dim=1)
    mass = weight.sum().clamp(min=1.0)
    if reg_max > 1:
        shape = (len(weight), 4, reg_max, -1)
        ours = student["boxes"].view(shape).log_softmax(dim=2)
        theirs = teacher["boxes"].view(shape).log_softmax(dim=2)
        # Kullback-Leibler divergence per side, over the bins of its distance.
        difference = (theirs.exp() * (theirs - ours)).sum(dim=2)
    else:
        difference = (student["boxes"] - teacher["boxes"]).abs()
    return (difference.mean(dim=1) * weight).sum() / mass


class _WithTeacher:
    """A model's own criterion and a frozen teacher.

    It replaces ``model.criterion``, so the model stays a stock Ultralytics model and so do its checkpoints.
    """

    def __init__(self, criterion: Any, teacher: nn.Module, weight: float) -> None:
        self.criterion = criterion
        self.teacher = teacher.eval().requires_grad_(False)
        self.weight = weight

    def __getattr__(self, name: str) -> Any:
        """Look up in the wrapped criterion, whose ``update`` the trainer calls after each epoch where it exists."""
        # copy and pickle ask before there is a criterion, and expect AttributeError.
        if name == "criterion":
            raise AttributeError(name)
        return getattr(self.criterion, name)


class DistillationLoss(_WithTeacher):
    """A detection criterion, or that of segmentation, pose or rotated boxes, plus the distance to the teacher."""

    def __call__(self, preds: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The losses, shape (terms + 1,), times the batch size, and the criterion's own items."""
        losses, items = self.criterion(preds, batch)
        with torch.no_grad():
            wanted = heads(as_float32(self.teacher(batch["img"])))
        ours, reg_max = heads(as_float32(preds)), int(self.teacher.model[-1].reg_max)  # type: ignore[index, union-attr]
        # The criterion of a model with two heads has one criterion for each.
        gains = getattr(self.criterion, "hyp", None) or self.criterion.one2one.hyp
        terms = [
            gains.cls * class_loss(ours[name], wanted[name]) + gains.dfl * box_loss(ours[name], wanted[name], reg_max)
            for name in ours
        ]
        # Times the batch size, as Ultralytics multiplies its own terms.
        distance = torch.stack(terms).mean() * self.weight * len(batch["img"])
        return torch.cat([losses, distance[None].to(losses.dtype)]), items


class ClassDistillationLoss(_WithTeacher):
    """A classifier's own criterion plus the divergence from the teacher's class distribution."""

    def __call__(self, preds: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean loss over the images and the criterion's own items."""
        loss, items = self.criterion(preds, batch)
        with torch.no_grad():
            wanted = as_float32(self.teacher(batch["img"]))[1].log_softmax(dim=1)
        ours = as_float32(preds[1] if isinstance(preds, (list, tuple)) else preds).log_softmax(dim=1)
        distance = functional.kl_div(ours, wanted, reduction="batchmean", log_target=True)
        return loss + self.weight * distance.to(loss.dtype), items


def distilled(criterion: Any, teacher: nn.Module, weight: float) -> DistillationLoss | ClassDistillationLoss:
    """Let a task's criterion learn from a teacher beside the labels."""
    # Only heads that find boxes have bins; a classifier's outputs are probabilities.
    kind = DistillationLoss if hasattr(teacher.model[-1], "reg_max") else ClassDistillationLoss  # type: ignore[index]
    return kind(criterion, teacher, weight)
