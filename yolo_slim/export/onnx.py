"""Export a checkpoint to ONNX through Ultralytics, with equal bytes for equal weights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from yolo_slim.config.run import ExportConfig
from yolo_slim.errors import SlimError

DESCRIPTIONS = {
    "detect": "detection model",
    "segment": "segmentation model",
    "pose": "pose model",
    "obb": "model of rotated boxes",
    "classify": "classifier",
}
"""Task to the word in the graph's metadata; Ultralytics writes the path of the training data there."""


def export_onnx(weights: Path, config: ExportConfig, imgsz: int, out: Path) -> None:
    """Export weights with Ultralytics, and remove metadata that depends on the day and the machine."""
    from ultralytics import YOLO

    # Ultralytics writes its result and its intermediate files beside the weights, which may be the user's.
    with tempfile.TemporaryDirectory(prefix="yolo-slim-export-") as folder:
        copied = Path(folder) / "model.pt"
        shutil.copyfile(weights, copied)
        exported = YOLO(copied).export(
            format="onnx",
            imgsz=imgsz,
            opset=config.opset,
            simplify=True,
            # NCNN and TensorRT build for one fixed shape.
            dynamic=False,
            batch=1,
            # Ultralytics reads False as "keep the end2end head" and None as "export the raw head".
            nms=False if config.end2end else None,
            device="cpu",
            verbose=False,
        )
        _write_without_date(Path(exported), out)


def _write_without_date(exported: Path, out: Path) -> None:
    """Check a graph and write it without date and paths, so that equal weights give equal bytes."""
    import onnx

    graph = onnx.load(str(exported))
    kept = {item.key: item.value for item in graph.metadata_props if item.key != "date"}
    kept["description"] = f"Ultralytics {DESCRIPTIONS.get(kept.get('task', ''), 'model')}, exported by yolo_slim"
    del graph.metadata_props[:]
    for key, value in sorted(kept.items()):
        graph.metadata_props.add(key=key, value=value)
    missing = [key for key in ("stride", "imgsz", "names", "task", "end2end", "batch") if key not in kept]
    if missing:
        remedy = "Try the ultralytics version of constraints.txt."
        raise SlimError("The exported ONNX lacks metadata.", culprits=missing, remedy=remedy)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(out))
