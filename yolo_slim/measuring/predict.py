"""Detections of PyTorch weights and ONNX files through the device's own pre- and post-processing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from yolo_slim.models.macs import fused
from yolo_slim.progress import Progress
from yolo_slim.runtime.decode import VAL, Detections, decode
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image

Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From an input (1, 3, h, w) float32 RGB in [0, 1] to the raw output, (1, 4 + classes, anchors) or (1, 300, 6)."""


def torch_infer(model: nn.Module, *, end2end: bool) -> Infer:
    """Inference of unfused weights in PyTorch, fp32."""
    network = fused(model, end2end=end2end)

    def infer(blob: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            output = network(torch.from_numpy(blob))
        # In evaluation mode Ultralytics' head also returns its undecoded predictions.
        raw = output[0] if isinstance(output, (tuple, list)) else output
        return np.asarray(raw.numpy(), dtype=np.float32)

    return infer


def torch_outputs(model: nn.Module, *, end2end: bool) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Inference of unfused weights of any task in PyTorch, fp32, with all outputs that an export has."""
    network = fused(model, end2end=end2end)
    network.model[-1].export = True  # type: ignore[index, union-attr]

    def infer(blob: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with torch.no_grad():
            output = network(torch.from_numpy(blob))
        return [part.numpy() for part in (output if isinstance(output, (tuple, list)) else [output])]

    return infer


def onnx_infer(onnx: Path) -> Infer:
    """Inference of an ONNX file in ONNX Runtime: its first output, float32."""
    outputs = onnx_outputs(onnx)
    return lambda blob: outputs(blob)[0]


def onnx_outputs(onnx: Path) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Inference of an ONNX file in ONNX Runtime: all its outputs, float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda blob: [np.asarray(part, dtype=np.float32) for part in session.run(None, {name: blob})]


def detect_all(
    images: Sequence[Path], infer: Infer, *, layout: str, imgsz: int, progress: Progress, text: str
) -> list[Detections]:
    """Detect what mAP is computed from: every class with a confidence above .001, in every image."""
    letterbox = Letterbox((imgsz, imgsz))
    found = []
    for done, path in enumerate(images, 1):
        blob, geometry = letterbox(read_image(path, convert_channels=True))
        found.append(decode(infer(blob), layout, geometry, VAL))
        progress.step(text, done, len(images))
    return found
