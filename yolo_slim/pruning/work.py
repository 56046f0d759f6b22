"""Prune one checkpoint: what cutting by scores and cutting by a plan share, from the first measure to the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import Size, conv_widths, exported_layers, measure
from yolo_slim.progress import Progress
from yolo_slim.pruning.budget import OnnxBytes, make_goal, require_goal, require_size
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.importance import require_images
from yolo_slim.pruning.latency_budget import LatencyGoal
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.pruning.plan import PrunePlan
from yolo_slim.pruning.pruner import Pruner, Task
from yolo_slim.pruning.surgery import apply_plan

Load = Callable[[list[Path], int], Iterable[dict[str, torch.Tensor]]]
"""From images and a batch size to training batches of the model's task."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is pruned, and how."""

    loaded: checkpoint.Checkpoint
    config: PruneConfig
    settings: dict[str, Any]
    """What the plan records: the config with ``imgsz``, ``seed`` and ``end2end``."""
    images: list[Path]
    """Training images."""
    load: Load
    onnx_bytes: OnnxBytes


@dataclass(frozen=True, kw_only=True)
class PruneWork:
    """A checkpoint in the middle of its pruning."""

    source: Source
    files: PruneOutputs
    before: Size
    widths: dict[str, int]
    goal: Goal
    progress: Progress
    latency: LatencyGoal | None = None
    """What a budget in milliseconds is about."""

    @classmethod
    def of(cls, source: Source, files: PruneOutputs, progress: Progress, *, by_plan: bool = False) -> PruneWork:
        """Measure the unpruned network and its budget; a plan needs images for the statistics alone."""
        model, settings = source.loaded.model, source.settings
        require_images(None if by_plan else source.config.criterion, len(source.images))
        before = measure(model, settings["imgsz"], end2end=settings["end2end"])
        return cls(
            source=source,
            files=files,
            before=before,
            widths=conv_widths(model),
            goal=make_goal(source.config, before, source.loaded.path, source.onnx_bytes),
            progress=progress,
        )

    def pruner(self, model_sha256: str) -> Pruner:
        """Make the pruner of a network: the checkpoint's, or what sparse training made of it."""
        source, settings = self.source, self.source.settings
        task = Task(
            config=source.config, model_sha256=model_sha256, source_sha256=source.loaded.sha256, settings=settings,
            before=self.before, goal=self.goal, latency=self.latency, images=source.images, imgsz=settings["imgsz"],
            seed=settings["seed"], end2end=settings["end2end"], load=source.load,
        )  # fmt: skip
        return Pruner(task=task, progress=self.progress)

    def with_latency(self, latency: LatencyGoal, graph: ChannelGraph) -> PruneWork:
        """The same work towards milliseconds."""
        settings = self.source.settings
        model = self.source.loaded.model
        exported = exported_layers(model, end2end=settings["end2end"])
        terms = make_terms(model, graph, self.source.config, exported, {})
        return replace(self, latency=latency, goal=latency.goal(graph, decide_unscored(graph, terms)))

    def begun(self) -> tuple[Pruner, ChannelGraph]:
        """Trace the network and refuse a budget that it can't reach, before any work."""
        model = self.source.loaded.model
        graph = trace_channels(model, self.source.settings["imgsz"])
        pruner = self.pruner(self.source.loaded.sha256)
        pruner.begin(model, graph)
        pruner.require_reachable(model, graph)
        for block, why in graph.blocks_kept().items():
            self.progress.say(f"prune: {block} keeps channels: {why}")
        return pruner, graph

    def size_of(self, model: nn.Module) -> Size:
        """Measure a network as the budget counts."""
        return measure(model, self.source.settings["imgsz"], end2end=self.source.settings["end2end"])

    def write_plan(self, plan: PrunePlan, model: nn.Module) -> None:
        """Write the plan and the widths of a network that was cut by it, without its weights."""
        require_goal(self.goal, self.before, self.size_of(model))
        plan.save(self.files.plan)
        write_json(self.files.widths, self.width_table(model))

    def finish(
        self, pruner: Pruner, model: nn.Module, plan: PrunePlan, *, has_budget: bool = True
    ) -> tuple[Size, list[Path]]:
        """Re-estimate the statistics, check the result against the budget where it has one, and write everything."""
        source, files = self.source, self.files
        pruner.restat(model, last=True)
        after = self.size_of(model)
        if has_budget:
            require_goal(self.goal, self.before, after)
        plan.save(files.plan)
        checkpoint.save(files.weights, source.loaded, model, imgsz=source.settings["imgsz"])
        if has_budget:
            require_size(source.config, files.weights, source.onnx_bytes)
        write_json(files.widths, self.width_table(model))
        before = self.before
        self.progress.say(
            f"prune: {before.macs / 1e9:.2f} -> {after.macs / 1e9:.2f} GMACs "
            f"({1 - after.macs / before.macs:.0%} removed), "
            f"{before.params / 1e6:.2f} -> {after.params / 1e6:.2f} M parameters"
        )
        return after, [files.weights, files.plan, files.widths]

    def width_table(self, model: nn.Module) -> dict[str, object]:
        """Make the JSON value of ``widths.json``."""
        after = conv_widths(model)
        layers = [{"layer": name, "before": width, "after": after[name]} for name, width in self.widths.items()]
        return {"control": self.before.to_json(), "slim": self.size_of(model).to_json(), "layers": layers}


def apply_to(work: PruneWork, plan: PrunePlan) -> nn.Module:
    """Cut the network by a plan; an edited one has no budget to keep."""
    model = work.source.loaded.model
    apply_plan(model, plan)
    if not plan.edited:
        require_goal(work.goal, work.before, work.size_of(model))
    return model


def require_same_plan(files: PruneOutputs, plan: PrunePlan, *, is_pruned: bool) -> None:
    """Refuse to write a plan beside a network that was pruned by another one.

    Raises:
        SlimError: the folder contains such a network, which would no longer say how it was made.
    """
    if is_pruned and files.plan.is_file() and PrunePlan.load(files.plan) != plan:
        raise SlimError(
            f"{files.plan.parent} contains a network that was pruned by another plan.",
            remedy="Choose another folder (--out).",
        )


def load_prunable(path: Path, imgsz: int) -> checkpoint.Checkpoint:
    """Load a checkpoint that can be pruned at an input side."""
    loaded = checkpoint.load(path, checkpoint.TASKS)
    checkpoint.require_float(loaded)
    checkpoint.require_imgsz(loaded, imgsz)
    return loaded
