"""An ONNX file that is given to build, quantize or validate."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.helpers.tiny_detector import NAMES, write_onnx
from yolo_slim.errors import SlimError
from yolo_slim.models.exported import layout_of


def described(path: Path, names: dict[int, str]) -> Path:
    """Write a graph with Ultralytics' metadata."""
    graph = onnx.load(str(write_onnx(path)))
    metadata = {"task": "detect", "names": str(names), "imgsz": "[64, 64]", "stride": "8", "end2end": "False"}
    onnx.helper.set_model_props(graph, metadata)
    onnx.save(graph, str(path))
    return path


def test_blank_names_in_an_onnx_file(tmp_path: Path) -> None:
    """A name that no bundle may contain is refused when the file is read; complete names pass (negative control)."""
    assert layout_of(described(tmp_path / "good.onnx", NAMES)).names == NAMES
    with pytest.raises(SlimError, match=r"class 1 has the name ' '\nName every class in the checkpoint"):
        layout_of(described(tmp_path / "blank.onnx", {0: "red", 1: " "}))
