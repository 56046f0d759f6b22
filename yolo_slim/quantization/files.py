"""Names of the graphs and files that quantization makes. No heavy imports: an up-to-date stage needs only these."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.errors import SlimError

INT8, TENSORRT_INT8, FP16 = "int8", "int8-tensorrt", "fp16"
"""Names of the graphs: int8 for ONNX Runtime, int8 for TensorRT, fp16 for both."""
GRAPHS_OF = {"int8": (INT8, TENSORRT_INT8), "fp16": (FP16,)}
"""Precision to the graphs that are made for it."""
PRECISIONS = tuple(GRAPHS_OF)
CALIBRATION_FILE = "calibration.json"
LAYER_ERRORS_FILE = "layer_errors.json"


def graph_files(precisions: Sequence[str]) -> dict[str, str]:
    """Graph name to file name, of every graph that these precisions need."""
    return {name: f"model-{name}.onnx" for key, names in GRAPHS_OF.items() if key in precisions for name in names}


def require_precisions(precisions: Sequence[str]) -> None:
    """Refuse precisions that aren't made here.

    Raises:
        SlimError: an unknown precision, or none at all.
    """
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise SlimError(
            f"The quantize stage makes {' and '.join(PRECISIONS)}, not {', '.join(unknown) or 'nothing'}.",
            remedy="Build fp32 from the export itself.",
        )
