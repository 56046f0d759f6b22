"""What stops a training, as errors with a remedy: a loss that isn't finite, too little memory, a wrong teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import MachineError, SlimError

FULL = 0.9
"""Share of the memory that a batch may need: other batches can be a little larger."""
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "bad_alloc",
)
"""What torch says where memory ran out, on CUDA and on the CPU."""
WORKER_LOST = ("DataLoader worker", "unable to mmap", "insufficient shared memory")
"""What torch says where a process that loads images died, mostly for want of shared memory."""


def all_finite(values: Iterable[Any]) -> bool:
    """Whether every loss, a number or tensor of any shape, is finite; None is skipped."""
    return all(bool(torch.isfinite(torch.as_tensor(value)).all()) for value in values if value is not None)


def not_finite(what: str, epoch: int, best: Path) -> SlimError:
    """The error for a training whose loss or weights became NaN or infinite.

    Args:
        what: ``loss`` or ``network``.
        epoch: that was being trained, from 0.
        best: ``best.pt`` of the training; the message names it where it exists.
    """
    kept = f"The best epoch so far is kept: {best}." if best.is_file() else "No epoch was finished before."
    return SlimError(
        f"The {what} became NaN or infinite in epoch {epoch + 1}, so training stopped. {kept}",
        remedy="Lower lr0 (--train lr0=0.0003) or recover.distill, or switch mixed precision off (--train "
        "amp=false); then start in another folder (NAME or --out): a training resumes only with its own settings.",
        topic="training-became-nan",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    # The CPU's allocators raise a plain RuntimeError; only its text says why.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text.lower() in str(error).lower() for text in OUT_OF_MEMORY)


def is_worker_lost(error: BaseException) -> bool:
    """Whether an error means that a process that loads images died or got no shared memory."""
    return isinstance(error, RuntimeError) and any(text.lower() in str(error).lower() for text in WORKER_LOST)


def worker_lost(error: BaseException) -> MachineError:
    """The error for a training whose loading process died, with what needs less memory."""
    return MachineError(
        f"A process that loads images for the training failed: {str(error).strip().splitlines()[0]}",
        remedy="The usual reason is too little (shared) memory. Load in the training's own process (--train workers=0),"
        " give a container more of it (docker run --shm-size), or keep no images in memory (--train cache=false). With "
        "the same arguments the training resumes after its last complete epoch; with others, start in another folder "
        "(NAME or --out).",
    )


def batch_that_fits(batch: int, used: float | None = None, available: float | None = None) -> int:
    """Find a batch for less memory: half, and half again while the memory used, in proportion, doesn't fit.

    Args:
        batch: images per step that didn't fit; more than 1.
        used: memory that it needed, bytes; None: unknown.
        available: memory that there is, bytes; None: unknown.
    """
    # Half at least: what is known of the memory is the peak before the allocation that failed.
    fits = batch // 2
    while used and available and fits > 1 and used * fits / batch > FULL * available:
        fits //= 2
    return max(fits, 1)


def out_of_memory(batch: int, imgsz: int, device: torch.device | None = None) -> MachineError:
    """The error for a batch that didn't fit into memory, with one that does."""
    where = "GPU memory" if device is not None and device.type == "cuda" else "memory"
    used, available = _memory(device)
    known = "" if used is None or available is None else f" ({used / 1e9:.1f} of {available / 1e9:.1f} GB were taken)"
    fact = f"Training ran out of {where} with {batch} image{'s' if batch > 1 else ''} of {imgsz} px a step{known}."
    if batch == 1:
        return MachineError(
            fact, remedy="Train with a smaller --imgsz (make: IMGSZ=), or on a machine with more memory."
        )
    fits = batch_that_fits(batch, used, available)
    return MachineError(
        fact,
        remedy=f"Set recover.batch to {fits} (--set recover.batch={fits}); on the CPU --train cache=false saves memory "
        "too. Complete epochs with the old batch stay in its folder: start in another one (NAME or --out), or remove "
        "it.",
    )


@contextmanager
def memory_for(doing: str, images: int, imgsz: int) -> Iterator[None]:
    """Say what memory ran out for, outside of a training.

    Args:
        doing: what is done, as the end of a sentence: ``channels were scored``.
        images: images of one batch; a training's batch is the user's choice, this one isn't.
        imgsz: input side in pixels.

    Raises:
        MachineError: too little memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MachineError(
            f"Memory ran out while {doing}, with {images} images of {imgsz} px at a time.",
            remedy="End other programs, prune at a smaller --imgsz (make: IMGSZ=), or use a machine with more memory; "
            "prune.criterion: lamp scores without images, prune.bn_images: 0 leaves the statistics as they are.",
            topic="memory-ran-out",
        ) from error


def _memory(device: torch.device | None) -> tuple[float | None, float | None]:
    """The most that this process used of a GPU's memory, and all of it, bytes; None where it isn't known."""
    if device is None or device.type != "cuda" or not torch.cuda.is_available():
        return None, None
    return float(torch.cuda.max_memory_reserved(device)), float(torch.cuda.mem_get_info(device)[1])


def require_teacher(student: nn.Module, teacher: nn.Module, path: Path) -> None:
    """Raise unless a teacher's outputs can be compared with a student's one to one.

    Widths and depths may differ: a yolov8s teaches a yolov8n. Classes, strides, box bins and heads may not.

    Raises:
        SlimError: every difference, by name.
    """
    ours, theirs = _output_layout(student), _output_layout(teacher)
    differing = [f"{key}: {theirs[key]} in the teacher, {ours[key]} here" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise SlimError(
            f"{path} can't teach this network: their outputs can't be compared.",
            culprits=differing,
            remedy="Give a teacher of the same family that was trained on the same classes, or the unpruned model "
            "itself (leave recover.teacher away), or set recover.distill: 0.",
        )


def _output_layout(model: nn.Module) -> dict[str, object]:
    """What decides the shape and meaning of a model's outputs."""
    head: Any = model.model[-1]  # type: ignore[index]
    stride = getattr(head, "stride", None)
    return {
        "classes": dict(model.names),  # type: ignore[arg-type]
        "head": type(head).__name__,
        "strides of the levels": [int(value) for value in stride] if isinstance(stride, torch.Tensor) else None,
        "box bins (reg_max)": getattr(head, "reg_max", None),
        "one-to-one head": getattr(head, "one2one_cv2", None) is not None,
    }
