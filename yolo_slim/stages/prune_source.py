"""Join the crafts that pruning needs: training batches to score channels with, and the export for budgets of size."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_slim.config.run import ExportConfig, PruneConfig
from yolo_slim.export.onnx import export_onnx
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import measure
from yolo_slim.models.ultralytics import log_to
from yolo_slim.pruning.block_cutter import BlockCutter
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.task import Task
from yolo_slim.pruning.work import Source
from yolo_slim.stages.context import Context
from yolo_slim.training.batches import loader


def source_of(
    loaded: checkpoint.Checkpoint,
    config: PruneConfig,
    folder: Path,
    context: Context,
    *,
    settings: Mapping[str, Any] | None = None,
) -> Source:
    """Describe what is pruned; ``settings`` are those of an existing plan."""

    def onnx_bytes(weights: Path) -> int:
        return exported_bytes(weights, imgsz=context.imgsz, end2end=context.end2end)

    return Source(
        loaded=loaded,
        config=config,
        settings=dict(settings or context.recorded(config)),
        images=context.dataset.splits.get("train", []),
        load=loader(loaded.task, context.dataset, context.imgsz, folder),
        onnx_bytes=onnx_bytes,
    )


def cutter_of(
    loaded: checkpoint.Checkpoint, config: PruneConfig, folder: Path, context: Context, *, removed: float
) -> BlockCutter:
    """Make what narrows blocks one by one, scored and re-estimated as the prune stage does.

    Raises:
        SlimError: too few training images.
    """
    task = Task(
        config=config,
        model_sha256=loaded.sha256,
        source_sha256=loaded.sha256,
        settings={},
        before=measure(loaded.model, context.imgsz, end2end=context.end2end),
        # A block that is cut alone has no budget.
        goal=Goal(removed=0.0),
        images=context.dataset.splits.get("train", []),
        imgsz=context.imgsz,
        seed=context.seed,
        end2end=context.end2end,
        load=loader(loaded.task, context.dataset, context.imgsz, folder),
    )
    return BlockCutter.of(loaded.model, task, removed=removed)


def exported_bytes(weights: Path, *, imgsz: int, end2end: bool) -> int:
    """Measure a checkpoint's fp32 ONNX file, exported as the export stage does."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-size-") as folder:
        out = Path(folder) / "model.onnx"
        with log_to(Path(folder) / "export.log"):
            export_onnx(weights, ExportConfig(end2end=end2end), imgsz, out)
        return out.stat().st_size
