"""ONNX Runtime's integer convolutions against the graph that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.session import open_session


def fused_error(quantized: Any, blobs: Sequence[np.ndarray]) -> float:
    """How far the fused int8 graph is from the same graph computed node by node, on average."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    fused = onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    written = open_session(quantized)
    pairs = [(written.run(None, {"images": b})[0], fused.run(None, {"images": b})[0]) for b in blobs]
    return float(np.mean([output_error(a, b, layout="one2many") for a, b in pairs]))
