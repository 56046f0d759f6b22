"""The quantize stage: skipped when fresh, equal bytes twice, whole outputs, and clear errors for bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.shared import FAST
from tests.helpers.tiny_detector import write_onnx
from yolo_slim.backends import backend
from yolo_slim.config.run import ExportConfig, QuantizeConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256
from yolo_slim.models.exported import layout_of
from yolo_slim.progress import Progress, Silent
from yolo_slim.quantization import calibration_file, graph, qdq
from yolo_slim.quantization.layer_errors import first_bad_layer
from yolo_slim.stages import export, quantize
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import read_manifest, require_manifest


def at(data: Path, imgsz: int = 64, progress: Progress | None = None) -> Context:
    """Return the context of a call on a data set."""
    return Context.load(data, imgsz=imgsz, progress=progress or Silent())


def facts(folder: Path) -> dict[str, Any]:
    """Return what a finished stage measured."""
    return require_manifest(folder, "quantize").facts


@pytest.fixture(scope="module")
def data(example_graphs: Path) -> Path:
    """Return the data.yaml of 44 training scenes of 64 px."""
    return example_graphs / "data" / "data.yaml"


@pytest.fixture(scope="module")
def exported(example_graphs: Path) -> Path:
    """Return the shipped yolo11n as an ONNX file of 64 px."""
    return example_graphs / "onnx" / "model.onnx"


@pytest.fixture(scope="module")
def made(example_graphs: Path) -> quantize.QuantizeOutputs:
    """Return the stage's outputs."""
    return quantize.finished_in(example_graphs / "quantize")


@pytest.fixture(scope="module")
def small(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a detector of random weights with 17 convolutions in its body: the stage's rules need no accuracy."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    names = load_dataset(data).names
    stages = [[-1, 1, "Conv", [width, 3, 2]] for width in (8, 16, 16, 16, 16)]
    layout = {"nc": len(names), "backbone": stages, "head": [[[2, 3, 4], 1, "Detect", ["nc"]]]}
    model = DetectionModel(layout, verbose=False)
    model.names, model.args = names, {"task": "detect", "imgsz": 64}
    path = tmp_path_factory.mktemp("small") / "small.pt"
    torch.save({"model": model, "ema": None, "epoch": -1, "train_args": model.args, "version": "8"}, path)
    return export.run(path, ExportConfig(parity_images=1), path.parent / "export", at(data)).onnx


class Spoken:
    """A listener that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str, done: int, total: int) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


def test_outputs(made: quantize.QuantizeOutputs, exported: Path, data: Path) -> None:
    """Three graphs with the export's metadata, a calibration that loads, and a manifest with what was measured."""
    assert set(made.graphs) == {"int8", "int8-tensorrt", "fp16"}
    for path in made.graphs.values():
        assert layout_of(path) == layout_of(exported)
    assert made.calibration is not None
    assert made.layer_errors is not None
    frozen = calibration_file.load(made.calibration, load_dataset(data), imgsz=64)
    assert (len(frozen.images), len(frozen.check)) == (32, 11)
    found = facts(made.calibration.parent)
    body = len(graph.parts(graph.load(exported)).body)
    rows = read_json(made.layer_errors)["layers"]
    assert len(rows) == body
    assert found["convolutions"]["integer"] == sum(not row["kept_float"] for row in rows) >= body - 2
    assert found["parity"]["fp16"]["error"] < found["parity"]["int8"]["error"] < 0.3
    assert first_bad_layer(made.layer_errors)
    assert set(made.graphs) == {"int8", "int8-tensorrt", "fp16"}


def test_fresh_is_kept_and_twice_is_equal(small: Path, data: Path, tmp_path: Path) -> None:
    """A second call keeps everything; another folder gets the same bytes; a damaged output is made again."""
    inputs = quantize.QuantizeInputs(onnx=small)
    first = quantize.run(inputs, FAST, tmp_path / "first", at(data))
    spoken = Spoken()
    quantize.run(inputs, FAST, tmp_path / "first", at(data, progress=spoken))
    assert spoken.lines == ["quantize: up to date, skipped"]
    again = quantize.run(inputs, FAST, tmp_path / "again", at(data))
    outputs = [
        {path.name: sha256(path) for path in folder.iterdir() if path.name != "manifest.json"}
        for folder in (tmp_path / "first", tmp_path / "again")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 5
    again.graphs["int8"].write_bytes(b"damaged")
    quantize.run(inputs, FAST, tmp_path / "again", at(data))
    assert sha256(again.graphs["int8"]) == sha256(first.graphs["int8"])


def test_given_calibration_and_one_precision(
    made: quantize.QuantizeOutputs, small: Path, data: Path, tmp_path: Path
) -> None:
    """A given calibration is passed on byte by byte; fp16 alone needs none and writes no int8 file."""
    inputs = quantize.QuantizeInputs(onnx=small, calibration=made.calibration)
    none = QuantizeConfig(images=32, scan_images=1, max_float_layers=0, check_images=0, parity_images=1)
    int8 = quantize.run(inputs, none, tmp_path / "int8", at(data), precisions=["int8"])
    assert int8.calibration is not None
    assert made.calibration is not None
    assert int8.calibration.read_bytes() == made.calibration.read_bytes()
    half = quantize.run(inputs, FAST, tmp_path / "fp16", at(data), precisions=["fp16"])
    assert (set(half.graphs), half.calibration, half.layer_errors) == ({"fp16"}, None, None)
    assert sorted(path.name for path in (tmp_path / "fp16").iterdir()) == ["manifest.json", "model-fp16.onnx"]


def test_bundle_precision(made: quantize.QuantizeOutputs, exported: Path, tmp_path: Path) -> None:
    """ONNX Runtime builds int8 from the int8 graph and from no other; an int8 graph isn't fp32."""
    ort = backend("onnxruntime")
    ort.build(made.graphs["int8"], tmp_path, precision="int8", imgsz=(64, 64))
    with pytest.raises(SlimError, match="is an fp32 graph, but int8 was asked for"):
        ort.build(exported, tmp_path, precision="int8", imgsz=(64, 64))
    with pytest.raises(SlimError, match="is an int8 graph, but fp32 was asked for"):
        ort.build(made.graphs["int8"], tmp_path, precision="fp32", imgsz=(64, 64))
    with pytest.raises(SlimError, match="fp32 or int8, not fp16"):
        ort.build(exported, tmp_path, precision="fp16", imgsz=(64, 64))


def test_trained_quantization_is_kept(
    made: quantize.QuantizeOutputs, exported: Path, data: Path, tmp_path: Path
) -> None:
    """A graph that comes with Q/DQ nodes keeps its layers and codes, and gets no layers put back to float."""
    came = made.graphs["int8-tensorrt"]
    outputs = quantize.run(quantize.QuantizeInputs(onnx=came), FAST, tmp_path / "out", at(data), precisions=["int8"])
    assert outputs.layer_errors is None
    assert qdq.blockers(graph.load(outputs.graphs["int8"])) == []
    wanted = facts(came.parent)["convolutions"]["integer"]
    assert facts(tmp_path / "out")["convolutions"]["integer"] == wanted


def test_another_size(small: Path, data: Path, tmp_path: Path) -> None:
    """A run of another input side than the graph's is refused before anything is written."""
    inputs = quantize.QuantizeInputs(onnx=small)
    with pytest.raises(SlimError, match="takes 64x64 px, the run 128x128"):
        quantize.run(inputs, FAST, tmp_path / "out", at(data, 128))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precisions", [["int4"], []])
def test_unknown_precision(precisions: list[str], small: Path, data: Path, tmp_path: Path) -> None:
    """Precisions other than int8 and fp16 are refused."""
    inputs = quantize.QuantizeInputs(onnx=small)
    with pytest.raises(SlimError, match="makes int8 and fp16"):
        quantize.run(inputs, FAST, tmp_path / "out", at(data), precisions=precisions)


def test_not_our_graph(data: Path, tmp_path: Path) -> None:
    """An ONNX file without Ultralytics' metadata is refused."""
    inputs = quantize.QuantizeInputs(onnx=write_onnx(tmp_path / "tiny.onnx"))
    with pytest.raises(SlimError, match="isn't an ONNX file with Ultralytics' metadata"):
        quantize.run(inputs, FAST, tmp_path / "out", at(data))


def test_too_few_images(small: Path, tmp_path: Path) -> None:
    """A training split of 8 images can't calibrate int8, and nothing is written; fp16 needs none."""
    from yolo_slim.datasets import quickstart

    data = quickstart.generate(tmp_path / "data", counts={"train": 8, "val": 2, "test": 2}, imgsz=64)
    inputs = quantize.QuantizeInputs(onnx=small)
    with pytest.raises(SlimError, match="8 training images to calibrate int8 on, at least 32"):
        quantize.run(inputs, FAST, tmp_path / "out", at(data))
    assert not (tmp_path / "out").exists()
    assert quantize.run(inputs, FAST, tmp_path / "out", at(data), precisions=["fp16"]).graphs["fp16"].is_file()


def test_changed_calibration_image(made: quantize.QuantizeOutputs, small: Path, data: Path, tmp_path: Path) -> None:
    """A frozen calibration whose image has changed is refused, and the earlier result stays."""
    shutil.copytree(data.parent, tmp_path / "data")
    assert made.calibration is not None
    first = read_json(made.calibration)["images"][0]["image"]
    image = tmp_path / "data" / first
    image.write_bytes(image.read_bytes() + b"x")
    inputs = quantize.QuantizeInputs(onnx=small, calibration=made.calibration)
    with pytest.raises(SlimError, match=r"1 of its .* images are gone or have changed"):
        quantize.run(inputs, FAST, tmp_path / "out", at(tmp_path / "data" / data.name))


def test_drifted_recipe_stops(small: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantized biases, which TensorRT refuses, are an error of the stage, not of the device."""
    monkeypatch.setitem(qdq.EXTRA_OPTIONS, "QuantizeBias", True)
    none = QuantizeConfig(images=32, scan_images=1, max_float_layers=0, check_images=0, parity_images=1)
    inputs = quantize.QuantizeInputs(onnx=small)
    with pytest.raises(SlimError, match="TensorRT would refuse the int8 graph"):
        quantize.run(inputs, none, tmp_path / "out", at(data), precisions=["int8"])
    assert not read_manifest(tmp_path / "out")


def test_detects_nothing(small: Path, data: Path, tmp_path: Path) -> None:
    """A network that detects nothing is quantized too: no score, no drop, no crash."""
    quantize.run(quantize.QuantizeInputs(onnx=small), FAST, tmp_path / "out", at(data))
    assert facts(tmp_path / "out")["convolutions"]["integer"] == len(graph.parts(graph.load(small)).body)
