"""Single convolutions: every runtime loads the graphs that its backend writes, and a device times them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo_slim.backends.layers import ACTIVATIONS, Layer, LayerKind, layer_graph_of, open_layer_of
from yolo_slim.build_key import BuildName
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.machine import read_state
from yolo_slim.measuring.layer_graphs import name_of, times_layers, write
from yolo_slim.runtime import layers
from yolo_slim.runtime.__main__ import main
from yolo_slim.runtime.layers import LayerTimes, time_layers

KIND = LayerKind(kernel=(3, 3), stride=(2, 2), padding=(1, 1), depthwise=False, size=(16, 12), activation="silu")
BUILDS = [BuildName("onnxruntime", "fp32"), BuildName("ncnn", "fp16")]


def size_of(output: Any) -> int:
    """How many values a layer's output has; NCNN's own layout holds several channels in one element."""
    if isinstance(output, list):
        return int(output[0].size)
    return int(output.w * output.h * output.c * output.elempack)


@pytest.mark.parametrize("build", BUILDS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depthwise", [False, True])
def test_graphs_load_and_run(build: BuildName, activation: str, depthwise: bool) -> None:
    """The output has the shape of the convolution, for every activation, dense and depthwise."""
    kind = replace(KIND, activation=activation, depthwise=depthwise)
    layer = Layer(kind=kind, inputs=8, outputs=8 if depthwise else 24)
    write_graph, open_graph = layer_graph_of(build.runtime), open_layer_of(build.runtime)
    assert write_graph is not None
    assert open_graph is not None
    run = open_graph(write_graph(layer), 1)(np.ones((1, *layer.input_shape), np.float32))
    assert size_of(run()) == layer.outputs * 8 * 6


@pytest.mark.parametrize("lost", ["packed", "out0"])
def test_layer_that_ncnn_cannot_run_has_no_time(lost: str) -> None:
    """A tensor that can't be computed is an error: its layer would be timed as one that costs nothing."""
    layer = Layer(kind=KIND, inputs=8, outputs=24)
    write_graph, open_graph = layer_graph_of("ncnn"), open_layer_of("ncnn")
    assert write_graph is not None
    assert open_graph is not None
    prepare = open_graph(write_graph(layer).replace(lost, "elsewhere"), 1)
    with pytest.raises(SlimError, match=f"'{lost}' of a single layer"):
        prepare(np.ones((1, *layer.input_shape), np.float32))()


def test_file_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every layer of a file has a time, the wider one a longer one, by the device's command too."""
    kind = replace(KIND, size=(64, 64), stride=(1, 1))
    pair = [Layer(kind=kind, inputs=8, outputs=8), Layer(kind=kind, inputs=64, outputs=64)]
    file = tmp_path / "layers.json"
    write(file, pair, BUILDS[0], 2)
    found = time_layers(file)
    assert list(found.ms) == [name_of(layer) for layer in pair]
    assert 0 < found.ms["8-8"] < found.ms["64-64"]
    assert main(["layers", str(file), "--json", str(tmp_path / "answer.json")]) in (0, 1)
    assert set(LayerTimes.from_json(read_json(tmp_path / "answer.json")).ms) == set(found.ms)
    assert "64-64" in capsys.readouterr().out


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file, another schema and a runtime without layers are one message and exit code 2."""
    missing, other, engine = tmp_path / "missing.json", tmp_path / "other.json", tmp_path / "engine.json"
    write_json(other, {"schema": 99})
    write_json(engine, {"schema": 1, "runtime": "tensorrt", "threads": 1, "graphs": []})
    for file, text in ((missing, "File not found"), (other, "schema 1"), (engine, "can't time single layers")):
        assert main(["layers", str(file)]) == 2
        assert text in capsys.readouterr().err
    with pytest.raises(SlimError, match="damaged"):
        LayerTimes.from_json({"schema": 1, "ms": {"8-8": 1.0}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ms", {"8-8": math.nan}), ("ms", {"8-8": "1.0"}), ("ms", {"8-8": -1.0}), ("ms", [1.0]), ("threads", "2"),
        ("invalid_reasons", "busy"), ("schema", 2),
    ],
)  # fmt: skip
def test_damaged_answer_is_refused(key: str, value: object) -> None:
    """A device's answer with texts or impossible numbers is one message; the whole answer is read."""
    whole = LayerTimes(ms={"8-8": 1.0}, threads=2, invalid_reasons=("busy",))
    assert LayerTimes.from_json(whole.to_json()) == whole
    with pytest.raises(SlimError, match="timing of layers is damaged"):
        LayerTimes.from_json(whole.to_json() | {key: value})


def test_hot_machine_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that were timed above the limit don't count; without a limit they do."""
    monkeypatch.setattr(layers, "read_state", lambda: replace(read_state(), celsius=81.0))
    file = tmp_path / "layers.json"
    write(file, [Layer(kind=KIND, inputs=8, outputs=8)], BUILDS[0], 1)
    hot = "81.0 C before the run, above 80 C"
    assert hot in time_layers(file, max_celsius=80.0).invalid_reasons
    assert not [one for one in time_layers(file).invalid_reasons if "81.0 C" in one]


def test_runtime_without_single_layers_is_refused(tmp_path: Path) -> None:
    """TensorRT builds its engines on the device, so there is no file of layers for it."""
    tensorrt = BuildName("tensorrt", "fp16")
    assert [times_layers(build) for build in (*BUILDS, tensorrt)] == [True] * len(BUILDS) + [False]
    with pytest.raises(SlimError, match="tensorrt can't time single layers"):
        write(tmp_path / "layers.json", [Layer(kind=KIND, inputs=8, outputs=8)], tensorrt, 1)
