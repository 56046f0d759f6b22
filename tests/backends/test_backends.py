from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.helpers.tiny_detector import IMGSZ, PRECISION, build_bundle, scene
from yolo_slim import backends
from yolo_slim.backends import BACKENDS, backend, options_of
from yolo_slim.bundle import PACKAGES, PRECISIONS, RUNTIMES
from yolo_slim.errors import SlimError
from yolo_slim.runtime.letterbox import letterbox
from yolo_slim.runtime.selfcheck import check

TOLERANCE = {"onnxruntime": 0.0, "ncnn": 0.05, "mnn": 0.05}
"""Largest difference to ONNX Runtime: weights are fp16 there, a box's corner at 64 pixels moves by up to 1/32."""


@pytest.fixture(params=[name for name in BACKENDS if name != "tensorrt"])
def runtime(request: pytest.FixtureRequest) -> str:
    """Return the name of every runtime that runs here in turn; tests/backends/trt is TensorRT's."""
    if request.param == "mnn":
        pytest.importorskip("MNN", reason="MNN isn't installed (extra mnn)")
    return str(request.param)


def reference(path: Path, blob: np.ndarray) -> np.ndarray:
    """Return what a plain ONNX Runtime session computes."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": blob})[0])


def test_tables_agree() -> None:
    """Every runtime is a folder of the backends with its packages, and builds only known precisions."""
    folders = {path.parent.name for path in Path(backends.__file__).parent.glob("*/__init__.py")}
    assert folders == set(BACKENDS) == set(RUNTIMES) == set(PACKAGES)
    assert {name: set(backend(name).PRECISIONS) <= set(PRECISIONS) for name in RUNTIMES} == dict.fromkeys(
        RUNTIMES, True
    )


def test_module_satisfies_the_protocol(runtime: str) -> None:
    """A backend's module has its name, precisions and versions."""
    module = backend(runtime)
    assert runtime == module.NAME
    assert PRECISION[runtime] in module.PRECISIONS
    assert tuple(module.versions()) == PACKAGES[runtime]


def test_raw_output_is_that_of_the_graph(runtime: str, tiny_onnx: Path, tmp_path: Path) -> None:
    """A built bundle computes what the ONNX file says, also on its second frame."""
    bundle = build_bundle(tiny_onnx, tmp_path / "bundle", runtime)
    session = backend(runtime).open(bundle.folder, bundle.spec, 1)
    for size in (64, 100):
        blob, _ = letterbox(scene(size, size), IMGSZ)
        raw = session.infer(blob)
        assert (raw.shape, raw.dtype) == ((1, 6, 64), np.float32)
        np.testing.assert_allclose(raw, reference(tiny_onnx, blob), rtol=0, atol=TOLERANCE[runtime])
    session.close()


def test_options_compute_the_same(tiny_onnx: Path, tmp_path: Path, runtime: str) -> None:
    """Every option that a device may tune leaves the numbers within the runtime's tolerance, and is said to be used."""
    bundle = build_bundle(tiny_onnx, tmp_path / "bundle", runtime)
    blob, _ = letterbox(scene(), IMGSZ)
    expected = reference(tiny_onnx, blob)
    for name, values in options_of(runtime).items():
        for value in values:
            session = backend(runtime).open(bundle.folder, bundle.spec, 1, **{name: value})
            np.testing.assert_allclose(session.infer(blob), expected, rtol=0, atol=max(TOLERANCE[runtime], 1e-6))
            assert session.describe().details[name] in (value, False)  # NCNN has no fp16 arithmetic on most x86
            session.close()


def test_bundle_passes_its_selfcheck(runtime: str, tiny_onnx: Path, tmp_path: Path) -> None:
    """A bundle of every runtime passes its own check, and says what ran."""
    report = check(build_bundle(tiny_onnx, tmp_path / "bundle", runtime))
    assert report.is_passed
    assert report.runtime.runtime == runtime
    assert report.runtime.precision == PRECISION[runtime]
    assert report.runtime.threads == 1


def test_build_leaves_its_input_alone(runtime: str, tiny_onnx: Path, tmp_path: Path) -> None:
    """Building writes into the output folder only: nothing beside the ONNX file."""
    built = backend(runtime).build(tiny_onnx, tmp_path, precision=PRECISION[runtime], imgsz=IMGSZ)
    assert {path.name for path in tmp_path.iterdir()} == set(built.model.values())
    assert [path.name for path in tiny_onnx.parent.iterdir()] == [tiny_onnx.name]


def test_unknown_precision(runtime: str, tiny_onnx: Path, tmp_path: Path) -> None:
    """A precision that a backend can't build is an error, never another precision."""
    with pytest.raises(SlimError, match="not int4"):
        backend(runtime).build(tiny_onnx, tmp_path, precision="int4", imgsz=IMGSZ)


def test_unreadable_onnx(runtime: str, tmp_path: Path) -> None:
    """A file that isn't ONNX is an error and nothing is written."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(SlimError):
        backend(runtime).build(broken, out, precision=PRECISION[runtime], imgsz=IMGSZ)
    assert list(out.iterdir()) == []


def test_unknown_runtime() -> None:
    """A misspelt runtime is an error with the one meant."""
    with pytest.raises(SlimError, match="Did you mean 'onnxruntime'"):
        backend("onnxruntim")


def test_missing_package(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that isn't installed is an error that says how to install it."""
    (package,) = next(names for name, names in PACKAGES.items() if name == runtime)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SlimError) as caught:
        backend(runtime).versions()
    assert f"pip install {package}" in caught.value.remedy


def test_missing_pnnx(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pnnx an NCNN bundle can't be built and the message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SlimError) as caught:
        backend("ncnn").build(tiny_onnx, tmp_path, precision="fp16", imgsz=IMGSZ)
    assert "pip install pnnx" in caught.value.remedy


@pytest.mark.parametrize(("dims", "got"), [([1, 3, 32, 32], "[1, 3, 32, 32]"), (["batch", 3, 64, 64], "batch")])
def test_other_input_shape(tiny_onnx: Path, tmp_path: Path, dims: list[int | str], got: str) -> None:
    """A graph of another or a dynamic size is refused with both sizes."""
    model = onnx.load(tiny_onnx)
    for dimension, value in zip(model.graph.input[0].type.tensor_type.shape.dim, dims, strict=True):
        dimension.Clear()
        setattr(dimension, "dim_param" if isinstance(value, str) else "dim_value", value)
    if got == "[1, 3, 32, 32]":
        del model.graph.node[3:]
        model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("scores", 1, [1, 2, 4, 4]))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(SlimError, match="fixed-shape") as caught:
        backend("onnxruntime").build(tmp_path / "other.onnx", tmp_path, precision="fp32", imgsz=IMGSZ)
    assert got in caught.value.culprits[0]
    assert "(1, 3, 64, 64)" in caught.value.culprits[0]
