"""What decides whether a run is up to date imports neither networks nor graphs: that takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "ultralytics", "onnx", "onnxruntime", "cv2")
LIGHT = (
    *("yolo_slim.datasets.description", "yolo_slim.datasets.labels", "yolo_slim.datasets.links"),
    *("yolo_slim.datasets.check", "yolo_slim.datasets.images", "yolo_slim.datasets.quickstart"),
    *("yolo_slim.quantization.files", "yolo_slim.quantization.graph", "yolo_slim.quantization.calibration"),
    *("yolo_slim.quantization.calibration_file", "yolo_slim.quantization.qat_graph", "yolo_slim.export.graphs"),
)


def loaded_by(*modules: str) -> set[str]:
    """Return which heavy packages a process has after importing modules."""
    code = f"import importlib, sys; [importlib.import_module(name) for name in {modules!r}]; "
    code += f"print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


def test_light_modules() -> None:
    """Data sets and names of files are known without torch, Ultralytics, ONNX and OpenCV."""
    assert loaded_by(*LIGHT) == set()


@pytest.mark.parametrize("module", ["yolo_slim.quantization.int8", "yolo_slim.quantization.report"])
def test_quantization_needs_no_torch(module: str) -> None:
    """Only the mAP of trial graphs loads torch, when it is measured."""
    assert not loaded_by(module) & {"torch", "ultralytics"}


def test_heavy_is_noticed() -> None:
    """Negative control: a module that needs torch is found."""
    assert "torch" in loaded_by("yolo_slim.models.checkpoint")
