"""Networks with ReLU in int8: ReLU is part of the integer convolutions, and what it writes has all codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers.fused_graphs import fused_error
from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.export.onnx import export_onnx
from yolo_slim.models import checkpoint
from yolo_slim.progress import Silent
from yolo_slim.quantization import graph, qdq
from yolo_slim.quantization.bias_correction import InputMeans, bias_shifts, input_means
from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.integer import integer_convolutions
from yolo_slim.quantization.ranges import collect, observers, ranges_of
from yolo_slim.quantization.session import raw_outputs
from yolo_slim.training.arguments import Training
from yolo_slim.training.exchange import exchanged

LOWEST = -128


@pytest.fixture(scope="module")
def model(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The shipped yolo11n with ReLU in place of SiLU, as a float graph of 128 px."""
    folder = tmp_path_factory.mktemp("relu")
    training = Training(weights=trained, teacher=trained, data=signs, folder=folder, imgsz=128, seed=0)
    start = exchanged(training, checkpoint.load(trained), "relu", load_dataset(signs), Silent())
    export_onnx(start.weights, ExportConfig(), 128, folder / "model.onnx")
    return graph.load(folder / "model.onnx")


@pytest.fixture(scope="module")
def ranges(model: Any, blobs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Its ranges for ONNX Runtime's graph."""
    statistics = observers(model, graph.parts(model).body)
    collect(model, statistics, blobs, lambda _: None)
    return ranges_of(statistics, "mse", graph.never_negative(model))


def error(model: Any, other: Any, blobs: list[np.ndarray]) -> float:
    """How far one graph's outputs are from another's."""
    pairs = zip(raw_outputs(model, blobs), raw_outputs(other, blobs), strict=True)
    return float(np.mean([output_error(a, b, layout="one2many") for a, b in pairs]))


def test_relu_is_in_the_integer_graph(model: Any, ranges: Any, blobs: list[np.ndarray], tmp_path: Path) -> None:
    """Every convolution of the body is an integer one after Arm's optimiser, and no ReLU of them is left."""
    body = graph.parts(model).body
    relus = graph.relus_of(model, body)
    assert len(relus) > 60
    quantized = qdq.quantize(model, body, ranges)
    assert [node.name for node in quantized.graph.node if node.op_type == "Relu"] == []
    graph.save(quantized, tmp_path / "int8.onnx")
    assert integer_convolutions(tmp_path / "int8.onnx").integer == len(body)
    assert 0 < error(model, quantized, blobs) < 0.2


def test_codes_begin_at_zero(model: Any, ranges: Any) -> None:
    """What ReLU writes has the zero point -128; what may be negative, such as attention's input, has 0."""
    body = graph.parts(model).body
    quantized = qdq.quantize(model, body, ranges)
    stored = graph.initializers(quantized)
    points = {
        node.input[0]: int(graph.array_of(stored[node.input[2]]))
        for node in quantized.graph.node
        if node.op_type == graph.QUANTIZE
    }
    positive = graph.never_negative(model)
    assert points == {name: LOWEST if name in positive else 0 for name in points}
    assert set(points.values()) == {LOWEST, 0}


def test_nothing_negative_is_called_positive(model: Any, blobs: list[np.ndarray]) -> None:
    """Tensors without negative values have none on images; others, such as convolutions' outputs, have."""
    positive = sorted(graph.never_negative(model))
    smallest = {
        name: Smallest() for name in [*positive, graph.nodes_named(model, graph.parts(model).body)[0].output[0]]
    }
    collect(model, smallest, blobs, lambda _: None)
    values = [found.value for found in smallest.values()]
    assert min(values[:-1]) >= 0 > values[-1]


class Smallest:
    """The smallest value of a tensor."""

    value = np.inf

    def add(self, values: np.ndarray) -> None:
        """Include one image's values."""
        self.value = min(self.value, float(values.min()))


def test_tensorrt_keeps_relu(model: Any, ranges: Any) -> None:
    """TensorRT's graph has every ReLU, and no zero point that TensorRT refuses; ONNX Runtime's would be refused."""
    body = graph.parts(model).body
    made = qdq.quantize(model, body, ranges, outputs=False)
    assert sum(node.op_type == "Relu" for node in made.graph.node) == len(graph.relus_of(model, body))
    assert qdq.blockers(made) == []
    assert qdq.blockers(qdq.quantize(model, body, ranges))


def test_more_codes_clip_less(model: Any, blobs: list[np.ndarray]) -> None:
    """With 256 codes from 0 upwards the range of least squared error is nowhere smaller, and mostly larger."""
    body, positive = graph.parts(model).body, graph.never_negative(model)
    statistics = observers(model, body)
    collect(model, statistics, blobs, lambda _: None)
    signed, unsigned = ranges_of(statistics, "mse"), ranges_of(statistics, "mse", positive)
    ratios = np.array([unsigned[name][0] / signed[name][0] for name in signed if len(signed[name]) == 1])
    assert (ratios >= 1).all()
    assert (ratios > 1).mean() > 0.5
    assert all(np.array_equal(signed[name], unsigned[name]) for name in signed if name not in positive)


def test_fused_numbers_are_the_written_ones(model: Any, ranges: Any, blobs: list[np.ndarray]) -> None:
    """The integer convolutions compute what the graph says: their outputs are as near as roundings of halves allow."""
    quantized = qdq.quantize(model, graph.parts(model).body, ranges)
    assert fused_error(quantized, blobs) < error(model, quantized, blobs)


def test_shifts_fit_the_codes(model: Any, ranges: Any, blobs: list[np.ndarray]) -> None:
    """A layer that alone is int8 writes the float layer's means, in either graph with the shifts of its codes."""
    body = graph.parts(model).body
    # Of layers whose means differ between the codes: those that read what ReLU wrote.
    relus = graph.relus_of(model, body)
    layers = [name for name in body[2:40:9] if name in relus]
    for outputs in (True, False):
        means = input_means(model, body, ranges, qdq.unsigned_in(model, outputs=outputs))
        collect(model, means, blobs, lambda _: None)
        shifts = bias_shifts(model, body, means)
        for layer in layers:
            written = graph.nodes_named(model, [layer])[0].output[0]
            # Where the ReLU is gone, the convolution has its name.
            here = relus[layer].output[0] if outputs else written
            made = [qdq.quantize(model, [layer], ranges, outputs=outputs, shifts=given) for given in (None, shifts)]
            wanted = channel_means(model, written, blobs)
            without, within = (np.abs(channel_means(one, here, blobs) - wanted).mean() for one in made)
            assert within < without, (layer, outputs)


def channel_means(model: onnx.ModelProto, tensor: str, blobs: list[np.ndarray]) -> np.ndarray:
    """The mean of every channel of a tensor over some inputs."""
    means = InputMeans(1.0)
    collect(model, {tensor: means}, blobs, lambda _: None)
    return means.means()[0]
