"""Graphs from quantization-aware training: ranges and codes stay, in a form that both runtimes accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo_slim.errors import SlimError
from yolo_slim.quantization import graph, qdq
from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.qat_graph import read_qat_graph
from yolo_slim.quantization.ranges import collect, observers, ranges_of
from yolo_slim.quantization.session import open_session


@pytest.fixture(scope="module")
def model(exported: Path) -> Any:
    """Return the float graph."""
    return graph.load(exported)


@pytest.fixture(scope="module")
def ranges(model: Any, blobs: list[np.ndarray]) -> Any:
    """Return its ranges."""
    statistics = observers(model, graph.parts(model).body)
    collect(model, statistics, blobs, lambda _: None)
    return ranges_of(statistics, "mse")


def stored(model: Any) -> dict[str, np.ndarray]:
    """Return a graph's constants."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def test_codes_are_kept(model: Any, ranges: Any, blobs: list[np.ndarray]) -> None:
    """A symmetric graph without output pairs, as training makes it, comes out with equal codes, ranges and numbers."""
    body = graph.parts(model).body
    trained = qdq.quantize(model, body, ranges, outputs=False)
    qat = read_qat_graph(trained)
    assert qat.layers == body
    assert not graph.is_quantized(qat.model)
    again = qdq.quantize(
        qat.model, qat.layers, {**ranges, **qat.input_ranges}, outputs=False, weight_scales=qat.weight_scales
    )
    a, b = (session.run(None, {"images": blobs[0]})[0] for session in map(open_session, (trained, again)))
    assert output_error(a, b, layout="one2many") < 1e-3
    codes = [
        sorted(v.tobytes() for v in stored(g).values() if v.dtype == np.int8 and v.ndim == 4) for g in (trained, again)
    ]
    assert codes[0] == codes[1]


def test_codes_survive_channel_ranges(model: Any, ranges: Any) -> None:
    """With output pairs too, where weights are rescaled channel by channel, the codes stay those that were trained."""
    body = graph.parts(model).body
    trained = qdq.quantize(model, body, ranges, outputs=False)
    qat = read_qat_graph(trained)
    again = qdq.quantize(qat.model, body, {**ranges, **qat.input_ranges}, weight_scales=qat.weight_scales)
    codes = [
        sorted(v.tobytes() for v in stored(g).values() if v.dtype == np.int8 and v.ndim == 4) for g in (trained, again)
    ]
    assert codes[0] == codes[1]
    assert qdq.blockers(again) == []


def test_asymmetric_graph_becomes_portable(model: Any, ranges: Any, blobs: list[np.ndarray], monkeypatch: Any) -> None:
    """Other zero points and quantized biases, which TensorRT refuses, are gone afterwards; the detections stay near."""
    body = graph.parts(model).body
    monkeypatch.setitem(qdq.EXTRA_OPTIONS, "QuantizeBias", True)
    foreign = qdq.quantize(model, body, {name: limits.max(keepdims=True) for name, limits in ranges.items()})
    assert qdq.blockers(foreign)
    monkeypatch.undo()
    qat = read_qat_graph(foreign)
    again = qdq.quantize(qat.model, qat.layers, {**ranges, **qat.input_ranges}, weight_scales=qat.weight_scales)
    assert qdq.blockers(again) == []
    sessions = map(open_session, (model, again))
    a, b = (session.run(None, {"images": blobs[0]})[0] for session in sessions)
    assert output_error(a, b, layout="one2many") < 0.2


def test_pairs_without_an_int8_convolution(model: Any) -> None:
    """Q/DQ nodes around something else than convolutions are refused."""
    odd = onnx.ModelProto()
    odd.CopyFrom(model)
    odd.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.01), "s"), numpy_helper.from_array(np.int8(0), "z")]
    )
    first = odd.graph.node[0]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"], name="q"),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="dq"),
    ]
    first.input[0] = "dq"
    for node in reversed(nodes):
        odd.graph.node.insert(0, node)
    with pytest.raises(SlimError, match="no convolution that they make int8"):
        read_qat_graph(odd)
