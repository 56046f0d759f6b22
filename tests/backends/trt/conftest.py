"""Fixtures: bundles for TensorRT, and a process in which the fake SDKs stand in for NVIDIA's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers import tiny_detector
from yolo_slim.backends import backend
from yolo_slim.bundle import BundleSpec, write_bundle_json
from yolo_slim.runtime.__main__ import main
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import make_selfcheck

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the tiny detector's graph by precision; don't change the files."""
    folder = tmp_path_factory.mktemp("graphs")
    plain = tiny_detector.write_onnx(folder / "fp32.onnx")
    return {"fp32": plain, "fp16": as_fp16(plain), "int8": as_int8(plain)}


def as_fp16(path: Path) -> Path:
    """Write the graph with FP16 weights and convolution, float input and output."""
    model = onnx.load(path)
    for tensor in list(model.graph.initializer):
        if tensor.name in ("weights", "bias"):
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
            model.graph.initializer.remove(tensor)
            model.graph.initializer.append(half)
    nodes = list(model.graph.node)
    nodes[1].input[0], nodes[1].output[0] = "mean_half", "logits_half"
    nodes.insert(1, helper.make_node("Cast", ["mean"], ["mean_half"], to=onnx.TensorProto.FLOAT16))
    nodes.insert(3, helper.make_node("Cast", ["logits_half"], ["logits"], to=onnx.TensorProto.FLOAT))
    return _saved(model, nodes, path.with_name("fp16.onnx"))


def as_int8(path: Path) -> Path:
    """Write the graph with a symmetric Q/DQ pair before the convolution."""
    model = onnx.load(path)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(1 / 127), "scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ]
    )
    nodes = list(model.graph.node)
    nodes[1].input[0] = "mean_dq"
    nodes.insert(1, helper.make_node("QuantizeLinear", ["mean", "scale", "zero"], ["mean_q"], name="quantize"))
    nodes.insert(2, helper.make_node("DequantizeLinear", ["mean_q", "scale", "zero"], ["mean_dq"], name="dequantize"))
    return _saved(model, nodes, path.with_name("int8.onnx"))


def _saved(model: onnx.ModelProto, nodes: list[onnx.NodeProto], path: Path) -> Path:
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def make_bundle(graphs: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a TensorRT bundle with a self-check made by ONNX Runtime."""

    def make(precision: str = "fp16", onnx_path: Path | None = None, **settings: object) -> Path:
        folder = tmp_path / "bundle"
        folder.mkdir()
        source = onnx_path or graphs[precision]
        built = backend("tensorrt").build(source, folder, precision=precision, imgsz=tiny_detector.IMGSZ)
        spec = BundleSpec(
            name="tiny",
            target="jetson-orin-nano",
            runtime="tensorrt",
            precision=precision,
            imgsz=tiny_detector.IMGSZ,
            stride=tiny_detector.CELL,
            names=tiny_detector.NAMES,
            layout="one2many",
            threads=1,
            model=built.model,
            input_name=built.input_name,
            output_name=built.output_name,
            files={},
            provenance={"weights": "made by hand"},
            engine=dict(settings),
        )
        add_selfcheck(folder, spec, source)
        write_bundle_json(folder, spec)
        return folder

    return make


def add_selfcheck(folder: Path, spec: BundleSpec, source: Path) -> None:
    """Write what the fp32 graph's own ONNX Runtime bundle detects on one scene."""
    host = tiny_detector.build_bundle(source.with_name("fp32.onnx"), folder.parent / "host", "onnxruntime")
    image = folder.parent / "scene.png"
    cv2.imwrite(str(image), tiny_detector.scene(64, 64))
    with Detector(host) as detector:
        make_selfcheck(folder, [image], detector)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Return a function that installs fresh fakes of a version in this process; they go when the test ends."""
    monkeypatch.syspath_prepend(str(FAKES))

    def install(version: str = "10.3.0", **variables: str) -> None:
        for name in ("FAKE_FAIL", "FAKE_CUDA", "FAKE_GPU", "FAKE_DLA_CORES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"FAKE_TENSORRT": version, "XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}.items():
            monkeypatch.setenv(name, value)
        _forget_fakes()

    yield install
    _forget_fakes()


def _forget_fakes() -> None:
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        sys.modules.pop(name, None)


@pytest.fixture
def device(fakes: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs one device command with fresh fakes; keywords are the fakes' variables."""

    def run(*arguments: object, **variables: str) -> Done:
        fakes(variables.pop("FAKE_TENSORRT", "10.3.0"), **variables)
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run
