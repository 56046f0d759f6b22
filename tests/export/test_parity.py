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
from yolo_slim.export.parity import MAX_SCORE, Parity, measure_parity
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
