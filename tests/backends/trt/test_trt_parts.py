"""Cache, sidecar, session and CUDA graph, in one process on the fakes; and what the workstation refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers.tiny_detector import IMGSZ, scene
from yolo_slim.backends import backend, tensorrt
from yolo_slim.backends.tensorrt.builder import PRECISION_FLAGS
from yolo_slim.backends.tensorrt.cuda_graph import CudaGraph, GraphUnavailable
from yolo_slim.backends.tensorrt.engine import Settings
from yolo_slim.backends.tensorrt.session import TensorRtSession
from yolo_slim.bundle import open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.runtime.letterbox import letterbox

Make = Callable[..., Path]
Install = Callable[..., None]


def opened(folder: Path, said: list[str] | None = None) -> TensorRtSession:
    """Build a bundle's engine and open it."""
    bundle = open_bundle(folder)
    tensorrt.build_engine(folder, bundle.spec, (said if said is not None else []).append)
    return tensorrt.open(folder, bundle.spec, 1)


def expected(path: Path, blob: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": blob})[0])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_session_computes_the_graph(make_bundle: Make, fakes: Install, graphs: dict[str, Path], precision: str) -> None:
    """The session's answer is the graph's, frame after frame, and its buffers are reused."""
    fakes()
    session = opened(make_bundle(precision))
    for size in (64, 100):
        blob, _ = letterbox(scene(size, size), IMGSZ)
        raw = session.infer(blob)
        assert (raw.shape, raw.dtype) == ((1, 6, 64), np.float32)
        np.testing.assert_array_equal(raw, expected(graphs[precision], blob))
    assert session.infer(blob) is raw
    assert session.last_gpu_ms == 1.25
    session.close()
    session.close()


def test_context_and_memory_are_given_back(make_bundle: Make, fakes: Install) -> None:
    """The CUDA context is current only during a call, and closing frees every buffer."""
    fakes()
    session = opened(make_bundle())
    driver = sys.modules["pycuda.driver"]
    assert driver.CONTEXTS == []
    session.infer(np.zeros((1, 3, *IMGSZ), np.float32))
    assert driver.CONTEXTS == []
    assert len(driver.ALLOCATED) == 2
    session.close()
    assert driver.ALLOCATED == {}


def test_failed_load_leaves_no_context(make_bundle: Make, fakes: Install) -> None:
    """An engine that can't be loaded leaves the caller's CUDA context as it was."""
    fakes()
    folder = make_bundle()
    opened(folder).close()
    fakes(FAKE_FAIL="load")
    with pytest.raises(SlimError, match="can't load this engine"):
        tensorrt.open(folder, open_bundle(folder).spec, 1)
    assert sys.modules["pycuda.driver"].CONTEXTS == []


def half_output(path: Path, out: Path) -> Path:
    """Write the fp16 graph with an FP16 output tensor."""
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "floats"
    model.graph.node.append(onnx.helper.make_node("Cast", ["floats"], ["output0"], to=onnx.TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, out)
    return out


def test_half_output_becomes_float32(fakes: Install, graphs: dict[str, Path], make_bundle: Make) -> None:
    """An engine with an FP16 output answers in float32."""
    fakes()
    folder = make_bundle()
    half_output(graphs["fp16"], folder / "model.onnx")
    spec = open_bundle_unverified(folder)
    tensorrt.build_engine(folder, spec, lambda _: None)
    session = tensorrt.open(folder, spec, 1)
    blob, _ = letterbox(scene(64, 64), IMGSZ)
    raw = session.infer(blob)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, expected(folder / "model.onnx", blob).astype(np.float32))
    session.close()


def open_bundle_unverified(folder: Path):
    """Return the specification of a folder whose model was changed on purpose."""
    from yolo_slim.bundle import read_spec

    return read_spec(folder)


def opened_with_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Build and open a bundle; with its session the driver that captures for it."""
    bundle = open_bundle(folder)
    tensorrt.build_engine(folder, bundle.spec, lambda _: None)
    import pycuda.driver

    driver = pycuda.driver.Driver()
    monkeypatch.setattr("yolo_slim.backends.tensorrt.cuda_graph.load_driver", lambda: driver)
    return tensorrt.open(folder, bundle.spec, 1), driver


def test_cuda_graph(
    make_bundle: Make, fakes: Install, graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the driver captures, every frame is one launch and computes the same."""
    fakes()
    session, driver = opened_with_driver(make_bundle(), monkeypatch)
    assert session.describe().details["cuda_graph"] is True
    assert session.describe().details["cuda_graph_reason"] == ""
    before = driver.calls.count("cuGraphLaunch")
    for size in (64, 100):
        blob, _ = letterbox(scene(size, size), IMGSZ)
        np.testing.assert_array_equal(session.infer(blob), expected(graphs["fp16"], blob))
    assert driver.calls.count("cuGraphLaunch") == before + 2
    session.close()
    assert driver.calls[-1] == "cuGraphExecDestroy"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("cuStreamBeginCapture_v2", "cuStreamBeginCapture_v2 failed with CUDA error 900"),
        ("cuGraphInstantiateWithFlags", "cuGraphInstantiateWithFlags failed"),
        ("cuGraphLaunch", "cuGraphLaunch failed"),
        ("launch", "gave other outputs than one that ran without it"),
    ],
)
def test_graph_that_fails_is_reported(
    make_bundle: Make, fakes: Install, monkeypatch: pytest.MonkeyPatch, broken: str, reason: str
) -> None:
    """A graph that can't be made, or computes something else, is dropped with the reason, and frames still come."""
    fakes()
    folder = make_bundle()
    bundle = open_bundle(folder)
    tensorrt.build_engine(folder, bundle.spec, lambda _: None)
    import pycuda.driver

    monkeypatch.setattr("yolo_slim.backends.tensorrt.cuda_graph.load_driver", lambda: pycuda.driver.Driver(broken))
    session = tensorrt.open(folder, bundle.spec, 1)
    described = session.describe().details
    assert described["cuda_graph"] is False
    assert reason in described["cuda_graph_reason"]
    blob, _ = letterbox(scene(64, 64), IMGSZ)
    assert session.infer(blob).any()
    session.close()


def test_graph_that_fails_later(make_bundle: Make, fakes: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that fails after opening is a message with a remedy, and a graph that can't be freed stops nothing."""
    fakes()
    session, driver = opened_with_driver(make_bundle(), monkeypatch)
    driver.broken = "cuGraphLaunch"
    with pytest.raises(SlimError, match="cuGraphLaunch failed with CUDA error 900") as caught:
        session.infer(letterbox(scene(64, 64), IMGSZ)[0])
    assert "tensorrt.cuda_graph" in caught.value.remedy
    driver.broken = "cuGraphExecDestroy"
    session.close()
    assert driver.calls[-1] == "cuGraphExecDestroy"


def test_graph_switched_off(make_bundle: Make, fakes: Install) -> None:
    """The bundle's setting turns graphs off and the answer says so."""
    fakes()
    session = opened(make_bundle(cuda_graph=False))
    assert "switched off" in session.describe().details["cuda_graph_reason"]
    session.close()


def test_capture_ends_after_an_error(fakes: Install) -> None:
    """A call that can't be captured ends the capture, so that the stream lives on."""
    fakes()
    import pycuda.driver

    driver = pycuda.driver.Driver()

    def enqueue() -> None:
        raise RuntimeError("not permitted when stream is capturing")

    with pytest.raises(GraphUnavailable, match="not permitted"):
        CudaGraph(77, enqueue, driver)
    assert driver.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "10.16.1", "11.4.0"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_flags_by_version(make_bundle: Make, fakes: Install, version: str, precision: str) -> None:
    """Precision flags: on 8.6 always, up to 10 for int8 alone, later never; the workspace always."""
    fakes(version)
    folder = make_bundle(precision, workspace_mb=256)
    tensorrt.build_engine(folder, open_bundle(folder).spec, lambda _: None)
    (asked,) = sys.modules["tensorrt"].BUILDS
    is_weak = version == "8.6.1" or (precision == "int8" and version.startswith("10."))
    assert asked["network"] == ({"EXPLICIT_BATCH"} if is_weak else {"STRONGLY_TYPED"})
    assert asked["flags"] == (set(PRECISION_FLAGS[precision]) if is_weak else set())
    assert asked["limits"] == {"WORKSPACE": 256 << 20}


@pytest.mark.parametrize(("version", "reports"), [("8.6.1", False), ("10.3.0", True), ("11.4.0", True)])
def test_progress(make_bundle: Make, fakes: Install, version: str, reports: bool) -> None:
    """The builder's steps are reported where TensorRT reports them."""
    fakes(version)
    said: list[str] = []
    opened(make_bundle(), said).close()
    assert said == (["Building Engine: 1 of 2", "Building Engine: 2 of 2"] if reports else [])


def caches(tmp_path: Path) -> list[Path]:
    """Return the cache's files."""
    return sorted((tmp_path / "cache/yolo_slim/tensorrt").glob("*"))


def test_timing_cache_is_kept_per_device(make_bundle: Make, fakes: Install, tmp_path: Path) -> None:
    """Each GPU and TensorRT has its own cache file, outside the bundle, and no temporary file is left."""
    fakes()
    folder = make_bundle()
    spec = open_bundle(folder).spec
    tensorrt.build_engine(folder, spec, lambda _: None)
    fakes("10.16.1")
    tensorrt.build_engine(folder, spec, lambda _: None)
    names = [path.name for path in caches(tmp_path)]
    assert names == ["Orin-sm8.7-trt10.16.1-cuda12.6.timing", "Orin-sm8.7-trt10.3.0-cuda12.6.timing"]


def test_timing_cache_is_merged(make_bundle: Make, fakes: Install, tmp_path: Path, graphs: dict[str, Path]) -> None:
    """What another build wrote in the meantime is kept beside what this one measured."""
    fakes()
    folder = make_bundle()
    spec = open_bundle(folder).spec
    tensorrt.build_engine(folder, spec, lambda _: None)
    (path,) = caches(tmp_path)
    value = json.loads(path.read_text())

    def meanwhile(_: str) -> None:
        path.write_text(json.dumps({**value, "entries": ["another"]}))

    tensorrt.build_engine(folder, spec, meanwhile, force=True)
    assert json.loads(path.read_text())["entries"] == sorted(["another", *value["entries"]])


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
@pytest.mark.parametrize("content", ["cut off", json.dumps({"version": "9.9", "entries": []})])
def test_unusable_cache(make_bundle: Make, fakes: Install, tmp_path: Path, version: str, content: str) -> None:
    """A damaged or foreign cache file is replaced; the build continues and says so."""
    fakes(version)
    folder = make_bundle()
    spec = open_bundle(folder).spec
    tensorrt.build_engine(folder, spec, lambda _: None)
    (path,) = caches(tmp_path)
    path.write_text(content)
    engine = tensorrt.build_engine(folder, spec, lambda _: None, force=True)
    assert engine.sidecar.facts.timing_cache.startswith("new (")
    assert json.loads(path.read_text())["version"] == version


def test_cache_off_and_unwritable(make_bundle: Make, fakes: Install, tmp_path: Path) -> None:
    """Without a cache nothing is written; a cache folder that can't be written is said and no error."""
    fakes()
    folder = make_bundle(timing_cache=False)
    spec = open_bundle(folder).spec
    assert tensorrt.build_engine(folder, spec, lambda _: None).sidecar.facts.timing_cache == "off"
    assert caches(tmp_path) == []
    (tmp_path / "cache").write_text("a file where a folder should be")
    from dataclasses import replace

    engine = tensorrt.build_engine(folder, replace(spec, engine={}), lambda _: None)
    assert engine.sidecar.facts.timing_cache.startswith("not kept: ")


def test_settings_are_checked() -> None:
    """Unknown and impossible settings are all named, and right ones pass."""
    with pytest.raises(SlimError) as caught:
        Settings.from_json({"workspce_mb": 1, "optimization_level": 9, "dla_core": "0", "gpu_fallback": 1})
    text = str(caught.value)
    for part in (
        "Did you mean 'workspace_mb'?",
        "optimization_level: got 9",
        "dla_core: got '0'",
        "gpu_fallback: got 1",
    ):
        assert part in text
    assert Settings.from_json({"workspace_mb": 64}).workspace_mb == 64


def test_other_setting_needs_another_engine(make_bundle: Make, fakes: Install) -> None:
    """An engine of other settings is refused; a setting that only concerns running is not."""
    from dataclasses import replace

    fakes()
    folder = make_bundle()
    spec = open_bundle(folder).spec
    opened(folder).close()
    tensorrt.open(folder, replace(spec, engine={"cuda_graph": False}), 1).close()
    with pytest.raises(SlimError) as caught:
        tensorrt.open(folder, replace(spec, engine={"workspace_mb": 64}), 1)
    assert caught.value.culprits == ("workspace_mb: 1024 in the engine, 64 here",)


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 1, "built_for": 3, "engine_sha256": "", "size_bytes": 1}'])
def test_damaged_sidecar(make_bundle: Make, fakes: Install, content: str) -> None:
    """A sidecar that lacks a key, or has another type, is refused and build replaces it."""
    fakes()
    folder = make_bundle()
    opened(folder).close()
    (folder / "engine/model.engine.json").write_text(content)
    with pytest.raises(SlimError, match="is incomplete or isn't a sidecar"):
        tensorrt.open(folder, open_bundle(folder).spec, 1)
    assert tensorrt.build_engine(folder, open_bundle(folder).spec, lambda _: None).kept is False


def test_missing_packages(fakes: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message for missing TensorRT names its package and the flag of venv; for PyCUDA the way per JetPack."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(SlimError) as caught:
        backend("tensorrt").versions()
    assert "python3-libnvinfer" in caught.value.remedy
    assert "--system-site-packages" in caught.value.remedy
    fakes()
    monkeypatch.setitem(sys.modules, "pycuda", None)
    for release, way in (("36.4.3", "JetPack 6: "), ("38.2", "JetPack 7: "), (None, "JetPack 6: ")):
        monkeypatch.setattr("yolo_slim.backends.tensorrt.sdk.l4t_version", lambda release=release: release)
        with pytest.raises(SlimError) as caught:
            tensorrt.versions()
        assert caught.value.remedy.startswith(way)
        assert "pip install pycuda==" in caught.value.remedy


def test_old_tensorrt(fakes: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TensorRT without the tensor-name API is refused with the JetPack that has it."""
    fakes()
    import tensorrt as fake

    monkeypatch.delattr(fake.IExecutionContext, "execute_async_v3")
    with pytest.raises(SlimError, match="execute_async_v3") as caught:
        tensorrt.versions()
    assert "JetPack 6.0" in caught.value.remedy


@pytest.mark.parametrize(("asked", "given"), [("int8", "fp16"), ("fp16", "int8"), ("fp16", "fp32"), ("fp32", "fp16")])
def test_graph_of_another_precision(graphs: dict[str, Path], tmp_path: Path, asked: str, given: str) -> None:
    """Asked for one precision and given a graph of another is an error, never a silent engine of the other."""
    with pytest.raises(SlimError, match=f"is {given}, and a {asked} bundle was asked for"):
        tensorrt.build(graphs[given], tmp_path, precision=asked, imgsz=IMGSZ)
    assert list(tmp_path.iterdir()) == []
    tensorrt.build(graphs[asked], tmp_path, precision=asked, imgsz=IMGSZ)


def test_dynamic_or_other_shape(graphs: dict[str, Path], tmp_path: Path) -> None:
    """A dynamic batch, another size and a file that isn't ONNX are refused with both sizes."""
    with pytest.raises(SlimError) as caught:
        tensorrt.build(graphs["fp32"], tmp_path, precision="fp32", imgsz=(32, 32))
    assert "got images [1, 3, 64, 64]; expected one float32 tensor [1, 3, 32, 32]" in caught.value.culprits[0]
    model = onnx.load(graphs["fp32"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "dynamic.onnx")
    with pytest.raises(SlimError, match="batch"):
        tensorrt.build(tmp_path / "dynamic.onnx", tmp_path, precision="fp32", imgsz=IMGSZ)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(SlimError, match="isn't a readable ONNX file"):
        tensorrt.build(tmp_path / "broken.onnx", tmp_path, precision="fp32", imgsz=IMGSZ)
    with pytest.raises(SlimError, match="not int4"):
        tensorrt.build(graphs["fp32"], tmp_path, precision="int4", imgsz=IMGSZ)
