"""The rewritten DFL: the same numbers to the last bit, in bundles of real networks; other graphs stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from yolo_slim.backends import backend
from yolo_slim.backends.onnxruntime.dfl import speed_up_dfl
from yolo_slim.config.run import ExportConfig
from yolo_slim.export.onnx import export_onnx


@pytest.fixture(scope="module")
def exported(untrained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family to its raw graph of 64 px."""
    folder = tmp_path_factory.mktemp("exported")

    def make(family: str) -> Path:
        path = folder / f"{family}.onnx"
        if not path.exists():
            export_onnx(untrained(family), ExportConfig(), 64, path)
        return path

    return make


def raw(path: Path) -> np.ndarray[Any, Any]:
    """Return what a graph says to noise."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    blob = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    return np.asarray(session.run(None, {"images": blob})[0])


def ops(path: Path) -> list[str]:
    """Return the kinds of a graph's nodes."""
    return [node.op_type for node in onnx.load(str(path)).graph.node]


@pytest.mark.parametrize("family", ["yolov8n", "yolo11n"])
def test_bundle_has_equal_numbers(family: str, exported: Callable[[str], Path], tmp_path: Path) -> None:
    """The bundle's graph has a matrix product in the place of the DFL's convolution, and equal outputs."""
    graph = exported(family)
    backend("onnxruntime").build(graph, tmp_path, precision="fp32", imgsz=(64, 64))
    built = tmp_path / "model.onnx"
    assert ops(built).count("Conv") == ops(graph).count("Conv") - 1
    onnx.checker.check_model(onnx.load(str(built)), full_check=True)
    np.testing.assert_array_equal(raw(built), raw(graph))


def test_head_without_bins_is_left_alone(exported: Callable[[str], Path]) -> None:
    """yolo26 has no DFL, so nothing is rewritten."""
    model = onnx.load(str(exported("yolo26n")))
    before = model.SerializeToString()
    assert speed_up_dfl(model) == 0
    assert model.SerializeToString() == before


@pytest.mark.parametrize(("node", "attribute"), [("Transpose", ("perm", [0, 3, 1, 2])), ("Softmax", ("axis", 2))])
def test_other_patterns_are_left_alone(node: str, attribute: tuple[str, Any], exported: Callable[[str], Path]) -> None:
    """A transpose or softmax along other axes is no DFL that the rewriting knows."""
    model = onnx.load(str(exported("yolov8n")))
    dfl = next(item for item in model.graph.node if item.op_type == node and "dfl" in item.name)
    del dfl.attribute[:]
    dfl.attribute.append(helper.make_attribute(*attribute))
    assert speed_up_dfl(model) == 0
