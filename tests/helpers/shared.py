"""Products that take long: one worker makes each for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from yolo_slim.config.run import QuantizeConfig

FAST = QuantizeConfig(images=32, scan_images=1, max_float_layers=2, parity_images=2)
"""Quantize with few images."""


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that ``make`` filled, here or in another worker; don't change it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = folder / ".made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            made.touch()
    return folder


def quantize_example(folder: Path, model: Path) -> None:
    """Fill ``data/``, ``onnx/`` and ``quantize/``: 44 training scenes of 64 px, and a model's graphs for that side."""
    from yolo_slim.config.run import ExportConfig
    from yolo_slim.datasets import quickstart
    from yolo_slim.stages import export, quantize
    from yolo_slim.stages.context import Context

    data = quickstart.generate(folder / "data", counts={"train": 44, "val": 6, "test": 4}, imgsz=64)
    context = Context.load(data, imgsz=64)
    inputs = quantize.QuantizeInputs(
        onnx=export.run(model, ExportConfig(parity_images=2), folder / "onnx", context).onnx
    )
    quantize.run(inputs, FAST, folder / "quantize", context)
