"""Run graphs that are still in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Blob = NDArray[np.float32]
"""An input (1, 3, h, w), or a raw output."""


def open_session(model: Any) -> Any:
    """Open an ONNX Runtime CPU session of a ``ModelProto``.

    On x86 ONNX Runtime doesn't fuse int8 by default: it computes every Q/DQ node as the graph says.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # ONNX Runtime counts the cores of the machine, not those that this process may use.
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_with_outputs(model: Any, tensors: Iterable[str]) -> Any:
    """Open a session of a copy of the graph that also returns these inner tensors."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    there = {item.name for item in copied.graph.output}
    # A name is enough: ONNX Runtime infers type and shape.
    copied.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors if tensor not in there)
    return open_session(copied)


def raw_outputs(model: Any, blobs: Sequence[Blob]) -> list[Blob]:
    """The first output of a graph for every input."""
    session = open_session(model)
    name = session.get_inputs()[0].name
    return [session.run(None, {name: blob})[0] for blob in blobs]
