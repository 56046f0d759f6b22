"""An exported graph that doesn't compute what PyTorch computes is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.export.onnx import export_onnx
from yolo_slim.export.parity import MAX_SCORE, Parity, compare_outputs, measure_parity
from yolo_slim.models import checkpoint

IMGSZ = 64


@pytest.fixture(scope="module")
def graph(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the network once."""
    path = tmp_path_factory.mktemp("parity") / "model.onnx"
    export_onnx(trained, ExportConfig(), IMGSZ, path)
    return path


def measured(trained: Path, graph: Path, signs: Path) -> Parity:
    """Compare a graph with the network on two images."""
    images = load_dataset(signs).splits["val"][:2]
    return measure_parity(checkpoint.load(trained), graph, images, imgsz=IMGSZ, end2end=False)


def compared(got: np.ndarray, wanted: np.ndarray, *, end2end: bool) -> Parity:
    """Compare one image's output of two graphs of a detector of two classes."""
    return compare_outputs([([got[None]], [wanted[None]])], task="detect", classes=2, imgsz=64, end2end=end2end)


def test_exported_graph_agrees(trained: Path, graph: Path, signs: Path) -> None:
    """The graph as it is exported is inside the tolerances."""
    assert measured(trained, graph, signs).max_score <= MAX_SCORE


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_changed_graph_is_refused(trained: Path, graph: Path, signs: Path, tmp_path: Path, value: float) -> None:
    """Negative control: one wrong weight is enough, also where it makes every output NaN."""
    model = onnx.load(str(graph))
    weight = next(item for item in model.graph.initializer if len(item.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[0] = value
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(tmp_path / "changed.onnx"))
    with pytest.raises(SlimError, match="disagree"):
        measured(trained, tmp_path / "changed.onnx", signs)


@pytest.mark.parametrize("end2end", [False, True])
def test_a_comparison_of_nothing_is_refused(end2end: bool) -> None:
    """Two graphs that give no box a score agree in everything, which proves nothing; a faint box is enough."""
    zeros = np.zeros((300, 6) if end2end else (4 + 2, 84), np.float32)
    faint = zeros.copy()
    faint[(5, slice(0, 5)) if end2end else (slice(0, 5), 5)] = [10, 10, 20, 20, 1e-3]
    assert compared(faint, faint, end2end=end2end).boxes == 1
    with pytest.raises(SlimError, match="can't be compared"):
        compared(zeros, zeros, end2end=end2end)


def test_rows_may_change_places() -> None:
    """Two end2end rows of equal score in another order agree; a row that only one side has doesn't."""
    rows = np.zeros((300, 6), np.float32)
    rows[0], rows[1] = [10, 10, 20, 20, 0.5, 1], [50, 50, 90, 90, 0.5, 0]
    assert compared(rows[[1, 0, *range(2, 300)]], rows, end2end=True).max_box_px == 0
    for got, wanted in ((rows[[0, *[2] * 299]], rows), (rows, rows[[0, *[2] * 299]])):
        with pytest.raises(SlimError, match="disagree"):
            compared(got, wanted, end2end=True)
