"""The int8 and fp16 graphs: what runs as integers, what stays float, and that a drifting recipe is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnxruntime import quantization as ort

from tests.helpers.fused_graphs import fused_error
from tests.helpers.tiny_detector import write_onnx
from yolo_slim.config.run import ExportConfig
from yolo_slim.errors import SlimError
from yolo_slim.models.exported import layout_of
from yolo_slim.quantization import fp16, graph, qdq
from yolo_slim.quantization.bias_correction import InputMeans, bias_shifts, input_means
from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.integer import integer_convolutions
from yolo_slim.quantization.ranges import collect, observers, ranges_of
from yolo_slim.quantization.session import open_session
from yolo_slim.stages import export
from yolo_slim.stages.context import Context


def ranges_for(model: Any, blobs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the ranges of everything that may be int8."""
    statistics = observers(model, graph.parts(model).body)
    collect(model, statistics, blobs, lambda _: None)
    return ranges_of(statistics, "mse")


@pytest.fixture(scope="module")
def model(exported: Path) -> Any:
    """Return the float graph."""
    return graph.load(exported)


@pytest.fixture(scope="module")
def ranges(model: Any, blobs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return its ranges."""
    return ranges_for(model, blobs)


def distance(model: Any, other: Any, blobs: list[np.ndarray], layout: str = "one2many") -> float:
    """Return how far one graph's outputs are from another's."""
    pair = [[session.run(None, {"images": b})[0] for b in blobs] for session in map(open_session, (model, other))]
    return float(np.mean([output_error(a, b, layout=layout) for a, b in zip(*pair, strict=True)]))


def saved(model: Any, path: Path) -> Path:
    """Write a graph as the stage does."""
    graph.save(model, path)
    return path


def test_head_ends_are_found(model: Any) -> None:
    """The six last convolutions of the head are apart from the body, and DFL and decoding are in the tail."""
    parts = graph.parts(model)
    assert [graph.layer_name(name) for name in parts.last] == [
        f"model.23.cv{branch}.{level}.2" for level in range(3) for branch in (2, 3)
    ]
    assert not set(parts.body) & (set(parts.last) | parts.tail)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == len(parts.body) + len(parts.last) + 1
    assert {"Softmax", "Sigmoid"} <= {node.op_type for node in graph.nodes_named(model, parts.tail)}


def test_all_of_the_body_runs_as_integers(model: Any, ranges: Any, blobs: list[np.ndarray], tmp_path: Path) -> None:
    """After the optimiser for Arm every convolution of the body is an integer one and the head's ends are float."""
    parts = graph.parts(model)
    quantized = qdq.quantize(model, parts.body, ranges)
    count = integer_convolutions(saved(quantized, tmp_path / "int8.onnx"))
    assert (count.integer, count.float) == (len(parts.body), len(parts.last) + 1)
    assert qdq.blockers(quantized) == []
    assert 0 < distance(model, quantized, blobs) < 0.2


def test_quantized_biases_are_noticed(model: Any, ranges: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Int32 biases, which TensorRT refuses, are reported."""
    monkeypatch.setitem(qdq.EXTRA_OPTIONS, "QuantizeBias", True)
    found = qdq.blockers(qdq.quantize(model, graph.parts(model).body[:4], ranges))
    assert found
    assert all("aren't int8" in line for line in found)


def test_zero_points_are_noticed(exported: Path, model: Any, blobs: list[np.ndarray], tmp_path: Path) -> None:
    """ONNX Runtime's default recipe, whose activations have zero points that TensorRT refuses, is reported.

    Our own ranges are symmetric: asked for asymmetric codes they give zero points of 0 or -1, as rounding has it.
    """
    path = tmp_path / "asymmetric.onnx"
    layers = graph.parts(model).body[:4]
    ort.quantize_static(str(exported), str(path), Blobs(blobs), nodes_to_quantize=layers)
    assert any("zero point other than 0" in line for line in qdq.blockers(onnx.load(path)))


class Blobs:
    """Inputs as ONNX Runtime's calibration reads them."""

    def __init__(self, blobs: list[np.ndarray]) -> None:
        """Take the inputs, (1, 3, H, W) each."""
        self._left = iter(blobs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next input, or None after the last."""
        blob = next(self._left, None)
        return None if blob is None else {"images": blob}


def test_without_output_pairs_nothing_is_integer(model: Any, ranges: Any, tmp_path: Path) -> None:
    """TensorRT's variant keeps what convolutions write in float; ONNX Runtime then runs none as integers."""
    quantized = qdq.quantize(model, graph.parts(model).body, ranges, outputs=False)
    assert integer_convolutions(saved(quantized, tmp_path / "int8.onnx")).integer == 0
    assert qdq.blockers(quantized) == []


def test_a_range_a_channel_is_finer(model: Any, ranges: Any, blobs: list[np.ndarray]) -> None:
    """One range a channel of what convolutions write is closer to fp32 than one range a tensor."""
    body = graph.parts(model).body
    coarse = {name: limits.max(keepdims=True) for name, limits in ranges.items()}
    fine = distance(model, qdq.quantize(model, body, ranges), blobs)
    assert fine < distance(model, qdq.quantize(model, body, coarse), blobs)


def test_bias_shifts_restore_means(model: Any, ranges: Any, blobs: list[np.ndarray]) -> None:
    """A layer that alone is int8 writes, channel by channel, the float layer's mean with the shifts and not without."""
    body = graph.parts(model).body
    means = input_means(model, body, ranges)
    collect(model, means, blobs, lambda _: None)
    shifts = bias_shifts(model, body, means)
    assert set(shifts) == set(body)
    for layer in body[2:40:9]:
        written = graph.nodes_named(model, [layer])[0].output[0]
        plain, shifted = (qdq.quantize(model, [layer], ranges, outputs=False, shifts=given) for given in (None, shifts))
        wanted, without, within = (channel_means(g, written, blobs) for g in (model, plain, shifted))
        assert np.abs(within - wanted).mean() < 0.5 * np.abs(without - wanted).mean(), layer


def channel_means(model: Any, tensor: str, blobs: list[np.ndarray]) -> np.ndarray:
    """Return the mean of every channel of a tensor over some inputs."""
    means = InputMeans(1.0)
    collect(model, {tensor: means}, blobs, lambda _: None)
    return means.means()[0]


def test_fused_numbers_are_the_written_ones(model: Any, ranges: Any, blobs: list[np.ndarray]) -> None:
    """The integer convolutions compute what the graph says: their outputs are as near as roundings of halves allow."""
    quantized = qdq.quantize(model, graph.parts(model).body, ranges)
    assert fused_error(quantized, blobs) < distance(model, quantized, blobs)


def test_fp16_is_typed(model: Any, blobs: list[np.ndarray], tmp_path: Path) -> None:
    """The body is float16, input, output and decoding are float32, no node mixes them, and it computes the same."""
    half = graph.load(saved(fp16.convert(model), tmp_path / "fp16.onnx"))
    check_types(model, half)
    assert distance(model, half, blobs) < 0.01


def check_types(model: Any, half: Any) -> None:
    """Assert the types of every tensor of a half-precision graph."""
    tail = graph.parts(model).tail
    types = {item.name: item.type.tensor_type.elem_type for item in half.graph.value_info}
    types |= {item.name: item.type.tensor_type.elem_type for item in (*half.graph.input, *half.graph.output)}
    types |= {item.name: item.data_type for item in half.graph.initializer}
    assert types["images"] == types["output0"] == TensorProto.FLOAT
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    for node in half.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name and types[name] in floats}
        if node.op_type == "Cast":
            continue
        if node.op_type == "Resize":
            assert types[node.input[2]] == TensorProto.FLOAT
            kinds = {types[node.input[0]], types[node.output[0]]}
        wanted = TensorProto.FLOAT if node.name in tail else TensorProto.FLOAT16
        assert kinds <= {wanted}, node.name


@pytest.mark.parametrize("end2end", [False, True])
def test_yolo26(
    end2end: bool, untrained: Callable[[str], Path], signs: Path, blobs: list[np.ndarray], tmp_path: Path
) -> None:
    """Both heads of yolo26 become int8 and fp16: integer convolutions, typed graphs, metadata and layout kept."""
    config, context = ExportConfig(parity_images=1, end2end=end2end), Context.load(signs, imgsz=128)
    exported = export.run(untrained("yolo26n"), config, tmp_path / "export", context).onnx
    model = graph.load(exported)
    body = graph.parts(model).body
    int8 = saved(qdq.quantize(model, body, ranges_for(model, blobs[:2])), tmp_path / "int8.onnx")
    half = saved(fp16.convert(model), tmp_path / "fp16.onnx")
    assert integer_convolutions(int8).integer == len(body)
    check_types(model, graph.load(half))
    for path in (int8, half):
        assert layout_of(path) == layout_of(exported)
        assert open_session(graph.load(path)).run(None, {"images": blobs[0]})[0].dtype == np.float32


def test_too_large_for_fp16(model: Any) -> None:
    """A weight beyond float16 is refused by its name and size."""
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    weight = next(item for item in broken.graph.initializer if item.name.endswith("conv.weight"))
    value = onnx.numpy_helper.to_array(weight).copy()
    value.flat[0] = 1e6
    weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
    with pytest.raises(SlimError, match=r"conv\.weight contains 1e\+06"):
        fp16.convert(broken)


def test_not_ours(tmp_path: Path) -> None:
    """A graph without Ultralytics' metadata, and a file that is no graph, are refused."""
    with pytest.raises(SlimError, match="isn't an ONNX file with Ultralytics' metadata"):
        graph.load(write_onnx(tmp_path / "tiny.onnx"))
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(SlimError, match="isn't an ONNX file"):
        graph.load(tmp_path / "text.onnx")


def test_parsed_and_built_by_tensorrt_rtx(model: Any, ranges: Any, tmp_path: Path) -> None:
    """TensorRT's own parser and builder take the int8 and fp16 graphs."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx (the extra tensorrt-rtx)")
    body = graph.parts(model).body
    made = {
        "int8": qdq.quantize(model, body, ranges),
        "int8-tensorrt": qdq.quantize(model, body, ranges, outputs=False),
        "fp16": fp16.convert(model),
    }
    for name, quantized in made.items():
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
        path = saved(quantized, tmp_path / f"{name}.onnx")
        assert parser.parse_from_file(str(path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
        assert builder.build_serialized_network(network, builder.create_builder_config()) is not None, name
