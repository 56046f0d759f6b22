"""weights.pt -> model.onnx: one graph for every runtime, proven equal to PyTorch on real images."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim import checkpoint, ultra
from yolo_slim.config import ExportConfig
from yolo_slim.data import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.evaluation.predict import onnx_outputs, torch_outputs
from yolo_slim.files import write_atomic
from yolo_slim.manifest import Job
from yolo_slim.progress import Progress, Silent
from yolo_slim.quantization import graph as graphs
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image

MAX_BOX_PX = 0.1
"""Largest difference of a box coordinate between ONNX Runtime and PyTorch, pixels of the input."""
MAX_SCORE = 0.001
"""Largest difference of a score."""
MAX_REST = 0.005
"""Largest difference of mask coefficients, prototypes, keypoints and angles, as a share of their largest value."""

DESCRIPTIONS = {
    "detect": "detection model",
    "segment": "segmentation model",
    "pose": "pose model",
    "obb": "model of rotated boxes",
    "classify": "classifier",
}


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
    outputs = ExportOutputs(
        onnx=out_dir / "model.onnx", trained_int8=out_dir / "model-qat.onnx" if loaded.quantization else None
    )
    if job.is_done():
        progress.say("export: done before, kept")
        return outputs
    if loaded.quantization:
        checkpoint.require_modelopt(f"{inputs.weights} was trained quantized")
    job.begin()
    progress.step(f"export: {inputs.weights.name}", 0, 2)
    with ultra.log_to(out_dir / "export.log"):
        _export_all(loaded, config, imgsz, outputs)
    progress.step(f"export: {inputs.weights.name}", 1, 2)
    dataset = load_dataset(inputs.data)
    images = (dataset.splits.get("val") or dataset.splits.get("train") or [])[: config.parity_images]
    parity = measure_parity(loaded, outputs.onnx, images, imgsz=imgsz, end2end=config.end2end)
    progress.step(f"export: {inputs.weights.name}", 2, 2)
    job.finish([path for path in (outputs.onnx, outputs.trained_int8) if path], {"parity": parity})
    progress.say(
        f"export: {inputs.weights.name} -> ONNX; on {parity['images']} images boxes within "
        f"{parity['max_box_px']:.3g} px and scores within {parity['max_score']:.1g} of PyTorch"
    )
    return outputs


def _export_all(loaded: checkpoint.Checkpoint, config: ExportConfig, imgsz: int, outputs: ExportOutputs) -> None:
    """Write the float graph and, of weights that were trained quantized, the graph with their Q/DQ nodes too.

    Raises:
        SlimError: Ultralytics left the Q/DQ nodes out.
    """
    import onnx

    if outputs.trained_int8 is None:
        write_atomic(outputs.onnx, lambda path: export_onnx(loaded.path, config, imgsz, path))
        return
    plain = outputs.onnx.with_name("float.pt.tmp")
    checkpoint.save(plain, loaded, loaded.model)
    write_atomic(outputs.onnx, lambda path: export_onnx(plain, config, imgsz, path))
    plain.unlink()
    _name_trained(outputs.onnx, outputs.trained_int8)
    write_atomic(outputs.trained_int8, lambda path: export_onnx(loaded.path, config, imgsz, path))
    if not graphs.is_quantized(onnx.load(str(outputs.trained_int8))):
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


def measure_parity(
    loaded: checkpoint.Checkpoint, onnx: Path, images: list[Path], *, imgsz: int, end2end: bool
) -> dict[str, Any]:
    """Return the largest differences of ONNX Runtime and PyTorch on real images.

    End2end outputs are compared row by row where both scores exceed .05: below, equal scores may swap rows.

    Raises:
        SlimError: no images; or a difference above :data:`MAX_BOX_PX`, :data:`MAX_SCORE` or, of what other tasks add,
            :data:`MAX_REST`.
    """
    if not images:
        raise SlimError(
            "There are no images to compare the ONNX graph with PyTorch on.",
            remedy="Give a data set with validation or training images.",
        )
    ours, theirs = onnx_outputs(onnx), torch_outputs(loaded.model, end2end=end2end)
    letterbox = Letterbox((imgsz, imgsz))
    worst = np.zeros(3)
    for path in images:
        blob = letterbox(read_image(path, convert_channels=True))[0].copy()
        got, wanted = ours(blob), theirs(blob)
        shapes = [output.shape for output in got], [output.shape for output in wanted]
        if shapes[0] != shapes[1]:
            raise SlimError(f"The ONNX outputs have the shapes {shapes[0]}, PyTorch's {shapes[1]}.")
        worst = np.maximum(worst, _all_differences(got, wanted, loaded, imgsz=imgsz, end2end=end2end))
    return _judged(worst, len(images), loaded.task)


def _judged(worst: np.ndarray, images: int, task: str) -> dict[str, Any]:
    """Return the parity as a JSON value; raise where a difference is too large."""
    box_px, score, rest = worst.tolist()
    parity = {
        "images": images,
        "max_box_px": box_px,
        "max_score": score,
        "box_tolerance_px": MAX_BOX_PX,
        "score_tolerance": MAX_SCORE,
    }
    if task not in ("detect", "classify"):
        parity |= {"max_rest": rest, "rest_tolerance": MAX_REST}
    if box_px > MAX_BOX_PX or score > MAX_SCORE or rest > MAX_REST:
        raise SlimError(
            "The ONNX graph and the PyTorch model disagree.",
            culprits=[
                f"boxes by {box_px:.3g} px (tolerance {MAX_BOX_PX})",
                f"scores by {score:.3g} ({MAX_SCORE})",
                f"masks, keypoints or angles by {rest:.3g} of their largest value ({MAX_REST})",
            ],
            remedy="Try another export.opset, and report the model if it stays.",
        )
    return parity


def _all_differences(
    got: list[np.ndarray], wanted: list[np.ndarray], loaded: checkpoint.Checkpoint, *, imgsz: int, end2end: bool
) -> np.ndarray:
    """Return the largest differences of boxes (px), scores and the rest (share), shape (3,)."""
    if loaded.task == "classify":
        return np.array([0.0, np.abs(got[0] - wanted[0]).max(), 0.0])
    boxes, scores, rest = _differences(got[0][0], wanted[0][0], classes=len(loaded.names), imgsz=imgsz, end2end=end2end)
    others = [_share(ours, theirs) for ours, theirs in zip(got[1:], wanted[1:], strict=True)]
    return np.array([boxes, scores, max([rest, *others])])


def _differences(
    got: np.ndarray, wanted: np.ndarray, *, classes: int, imgsz: int, end2end: bool
) -> tuple[float, float, float]:
    """Return the largest difference of a box, where anything scores above .05, of a score and of what follows them."""
    if end2end:
        rows = (got[:, 4] > 0.05) & (wanted[:, 4] > 0.05)
        got, wanted = got[rows], wanted[rows]
        boxes, scores = _box_px(got[:, :4], wanted[:, :4], imgsz), np.abs(got[:, 4] - wanted[:, 4])
        rest = _share(got[:, 6:], wanted[:, 6:])
    else:
        last = 4 + classes
        seen = wanted[4:last].max(axis=0) > 0.05
        boxes, scores = _box_px(got[:4, seen], wanted[:4, seen], imgsz), np.abs(got[4:last] - wanted[4:last])
        rest = _share(got[last:, seen], wanted[last:, seen])
    return float(boxes.max(initial=0.0)), float(scores.max(initial=0.0)), rest


def _box_px(got: np.ndarray, wanted: np.ndarray, imgsz: int) -> np.ndarray:
    """Return the differences of coordinates in pixels; beyond the input they are scaled down to its side.

    An untrained head without bins draws boxes of 10^5 px, whose float32 steps alone exceed the tolerance.
    """
    return np.asarray(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted) / imgsz))


def _share(got: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference as a share of the largest value, 0 where there is nothing."""
    return float(np.abs(got - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), 1.0))
