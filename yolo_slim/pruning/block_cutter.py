"""The networks that block costs are measured on: the unpruned one, and for every block one that is narrowed there."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from yolo_slim.models.macs import Size, measure
from yolo_slim.models.ultralytics import use_all_cores
from yolo_slim.progress import Silent
from yolo_slim.pruning.blockwise import Block, blocks_of, cut_alone, kept_in
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.importance import require_images
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.pruning.scoring import Ranked
from yolo_slim.pruning.task import Task


@dataclass(frozen=True, kw_only=True)
class CutNetwork:
    """A network in which one block alone is narrowed, its statistics re-estimated."""

    model: nn.Module
    macs_saved: float
    """Fraction of the unpruned network's MACs that went."""
    params_saved: float
    """Fraction of its parameters that went."""
    channels: int
    """Channels of the block's layers that could give some up."""
    channels_kept: int
    """Those of them that stayed."""
    layers: tuple[str, ...]
    """The layers that stand for the block's decisions."""


@dataclass(frozen=True, kw_only=True)
class BlockCutter:
    """Narrows blocks of one network, each in a copy."""

    model: nn.Module
    """The unpruned network; it isn't changed."""
    pruner: Pruner
    """Begun with it."""
    removed: float
    """Fraction of its channels that a block loses."""

    @classmethod
    def of(cls, model: nn.Module, task: Task, *, removed: float) -> BlockCutter:
        """Trace a network.

        Raises:
            SlimError: too few training images to score channels.
        """
        require_images(task.config.criterion, len(task.images))
        pruner = Pruner(task=task, progress=Silent())
        pruner.begin(model, trace_channels(model, task.imgsz))
        return cls(model=model, pruner=pruner, removed=removed)

    @property
    def criterion(self) -> str:
        """How channels are scored."""
        return self.pruner.task.config.criterion

    @property
    def size(self) -> Size:
        """Of the unpruned network."""
        return self.pruner.task.before

    @cached_property
    def ranked(self) -> Ranked:
        """The channels' scores, computed once."""
        return self.pruner.rank(self.model, 0)

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks that can give channels up, in the network's order."""
        return blocks_of(self.ranked)

    def restated(self) -> nn.Module:
        """Copy the unpruned network and re-estimate its statistics, as every cut network's are."""
        model = copy.deepcopy(self.model)
        self._restat(model)
        return model

    def cut(self, block: Block) -> CutNetwork:
        """Narrow one block."""
        ranked, task = self.ranked, self.pruner.task
        keep = kept_in(ranked, block, self.removed)
        model = cut_alone(self.model, ranked, keep)
        self._restat(model)
        slots = [(ranked.slots[i], int(keep[i])) for i in block.slots]
        after = measure(model, task.imgsz, end2end=task.end2end)
        return CutNetwork(
            model=model,
            macs_saved=1 - after.macs / self.size.macs,
            params_saved=1 - after.params / self.size.params,
            channels=sum(slot.width * slot.unit for slot, _ in slots),
            channels_kept=sum(kept * slot.unit for slot, kept in slots),
            layers=tuple(slot.name for slot, _ in slots),
        )

    def _restat(self, model: nn.Module) -> None:
        # The export of the network before leaves PyTorch with another number of threads.
        use_all_cores()
        self.pruner.restat(model, last=True)
