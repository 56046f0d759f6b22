"""weights.pt -> model.onnx: one graph for every runtime, proven equal to PyTorch on real images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.export.graphs import FLOAT_FILE, QAT_FILE, export_graphs
from yolo_slim.export.parity import measure_parity
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import log_to
from yolo_slim.progress import Progress, Silent
from yolo_slim.workspace.job import Job


@dataclass(frozen=True, kw_only=True)
class ExportInputs:
    """What the stage reads."""

    weights: Path
    """Unfused checkpoint."""
    data: Path
    """Data set whose validation images the parity is measured on."""


@dataclass(frozen=True, kw_only=True)
class ExportOutputs:
    """What the stage wrote."""

    onnx: Path
    """``model.onnx``, float."""
    trained_int8: Path | None = None
    """``model-qat.onnx`` with the Q/DQ nodes of quantization-aware training, where the weights come from one."""


def run(
    inputs: ExportInputs,
    config: ExportConfig,
    out_dir: Path,
    *,
    imgsz: int,
    data_digest: str = "",
    progress: Progress | None = None,
) -> ExportOutputs:
    """Export a checkpoint to ONNX: batch 1, fixed shape, simplified, checked, with Ultralytics' metadata.

    Raises:
        SlimError: end2end asked of a model without a one-to-one head, or outputs that differ from PyTorch's.
    """
    progress = progress or Silent()
    loaded = checkpoint.load(inputs.weights, checkpoint.TASKS)
    checkpoint.require_imgsz(loaded, imgsz)
    checkpoint.require_end2end(loaded, asked=config.end2end)
    job = Job(
        stage="export",
        folder=out_dir,
        config={**config.model_dump(), "imgsz": imgsz},
        inputs={"weights": loaded.sha256, "data": data_digest},
    )
    outputs = ExportOutputs(onnx=out_dir / FLOAT_FILE, trained_int8=out_dir / QAT_FILE if loaded.quantization else None)
    if job.is_done():
        progress.say("export: done before, kept")
        return outputs
    if loaded.quantization:
        checkpoint.require_modelopt(f"{inputs.weights} was trained quantized")
    job.begin()
    progress.step(f"export: {inputs.weights.name}", 0, 2)
    with log_to(out_dir / "export.log"):
        export_graphs(loaded, config, imgsz, outputs.onnx, outputs.trained_int8)
    progress.step(f"export: {inputs.weights.name}", 1, 2)
    dataset = load_dataset(inputs.data)
    images = dataset.comparison_images(config.parity_images)
    parity = measure_parity(loaded, outputs.onnx, images, imgsz=imgsz, end2end=config.end2end)
    progress.step(f"export: {inputs.weights.name}", 2, 2)
    job.finish([path for path in (outputs.onnx, outputs.trained_int8) if path], {"parity": parity.to_json()})
    progress.say(
        f"export: {inputs.weights.name} -> ONNX; on {parity.images} images boxes within "
        f"{parity.max_box_px:.3g} px and scores within {parity.max_score:.1g} of PyTorch"
    )
    return outputs
