"""The channels of a network, ranked by the criterion on training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from yolo_slim.pruning.decisions import Terms, decide
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.importance import score, with_criterion
from yolo_slim.pruning.magnitude import Scores, normalized
from yolo_slim.pruning.slots import Slot
from yolo_slim.pruning.task import Task
from yolo_slim.training.batches import choose
from yolo_slim.training.guards import memory_for

SCORING_GMACS = 210.0
"""Forward passes that scoring may cost in all steps, in 10^9 MACs: about ten seconds on two cores."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A network whose channels have scores."""

    graph: ChannelGraph
    scores: Scores
    """Of every label, shape (labels,)."""
    terms: Terms
    slots: list[Slot]


def rank(task: Task, model: nn.Module, graph: ChannelGraph, terms: Terms, index: int) -> Ranked:
    """Score a network's channels on the images of step ``index``."""
    scores = normalized(graph, _score(task, model, graph, index), task.config.normalize)
    return Ranked(graph=graph, scores=scores, terms=terms, slots=decide(graph, scores, terms))


def _score(task: Task, model: nn.Module, graph: ChannelGraph, index: int) -> Scores:
    count = images_per_step(task)
    # Gradients of 8 images of 320 pixels fit into the memory of a small machine.
    batch = max(1, min(8, 8 * 320**2 // task.imgsz**2))
    with with_criterion(model, end2end=task.end2end), memory_for("channels were scored", batch, task.imgsz):
        # Each step has images of its own, so that none decides twice.
        chosen = choose(task.images, count * (index + 1), task.seed)[-count:]
        return score(model, graph, task.config.criterion, lambda: task.load(chosen, batch), task.seed + index)


def images_per_step(task: Task) -> int:
    """How many images one step is scored on."""
    affordable = SCORING_GMACS / task.config.steps / (task.before.macs / 1e9)
    return task.config.images or int(np.clip(affordable, 8, 64))
