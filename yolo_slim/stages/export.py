"""weights.pt -> model.onnx: one graph for every runtime, proven equal to PyTorch on real images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.run import ExportConfig
from yolo_slim.export.graphs import FLOAT_FILE, QAT_FILE, export_graphs
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

if TYPE_CHECKING:
    from yolo_slim.models.checkpoint import Checkpoint

REVISION = 1
"""Raised when equal weights are exported otherwise."""
PACKAGES = ("torch", "ultralytics", "onnx", "onnxslim", "onnxscript", "nvidia-modelopt")
"""Packages that write the graph."""


@dataclass(frozen=True, kw_only=True)
class ExportOutputs:
    """What the stage wrote."""

    onnx: Path
    """``model.onnx``, float."""
    trained_int8: Path | None = None
    """``model-qat.onnx`` with the Q/DQ nodes of quantization-aware training, where the weights come from one."""


def run(weights: Path, config: ExportConfig, folder: Path, context: Context) -> ExportOutputs:
    """Export an unfused checkpoint to ONNX: batch 1, fixed shape, simplified, checked, with Ultralytics' metadata.

    Raises:
        SlimError: end2end asked of a model without a one-to-one head, or outputs that differ from PyTorch's.
    """
    job = Job(
        stage="export",
        folder=folder,
        settings={**config.model_dump(), "imgsz": context.imgsz},
        inputs={"weights": content(weights), "data": context.dataset.digest},
        revision=REVISION,
        packages=PACKAGES,
    )
    graph, trained = folder / FLOAT_FILE, folder / QAT_FILE

    def make(loaded: Checkpoint) -> Made:
        outputs = ExportOutputs(onnx=graph, trained_int8=trained if loaded.quantization else None)
        return _made(loaded, config, outputs, context)

    manifest = run_once(job, make, context, check=lambda: _checked(weights, config, context.imgsz))
    return ExportOutputs(onnx=graph, trained_int8=trained if trained.name in manifest.outputs else None)


def _checked(weights: Path, config: ExportConfig, imgsz: int) -> Checkpoint:
    """Load the weights and refuse what can't be exported."""
    from yolo_slim.models import checkpoint

    loaded = checkpoint.load(weights, checkpoint.TASKS)
    checkpoint.require_imgsz(loaded, imgsz)
    checkpoint.require_end2end(loaded, asked=config.end2end)
    if loaded.quantization:
        checkpoint.require_modelopt(f"{weights} was trained quantized")
    return loaded


def _made(loaded: Checkpoint, config: ExportConfig, outputs: ExportOutputs, context: Context) -> Made:
    """Export, and compare the graph with PyTorch."""
    from yolo_slim.export.parity import measure_parity
    from yolo_slim.models.ultralytics import log_to

    progress, name = context.progress, loaded.path.name
    progress.step(f"export: {name}", 0, 2)
    with log_to(outputs.onnx.with_name("export.log")):
        export_graphs(loaded, config, context.imgsz, outputs.onnx, outputs.trained_int8)
    progress.step(f"export: {name}", 1, 2)
    images = context.dataset.comparison_images(config.parity_images)
    parity = measure_parity(loaded, outputs.onnx, images, imgsz=context.imgsz, end2end=config.end2end)
    progress.step(f"export: {name}", 2, 2)
    progress.say(
        f"export: {name} -> ONNX; on {parity.images} images boxes within {parity.max_box_px:.3g} px and scores "
        f"within {parity.max_score:.1g} of PyTorch"
    )
    return Made(
        outputs=[path for path in (outputs.onnx, outputs.trained_int8) if path], facts={"parity": parity.to_json()}
    )
