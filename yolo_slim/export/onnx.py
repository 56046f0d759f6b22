"""Export a checkpoint to ONNX through Ultralytics, with equal bytes for equal weights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from yolo_slim.config.run import ExportConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import write_atomic
from yolo_slim.models import checkpoint
from yolo_slim.quantization import graph as graphs

DESCRIPTIONS = {
    "detect": "detection model",
    "segment": "segmentation model",
    "pose": "pose model",
    "obb": "model of rotated boxes",
    "classify": "classifier",
}


def export_onnx(weights: Path, config: ExportConfig, imgsz: int, out: Path) -> None:
    """Let Ultralytics export a copy in a folder of its own, and take out what depends on the day and the machine."""
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory(prefix="yolo-slim-export-") as folder:
        copied = Path(folder) / "model.pt"
        shutil.copyfile(weights, copied)
        exported = YOLO(copied).export(
            format="onnx",
            imgsz=imgsz,
            opset=config.opset,
            simplify=True,
            dynamic=False,
            batch=1,
            nms=False if config.end2end else None,
            device="cpu",
            verbose=False,
        )
        _settle_metadata(Path(exported), out)


def _settle_metadata(exported: Path, out: Path) -> None:
    """Check the graph and write it without date and paths, so that equal weights give equal bytes."""
    import onnx

    graph = onnx.load(str(exported))
    kept = {item.key: item.value for item in graph.metadata_props if item.key != "date"}
    kept["description"] = f"Ultralytics {DESCRIPTIONS.get(kept.get('task', ''), 'model')}, exported by yolo_slim"
    del graph.metadata_props[:]
    for key, value in sorted(kept.items()):
        graph.metadata_props.add(key=key, value=value)
    missing = [key for key in ("stride", "imgsz", "names", "task", "end2end", "batch") if key not in kept]
    if missing:
        raise SlimError("The exported ONNX lacks metadata.", culprits=missing, remedy="Try the pinned Ultralytics.")
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(out))


def export_all(
    loaded: checkpoint.Checkpoint, config: ExportConfig, imgsz: int, out: Path, trained_out: Path | None
) -> None:
    """Write the float graph and, of weights that were trained quantized, the graph with their Q/DQ nodes too.

    Raises:
        SlimError: Ultralytics left the Q/DQ nodes out.
    """
    import onnx

    if trained_out is None:
        write_atomic(out, lambda path: export_onnx(loaded.path, config, imgsz, path))
        return
    plain = out.with_name("float.pt.tmp")
    checkpoint.save(plain, loaded, loaded.model)
    write_atomic(out, lambda path: export_onnx(plain, config, imgsz, path))
    plain.unlink()
    _name_trained(out, trained_out)
    write_atomic(trained_out, lambda path: export_onnx(loaded.path, config, imgsz, path))
    if not graphs.is_quantized(onnx.load(str(trained_out))):
        raise SlimError(
            f"{loaded.path} was trained quantized, but its export has no Q/DQ nodes.",
            remedy="Try the versions of ultralytics and nvidia-modelopt in constraints.txt.",
        )


def _name_trained(path: Path, trained: Path) -> None:
    """Let a float graph's metadata say that its weights were trained quantized, and where their ranges are."""
    import onnx

    graph = onnx.load(str(path))
    graph.metadata_props.add(key=graphs.TRAINED_KEY, value=trained.name)
    write_atomic(path, lambda temporary: onnx.save(graph, str(temporary)))
