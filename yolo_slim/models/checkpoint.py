"""Read and write Ultralytics checkpoints; what can't be pruned is refused when it is read.

One process unpickles each file once, however often it is loaded.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import io
import math
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import CHECK_PATH, SlimError, os_errors_explained
from yolo_slim.files import write_atomic
from yolo_slim.models.soundness import modernise, require_sound
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.system_libraries import extra_line

# What YOLO() and its exporter read; the rest, with its paths, describes a training that isn't this one.
KEPT_TRAIN_ARGS = ("imgsz", "task", "model", "data")
MODELS = {
    "detect": ("DetectionModel", ("Detect", "v10Detect")),
    "segment": ("SegmentationModel", ("Segment", "Segment26")),
    "pose": ("PoseModel", ("Pose", "Pose26")),
    "obb": ("OBBModel", ("OBB", "OBB26")),
    "classify": ("ClassificationModel", ("Classify",)),
}
"""Ultralytics' model class and heads of every task that can be pruned."""
TASKS = tuple(MODELS)
DETECTION = ("detect",)
MOVED_MODULES = {
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
    "ultralytics.yolo.data": "ultralytics.data",
}
MOVED_NAMES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
    "pathlib.WindowsPath": "pathlib.PosixPath",
    # Python 3.13 pickles paths under pathlib._local, a module that earlier versions don't have.
    **({"pathlib._local.WindowsPath": "pathlib.PosixPath"} if sys.version_info >= (3, 13) else {}),
}
"""Names in older checkpoints (yolov9e, yolov10, trained on Windows) and what ``YOLO()`` reads instead of them.

As in Ultralytics' ``torch_safe_load``, which itself changes paths with an apostrophe and may install packages.
"""
LEAST_STRIDE = 32
"""Ultralytics rounds input sides to multiples of this even where a classifier's stride says 1."""
MOST_CACHED = 4
"""Checkpoints that are kept in memory: a run has the model, its teacher, the pruned and the recovered one at hand."""
TRAINED_MAP50_95 = "metrics/mAP50-95(B)"
"""The box mAP in ``train_metrics``, which Ultralytics' trainer writes beside the weights of an epoch."""
NETWORKS = ("model", "ema", "optimizer")
"""Keys of a checkpoint that are large."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint."""

    path: Path
    sha256: str
    metadata: Mapping[str, Any]
    """The file's dictionary as Ultralytics wrote it, without networks and optimizer: ``train_args``, ``version``..."""
    model: nn.Module
    """The EMA weights where there are some, else the model's; float32, evaluation mode, no gradients. Its owner may
    change it: every :func:`load` makes another copy."""

    @property
    def names(self) -> dict[int, str]:
        """Class id to name."""
        return dict(self.model.names)  # type: ignore[arg-type]

    @property
    def stride(self) -> int:
        """The largest stride, pixels; input sides are multiples of it."""
        # A classifier has no levels; its stride is 1.
        stride = int(self.model.stride.max())  # type: ignore[operator]
        return max(stride, LEAST_STRIDE) if self.task == "classify" else stride

    @property
    def task(self) -> str:
        """One of :data:`TASKS`."""
        return task_of(self.model)

    @property
    def quantization(self) -> Mapping[str, object] | None:
        """Ranges of quantization-aware training (Ultralytics' ``train(quantize=8)``), None without; not in ``model``.

        Ultralytics keeps them beside the float weights, because NVIDIA ModelOpt's layers can't be pickled.
        """
        found = self.metadata.get("modelopt")
        return found if isinstance(found, Mapping) and found else None

    @property
    def trained_map50_95(self) -> float | None:
        """mAP50-95 of the boxes that the training of these very weights measured on its validation images.

        In [0, 1]; None where the file has none, as for pruned weights and for files of an older Ultralytics.
        """
        metrics = self.metadata.get("train_metrics")
        value = _number(metrics.get(TRAINED_MAP50_95)) if isinstance(metrics, Mapping) else None
        return value if value is not None and 0 <= value <= 1 else None

    @property
    def dual_head(self) -> bool:
        """Whether the model has a one-to-one head beside its one-to-many head (yolov10, yolo26)."""
        return getattr(self.model.model[-1], "one2one_cv2", None) is not None  # type: ignore[index]


def task_of(model: nn.Module) -> str:
    """A model's task, empty where its class or head is none of :data:`MODELS`."""
    layers = getattr(model, "model", None)
    head = type(layers[-1]).__name__ if isinstance(layers, nn.Sequential) else ""
    found = (task for task, (name, heads) in MODELS.items() if type(model).__name__ == name and head in heads)
    return next(found, "")


def load(path: Path, tasks: Sequence[str] = DETECTION) -> Checkpoint:
    """Read a checkpoint that can be pruned.

    Args:
        path: the ``.pt`` file.
        tasks: tasks that are accepted; building and validating accept detection alone, the other stages :data:`TASKS`.

    Raises:
        SlimError: no such file, truncated, no Ultralytics checkpoint, another task, fused, or not sound
            (:func:`~yolo_slim.models.soundness.require_sound`).
    """
    if not path.is_file():
        raise SlimError(f"Model not found: {path}", remedy=CHECK_PATH)
    digest, file = _unpickled(path)
    _require_task(path, file.model, tasks)
    _require_unfused(path, file.model)
    modernise(file.model)
    require_sound(path, file.model)
    model = copy.deepcopy(file.model).float().eval().requires_grad_(False)
    return Checkpoint(path=path, sha256=digest, metadata=copy.deepcopy(file.metadata), model=model)


def _require_unfused(path: Path, model: nn.Module) -> None:
    if model.is_fused():  # type: ignore[operator]
        raise SlimError(
            f"{path} is a fused checkpoint: its batch normalisation is folded into the convolutions.",
            remedy="Give the checkpoint as training saved it (weights/best.pt); fusing happens at export.",
            topic="the-checkpoint-is-fused",
        )


def require_float(checkpoint: Checkpoint) -> None:
    """Raise for weights of quantization-aware training: a cut or more float training would make their ranges wrong."""
    if checkpoint.quantization:
        raise SlimError(
            f"{checkpoint.path} was trained quantized (quantize=8): its ranges are right for these weights only.",
            remedy="Prune and train the float checkpoint, and quantize in the recovery: --train quantize=8.",
        )


def require_imgsz(checkpoint: Checkpoint, imgsz: int) -> None:
    """Raise unless an input side is a multiple of the network's largest stride."""
    stride = checkpoint.stride
    if imgsz % stride:
        below, above = imgsz // stride * stride, -(-imgsz // stride) * stride
        near = f"{below} or {above}" if below else f"{above}"
        raise SlimError(
            f"imgsz {imgsz} is not a multiple of the model's stride {stride}.",
            remedy=f"Give --imgsz {near} (make: IMGSZ=).",
        )


def require_end2end(checkpoint: Checkpoint, *, asked: bool) -> None:
    """Raise where an export of the one-to-one head is asked for and the network has none."""
    if asked and not checkpoint.dual_head:
        raise SlimError(
            f"{checkpoint.path} has no one-to-one head, so it can't be exported end2end.",
            remedy="Leave export.end2end off; only yolov10 and yolo26 models have that head.",
        )


def require_modelopt(fact: str) -> None:
    """Raise, with what needs it as the fact, unless NVIDIA ModelOpt is installed: Ultralytics' int8 is built on it."""
    # find_spec, because importing ModelOpt takes seconds.
    # ModelOpt imports huggingface_hub without requiring it.
    if any(importlib.util.find_spec(name) is None for name in ("modelopt", "huggingface_hub")):
        raise SlimError(
            f"{fact}, which needs NVIDIA ModelOpt.",
            remedy=f"Install it: {extra_line('qat')}",
        )


def save(
    path: Path,
    checkpoint: Checkpoint,
    model: nn.Module,
    trained: Checkpoint | None = None,
    *,
    imgsz: int | None = None,
) -> None:
    """Write a model as a plain Ultralytics checkpoint in float32, with the original's metadata.

    ``trained`` is the checkpoint that training wrote of these weights: its quantization and metrics are taken over.
    Without it the file has no metrics, because the original's are of other weights. ``imgsz`` is the input side that
    the weights were made for, and the default of ``YOLO(path)``; None: the original's. Equal arguments give equal
    bytes: neither the date nor the output's path is in them.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    # A criterion has a copy of the training's settings, and after distillation the teacher.
    model.criterion = None  # type: ignore[assignment]
    kept = ("date", "version", "license", "docs")
    train_args = {k: v for k, v in _train_args(checkpoint).items() if k in KEPT_TRAIN_ARGS}
    content = {
        **{key: checkpoint.metadata[key] for key in kept if key in checkpoint.metadata},
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": train_args if imgsz is None else {**train_args, "imgsz": imgsz},
        **(_of_training(trained) if trained else {}),
    }
    with os_errors_explained(path):
        write_atomic(path, lambda temporary: _write(content, temporary))


def _number(value: Any) -> float | None:
    """A finite number of any numeric type as a plain one, None for anything else."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _of_training(trained: Checkpoint) -> dict[str, object]:
    """What a training says of its weights: the ranges of quantization, and the metrics that are plain numbers."""
    metrics = trained.metadata.get("train_metrics")
    numbers = metrics.items() if isinstance(metrics, Mapping) else ()
    kept = {key: number for key, value in numbers if (number := _number(value)) is not None}
    quantization = trained.quantization
    return {**({"train_metrics": kept} if kept else {}), **({"modelopt": quantization} if quantization else {})}


def _write(content: Mapping[str, object], path: Path) -> None:
    # By way of memory: torch names the archive after its file, which would be in the bytes, and hides a full disk.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())


def _train_args(checkpoint: Checkpoint) -> Mapping[str, object]:
    """Training arguments of the original; older Ultralytics stored them as an object."""
    args = checkpoint.metadata.get("train_args")
    return args if isinstance(args, Mapping) else getattr(args, "__dict__", {})


@dataclass(frozen=True)
class _Unpickled:
    """What a file contains; nobody but :func:`load`, which copies it, may have it."""

    model: nn.Module
    metadata: Mapping[str, Any]


_CACHE: OrderedDict[str, _Unpickled] = OrderedDict()
"""By SHA-256, the least recently used first."""


def _unpickled(path: Path) -> tuple[str, _Unpickled]:
    """A file's SHA-256 and content, from memory where a file of the same bytes was read before."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    # Of the very bytes that are unpickled: another process may replace the file at any time.
    digest = hashlib.sha256(data).hexdigest()
    if digest not in _CACHE:
        content = _unpickle(path, data)
        metadata = {key: value for key, value in content.items() if key not in NETWORKS}
        _CACHE[digest] = _Unpickled(_model_in(path, content), metadata)
    _CACHE.move_to_end(digest)
    while len(_CACHE) > MOST_CACHED:
        _CACHE.popitem(last=False)
    return digest, _CACHE[digest]


def _unreadable(path: Path, error: Exception) -> SlimError:
    return SlimError(
        f"{path} can't be read as a PyTorch checkpoint: it is truncated or of another format.",
        culprits=[str(error).splitlines()[0][:200]] if str(error) else [],
        remedy="Copy the file again, or give the .pt that Ultralytics saved.",
        topic="the-model-cant-be-read",
    )


def _unpickle(path: Path, data: bytes) -> dict[str, object]:
    prepare_ultralytics()
    from ultralytics.nn.tasks import temporary_modules

    try:
        with temporary_modules(MOVED_MODULES, MOVED_NAMES):
            # Ultralytics pickles the network itself; weights_only refuses its classes.
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise SlimError(
            f"{path} needs code that is not part of Ultralytics: {error}.",
            remedy="Give a checkpoint whose layers are Ultralytics' own.",
            topic="the-model-cant-be-read",
        ) from None
    except Exception as error:  # a damaged pickle calls anything with anything
        raise _unreadable(path, error) from None
    if not isinstance(content, dict):
        raise SlimError(f"{path} is not an Ultralytics checkpoint.", remedy="Give the .pt that Ultralytics saved.")
    return content


def _model_in(path: Path, content: Mapping[str, object]) -> nn.Module:
    """The network of a checkpoint's dictionary."""
    networks = (content.get(key) for key in ("ema", "model"))
    model: Any = next((network for network in networks if isinstance(network, nn.Module)), None)
    # A training with Ultralytics' feature distillation that was killed leaves the pair of student and teacher.
    model = getattr(model, "student_model", model)
    # Every Ultralytics model has its yaml and its layers in `model`; a torch module of another origin hasn't.
    if not isinstance(model, nn.Module) or not hasattr(model, "yaml") or not getattr(model, "model", None):
        raise SlimError(
            f"{path} is not an Ultralytics checkpoint: it contains no model (maybe only weights).",
            remedy="Give the .pt that Ultralytics saved (weights/best.pt).",
            topic="the-model-cant-be-read",
        )
    return model


def _require_task(path: Path, model: nn.Module, tasks: Sequence[str]) -> None:
    """Raise unless the model is of an accepted task, with Ultralytics' own head."""
    task = task_of(model)
    if task in tasks:
        return
    head = type(list(model.model)[-1]).__name__ if isinstance(model.model, nn.Sequential) else "unknown"
    found = f"{type(model).__name__} with a {head} head"
    if tuple(tasks) == DETECTION:
        more = f" A {task} model can be pruned, recovered and exported, one stage at a time." if task else ""
        raise SlimError(
            f"{path} is not a detection checkpoint: {found}.",
            remedy="Only detection models can be built and validated for a device (yolov5u, yolov8 to yolov10, yolo11, "
            f"yolo12, yolo26).{more}",
        )
    raise SlimError(
        f"{path} is for none of the tasks {', '.join(tasks)}: {found}.",
        remedy="Give a model with one of Ultralytics' own heads: "
        + ", ".join(head for name in tasks for head in MODELS[name][1])
        + ".",
    )
