"""Where the time of a frame goes: convolutions, activations, copies and so on.

A separate run with the runtime's own times of single operations. Only their shares are used, scaled to the stages of
the timing: looking at every operation slows them down, so this run never gives a speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from yolo_slim.backends import Operation, operation_timer
from yolo_slim.runtime.letterbox import letterbox

if TYPE_CHECKING:
    from yolo_slim.runtime.detector import Detector

FRAMES = 30
"""Frames of the run."""
PRE, INFERENCE, OTHER, POST = "pre", "inference", "other", "post"
PARTS = {
    PRE: "pre-processing",
    INFERENCE: "inference",
    "convolutions": "convolutions",
    "activations": "activations",
    "attention": "attention (matrix products, softmax)",
    "copies": "concat, split, add, resize, change of layout",
    "conversions": "conversions between precisions",
    "decoding": "boxes and scores of the head's outputs (DFL)",
    OTHER: "other operations",
    POST: "post-processing (cut by score, NMS)",
}
"""Every part of a frame with its meaning, in the order of tables. ``inference``: where its parts aren't known."""
_KINDS = {
    "convolutions": (
        "Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "ConvTranspose",
        "Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise",
    ),
    "activations": (
        "QuickGelu", "Sigmoid", "Mul", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Clip", "QLinearSigmoid",
        "QLinearMul", "QLinearLeakyRelu", "Swish", "BinaryOp mul", "ReLU",
    ),
    "attention": ("MatMul", "FusedMatMul", "Gemm", "Softmax", "InnerProduct", "MultiHeadAttention"),
    "copies": (
        "Concat", "QLinearConcat", "Split", "Slice", "Add", "QLinearAdd", "Reshape", "Transpose", "ReorderInput",
        "ReorderOutput", "Resize", "Upsample", "Interp", "BinaryOp", "Permute", "Crop", "Padding", "Pad", "Squeeze",
        "Unsqueeze", "ExpandDims", "Flatten", "Expand", "Tile", "Packing", "MemoryData", "Gather", "ShuffleChannel",
    ),
    "conversions": ("QuantizeLinear", "DequantizeLinear", "Cast", "Quantize", "Dequantize", "Requantize"),
}  # fmt: skip
_PART_OF_KIND = {kind: part for part, kinds in _KINDS.items() for kind in kinds}


class Medians(Protocol):
    """A stage of a timing."""

    @property
    def p50_ms(self) -> float:
        """Its median, milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """How the time of an inference is divided."""

    frames: int
    """Frames of the run; 0: the runtime doesn't tell."""
    shares: dict[str, float]
    """Part of the inference to its share, together 1; empty: the runtime doesn't tell."""
    frame_ms: float | None
    """Median inference time in this run, milliseconds; not a speed: looking at single operations makes it slower."""
    covered: float | None
    """The operations' times together, divided by ``frame_ms``."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part of a frame."""

    part: str
    """Key of :data:`PARTS`."""
    ms: float
    """Milliseconds of the timing's median frame."""
    share: float
    """The same as a share of the whole frame."""


NOT_TOLD = Breakdown(frames=0, shares={}, frame_ms=None, covered=None)
"""Of a runtime that times a whole inference only."""


def measure(detector: Detector, image: Any, frames: int = FRAMES) -> Breakdown:
    """Divide the inference of a bundle, in a session of its own with the same threads and options.

    Args:
        detector: the bundle as it was timed.
        image: (H, W, 3) uint8 BGR.
        frames: how often it is run.
    """
    spec = detector.bundle.spec
    time_operations = operation_timer(spec.runtime)
    if time_operations is None:
        return NOT_TOLD
    blob = letterbox(image, spec.imgsz)[0]
    found = time_operations(detector.bundle.folder, spec, blob, frames, detector.threads, **detector.options)
    total = sum(operation.ms for operation in found.operations)
    return Breakdown(
        frames=frames,
        shares=shares(found.operations),
        frame_ms=found.frame_ms,
        covered=total / found.frame_ms,
    )


def shares(operations: Sequence[Operation]) -> dict[str, float]:
    """Add up the operations of each part, as shares of all."""
    total = sum(operation.ms for operation in operations)
    found = {part: sum(one.ms for one in operations if part_of(one) == part) / total for part in PARTS}
    return {part: share for part, share in found.items() if share > 0}


def part_of(operation: Operation) -> str:
    """The part that an operation belongs to."""
    if operation.is_decoding:
        return "decoding"
    part = _PART_OF_KIND.get(operation.kind, OTHER)
    # Scaling and turning inside an attention block is its work; a convolution there is one like any other.
    return "attention" if "/attn/" in operation.name and part != "convolutions" else part


def rows(stages: Mapping[str, Medians], found: Breakdown) -> list[Row]:
    """Divide a timing's median frame into parts."""
    total = sum(stages[stage].p50_ms for stage in ("pre", "infer", "post"))
    return [Row(part=part, ms=ms, share=ms / total) for part, ms in _parts(stages, found)]


def _parts(stages: Mapping[str, Medians], found: Breakdown) -> Iterator[tuple[str, float]]:
    yield PRE, stages["pre"].p50_ms
    for part, share in (found.shares or {INFERENCE: 1.0}).items():
        yield part, share * stages["infer"].p50_ms
    yield POST, stages["post"].p50_ms
