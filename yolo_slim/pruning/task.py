"""What is removed from which model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.config.run import PruneConfig
from yolo_slim.models.macs import Size
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.latency_budget import LatencyGoal
from yolo_slim.pruning.plan import PlanSettings
from yolo_slim.training.batches import Batch


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is removed from which model: everything that decides the result."""

    config: PruneConfig
    model_sha256: str
    """Of the checkpoint that is pruned."""
    source_sha256: str
    """Of the user's checkpoint: the same unless it was trained sparse first."""
    settings: PlanSettings
    """What the plan records."""
    before: Size
    goal: Goal
    latency: LatencyGoal | None = None
    """What a budget in milliseconds is about."""
    images: list[Path]
    """Training images."""
    load: Callable[[list[Path], int], Iterable[Batch]]
    """From images and a batch size to the task's training batches, see :func:`yolo_slim.training.batches.loader`."""
    imgsz: int
    seed: int
    end2end: bool

    @property
    def steps(self) -> int:
        """How many steps the cut takes; random scores don't get better by scoring anew."""
        config = self.config
        return 1 if config.criterion == "random" and not config.recover_epochs_between else config.steps
