"""Join the crafts that pruning needs: training batches to score channels with, and the export for budgets of size."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_slim.config.run import ExportConfig, PruneConfig
from yolo_slim.export.onnx import export_onnx
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import log_to
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


def exported_bytes(weights: Path, *, imgsz: int, end2end: bool) -> int:
    """Measure a checkpoint's fp32 ONNX file, exported as the export stage does."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-size-") as folder:
        out = Path(folder) / "model.onnx"
        with log_to(Path(folder) / "export.log"):
            export_onnx(weights, ExportConfig(end2end=end2end), imgsz, out)
        return out.stat().st_size
