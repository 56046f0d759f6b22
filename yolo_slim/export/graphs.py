"""The graphs of one checkpoint: one float graph, and the quantized one of weights that were trained quantized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.config.run import ExportConfig
from yolo_slim.errors import SlimError
from yolo_slim.export.onnx import export_onnx
from yolo_slim.files import write_atomic
from yolo_slim.quantization import graph as graphs

if TYPE_CHECKING:
    from yolo_slim.models.checkpoint import Checkpoint

FLOAT_FILE, QAT_FILE = "model.onnx", "model-qat.onnx"


def export_graphs(
    loaded: Checkpoint, config: ExportConfig, imgsz: int, float_onnx: Path, qat_onnx: Path | None
) -> None:
    """Write the float graph and, with ``qat_onnx``, the graph with the Q/DQ nodes of quantization-aware training.

    Raises:
        SlimError: Ultralytics left the Q/DQ nodes out.
    """
    if qat_onnx is None:
        write_atomic(float_onnx, lambda path: export_onnx(loaded.path, config, imgsz, path))
        return
    _export_without_ranges(loaded, config, imgsz, float_onnx)
    _name_qat_graph(float_onnx, qat_onnx)
    write_atomic(qat_onnx, lambda path: export_onnx(loaded.path, config, imgsz, path))
    _require_quantized(loaded.path, qat_onnx)


def _export_without_ranges(loaded: Checkpoint, config: ExportConfig, imgsz: int, onnx: Path) -> None:
    """Export a float graph of weights that were trained quantized."""
    from yolo_slim.models import checkpoint

    # Ultralytics exports Q/DQ nodes whenever the checkpoint has ranges; this copy has none.
    plain = onnx.with_name("float.pt.tmp")
    try:
        checkpoint.save(plain, loaded, loaded.model)
        write_atomic(onnx, lambda path: export_onnx(plain, config, imgsz, path))
    finally:
        plain.unlink(missing_ok=True)


def _name_qat_graph(float_onnx: Path, qat_onnx: Path) -> None:
    """Note in a float graph's metadata that its weights were trained quantized, and where their ranges are."""
    import onnx

    graph = onnx.load(str(float_onnx))
    graph.metadata_props.add(key=graphs.TRAINED_KEY, value=qat_onnx.name)
    write_atomic(float_onnx, lambda temporary: onnx.save(graph, str(temporary)))


def _require_quantized(weights: Path, qat_onnx: Path) -> None:
    import onnx

    if not graphs.is_quantized(onnx.load(str(qat_onnx))):
        raise SlimError(
            f"{weights} was trained quantized, but its export has no Q/DQ nodes.",
            remedy="Try the versions of ultralytics and nvidia-modelopt in constraints.txt.",
        )
