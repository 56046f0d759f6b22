"""Blockers found before there is a device, each with a graph that has it and one that doesn't."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import tiny_detector
from yolo_slim.backends.tensorrt.engine import Settings
from yolo_slim.config import targets
from yolo_slim.config.profile import Profile, TensorRt
from yolo_slim.errors import SlimError
from yolo_slim.export.preflight import UNPROVEN, Preflight, preflight
from yolo_slim.export.preflight.rtx import build_ahead

NANO, NX, THOR = "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-thor"
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx: pip install 'yolo-slim[jetson]'"
)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return the tiny detector's fp32 graph, to be changed at will."""
    return tiny_detector.write_onnx(tmp_path / "model.onnx")


def edited(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """Change a graph in place."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def quantized(path: Path, *, zero: int = 0, kind: type = np.int8, bias: bool = False) -> Path:
    """Put a Q/DQ pair before the convolution; with ``bias`` its bias is a dequantized int32 too."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.initializer.append(numpy_helper.from_array(np.float32(1 / 127), "scale"))
        graph.initializer.append(numpy_helper.from_array(kind(zero), "zero"))
        graph.node[1].input[0] = "dq"
        graph.node.insert(1, helper.make_node("QuantizeLinear", ["mean", "scale", "zero"], ["q"], name="/conv/Q"))
        graph.node.insert(2, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="/conv/DQ"))
        if bias:
            graph.initializer.append(numpy_helper.from_array(np.array([-9, -9], np.int32), "int_bias"))
            graph.node[3].input[2] = "bias_dq"
            graph.node.insert(
                3, helper.make_node("DequantizeLinear", ["int_bias", "scale"], ["bias_dq"], name="/conv/B")
            )

    return edited(path, change)


def answer(result: Preflight, name: str) -> tuple[str, str]:
    """Return status and detail of a check."""
    (check,) = [check for check in result.checks if check.name == name]
    return check.status, check.detail


def on(target: str, **changes: object) -> Profile:
    """Return a profile with other TensorRT settings, or only the JetPacks with the given TensorRTs."""
    profile = targets.load(target)
    versions = changes.pop("versions", None)
    values = profile.model_dump()
    values["tensorrt"] |= changes
    if versions is not None:
        values["jetson"]["jetpacks"] = [{"jetpack": "x", "l4t": "0", "tensorrt": version} for version in versions]
    return Profile.model_validate(values)


@pytest.mark.parametrize("target", [NANO, NX, "jetson-agx-orin", THOR])
def test_good_graph(plain: Path, target: str) -> None:
    """A raw fp32 graph has no blocker on any Jetson; what only a device can show is listed, and never passes."""
    result = preflight(plain, targets.load(target), "fp32", "one2many", rtx=False)
    assert result.is_passed
    assert [check.name for check in result.checks if check.status == "unproven"] == list(UNPROVEN)
    assert answer(result, "build ahead of time") == ("skipped", "not asked for")
    assert result.to_json()["passed"] is True
    assert result.to_json()["checks"][0] == {
        "name": "fixed shape",
        "status": "pass",
        "detail": "input [1, 3, 64, 64]",
    }


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", NANO),
        ("NVIDIA Jetson Orin Nano Developer Kit", NANO),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", NX),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("NVIDIA Jetson AGX Thor Developer Kit", THOR),
        ("Raspberry Pi 5 Model B Rev 1.0", "rpi5"),
    ],
)
def test_model_string_belongs_to_one_profile(model: str, target: str) -> None:
    """The device tree's model string is that of exactly one profile."""
    profiles = [targets.load(name) for name in targets.names()]
    found = [profile.name for profile in profiles if profile.device_model and re.search(profile.device_model, model)]
    assert found == [target]


@pytest.mark.parametrize("target", [NANO, NX, "jetson-agx-orin", THOR])
def test_profile_has_the_engine_settings(target: str) -> None:
    """A Jetson profile's engine settings are what the TensorRT backend accepts, and no other runtime's."""
    profile = targets.load(target)
    settings = profile.engine_settings("tensorrt")
    assert Settings.from_json(settings).workspace_mb == profile.tensorrt.workspace_mb
    assert profile.engine_settings("ncnn") == {}
    assert profile.jetson is not None
    assert profile.power_mode in profile.jetson.power_modes


def test_settings_agree() -> None:
    """The profile's TensorRT keys and defaults are those of the device's half."""
    assert TensorRt().model_dump() == asdict(Settings())


@pytest.mark.parametrize(
    ("target", "layout", "status"), [(NANO, "end2end", "fail"), (NANO, "one2many", "pass"), (THOR, "end2end", "pass")]
)
def test_int8_end2end(plain: Path, target: str, layout: str, status: str) -> None:
    """INT8 with an end2end head is blocked where a JetPack has TensorRT 10.3, and only there."""
    result = preflight(quantized(plain), targets.load(target), "int8", layout, rtx=False)
    assert answer(result, "head")[0] == status
    if status == "fail":
        assert "JetPack 6.2 (TensorRT 10.3)" in answer(result, "head")[1]
        assert [check.name for check in result.failures] == ["head"]


def test_fp16_end2end_is_no_blocker(plain: Path) -> None:
    """The end2end head is blocked for INT8 only."""
    assert answer(preflight(plain, targets.load(NANO), "fp32", "end2end", rtx=False), "head")[0] == "pass"


@pytest.mark.parametrize(("versions", "status"), [(["10.2.0"], "fail"), (["10.2"], "fail"), (["10.3"], "pass")])
def test_broken_tensorrt(plain: Path, versions: list[str], status: str) -> None:
    """TensorRT 10.2.0 is refused."""
    result = preflight(plain, on(NANO, versions=versions), "fp32", "one2many", rtx=False)
    assert answer(result, "TensorRT version")[0] == status


@pytest.mark.parametrize(
    ("target", "versions", "core", "status", "detail"),
    [
        (NANO, ["10.3"], 0, "fail", "jetson-orin-nano has 0"),
        (THOR, ["10.13"], 0, "fail", "jetson-agx-thor has 0"),
        (NX, ["10.3"], 2, "fail", "jetson-orin-nx has 2"),
        (NX, ["10.3", "10.16"], 0, "fail", "TensorRT 10.16"),
        (NX, ["11.4.0"], 0, "fail", "10.8 to 11.4.0"),
        (NX, ["10.3"], 0, "unproven", "only the device can show"),
        (NX, ["11.4.1"], 1, "unproven", "only the device can show"),
        (NX, ["10.3"], None, "skipped", "no DLA asked for"),
    ],
)
def test_dla(plain: Path, target: str, versions: list[str], core: int | None, status: str, detail: str) -> None:
    """A DLA is refused where the chip or a JetPack has none, and unproven elsewhere."""
    result = preflight(quantized(plain), on(target, versions=versions, dla_core=core), "int8", "one2many", rtx=False)
    found = answer(result, "DLA")
    assert found[0] == status
    assert detail in found[1]


def test_dla_and_fp32(plain: Path) -> None:
    """A DLA has no fp32."""
    result = preflight(plain, on(NX, versions=["10.3"], dla_core=0), "fp32", "one2many", rtx=False)
    assert answer(result, "DLA") == ("fail", "a DLA computes in fp16 or int8 only")


@pytest.mark.parametrize(
    ("target", "opset", "status"), [(NANO, 17, "pass"), (NANO, 18, "fail"), (THOR, 18, "pass"), (THOR, 21, "unproven")]
)
def test_opset(plain: Path, target: str, opset: int, status: str) -> None:
    """An opset that an old parser can't read fails; one that isn't known to work is unproven."""

    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = opset

    result = preflight(edited(plain, change), targets.load(target), "fp32", "one2many", rtx=False)
    assert answer(result, "opset")[0] == status


@pytest.mark.parametrize(
    ("zero", "kind", "status"), [(0, np.int8, "pass"), (3, np.int8, "fail"), (128, np.uint8, "fail")]
)
def test_zero_points(plain: Path, zero: int, kind: type, status: str) -> None:
    """A zero point other than 0, or an unsigned one, is refused with the node's name."""
    result = preflight(quantized(plain, zero=zero, kind=kind), targets.load(NANO), "int8", "one2many", rtx=False)
    found = answer(result, "zero points")
    assert found[0] == status
    assert ("/conv/Q" in found[1]) == (status == "fail")


@pytest.mark.parametrize(("bias", "status"), [(False, "pass"), (True, "fail")])
def test_int32_bias(plain: Path, bias: bool, status: str) -> None:
    """A bias that is dequantized from int32 is refused with the node's name."""
    result = preflight(quantized(plain, bias=bias), targets.load(NANO), "int8", "one2many", rtx=False)
    found = answer(result, "int32 dequantization")
    assert found[0] == status
    assert ("/conv/B" in found[1]) == bias


def test_mixed_concat(plain: Path) -> None:
    """A Concat of fp16 and fp32 is refused with the node's name."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].name = "/model.22/Concat"
        model.graph.node[-1].input[1] = "half"
        model.graph.node.insert(4, helper.make_node("Cast", ["flat"], ["half"], to=TensorProto.FLOAT16))

    result = preflight(edited(plain, change), targets.load(NANO), "fp32", "one2many", rtx=False)
    assert answer(result, "types of Concat") == ("fail", "Concat of mixed types: /model.22/Concat")


def magic(model: onnx.ModelProto) -> None:
    """Append a node that nobody knows."""
    model.graph.node.append(helper.make_node("Magic", ["output0"], ["more"], name="/model.22/Magic", domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))


def test_unknown_operator(plain: Path) -> None:
    """An operator of another domain is named with its layer."""
    result = preflight(edited(plain, magic), targets.load(NANO), "fp32", "one2many", rtx=False)
    assert answer(result, "operators") == ("fail", "TensorRT lacks: /model.22/Magic (acme.Magic)")


def test_dynamic_batch_and_wrong_precision(plain: Path) -> None:
    """A dynamic batch and a graph of another precision are found at once."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"

    result = preflight(edited(plain, change), targets.load(NANO), "int8", "one2many", rtx=False)
    assert answer(result, "fixed shape")[0] == "fail"
    assert answer(result, "precision of the graph") == ("fail", "asked for int8")
    assert len(result.failures) == 2


def test_unreadable(tmp_path: Path) -> None:
    """A file that isn't ONNX is an error."""
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(SlimError, match="isn't a readable ONNX file"):
        preflight(tmp_path / "no.onnx", targets.load(NANO), "fp32", "one2many")


def test_float_part(plain: Path) -> None:
    """An int8 graph whose other layers are fp32 is no failure, and its cost is named."""
    assert (
        answer(preflight(plain, targets.load(NANO), "fp32", "one2many", rtx=False), "float part of int8")[0]
        == "skipped"
    )
    nano = targets.load(NANO)
    assert nano.jetson is not None
    int8 = preflight(quantized(plain), nano, "int8", "one2many", rtx=False)
    assert answer(int8, "float part of int8")[0] == "pass"
    assert "1 of 1 convolutions" in answer(int8, "float part of int8")[1]
    newer = [pack.model_copy(update={"tensorrt": "11.4.1"}) for pack in nano.jetson.jetpacks[:1]]
    eleven = nano.model_copy(update={"jetson": nano.jetson.model_copy(update={"jetpacks": newer})})
    strict = preflight(quantized(plain), eleven, "int8", "one2many", rtx=False)
    assert answer(strict, "float part of int8")[0] == "unproven"
    assert "11.4.1" in answer(strict, "float part of int8")[1]
    half = edited(plain, lambda model: model.graph.initializer.append(numpy_helper.from_array(np.float16(1), "half")))
    passed = preflight(half, targets.load(NANO), "int8", "one2many", rtx=False)
    assert answer(passed, "float part of int8") == ("pass", "float layers are fp16")


def test_without_rtx(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorRT-RTX the build is skipped, says how to get it, and isn't counted as passed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    check = build_ahead(plain, "fp32")
    assert (check.status, "'yolo-slim[jetson]'" in check.detail) == ("skipped", True)


def test_rtx_that_crashes_or_hangs(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that dies is a failure with its status, one that hangs is unproven; neither takes us along."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    for status, detail in (("fail", "ended with status 1: it printed nothing"), ("unproven", "was killed")):
        builder = plain.with_name(f"{status}.sh")
        builder.write_text("#!/bin/sh\n" + ("exit 1" if status == "fail" else "kill -9 $$") + "\n")
        builder.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(builder))
        check = build_ahead(plain, "fp32")
        assert (check.status, detail in check.detail) == (status, True)
    hanging = plain.with_name("hang.sh")
    hanging.write_text("#!/bin/sh\nexec sleep 30\n")
    hanging.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(hanging))
    assert build_ahead(plain, "fp32", timeout_s=0.2).status == "unproven"


def test_rtx_that_cannot_be_loaded(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation says nothing of the graph."""
    (tmp_path / "tensorrt_rtx.py").write_text("raise ImportError('libtensorrt_rtx.so: no such file')\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = build_ahead(plain, "fp32")
    assert (check.status, "libtensorrt_rtx.so" in check.detail) == ("skipped", True)


@needs_rtx
def test_rtx_builds(plain: Path) -> None:
    """NVIDIA's own builder builds the plain and the quantized graph through the device's code."""
    assert build_ahead(plain, "fp32").status == "pass"
    check = build_ahead(quantized(plain), "int8")
    assert check.status == "pass"
    assert "TensorRT-RTX" in check.detail


@needs_rtx
def test_rtx_refuses(plain: Path) -> None:
    """NVIDIA's own parser refuses what the checks refuse, and names the node."""
    unknown = build_ahead(edited(plain, magic), "fp32")
    assert (unknown.status, "/model.22/Magic (Magic)" in unknown.detail) == ("fail", True)
    tiny_detector.write_onnx(plain)
    asymmetric = build_ahead(quantized(plain, zero=3), "int8")
    assert (asymmetric.status, "zero point" in asymmetric.detail.lower()) == ("fail", True), asymmetric.detail
    tiny_detector.write_onnx(plain)
    bias = build_ahead(quantized(plain, bias=True), "int8")
    assert (bias.status, "/conv/B" in bias.detail) == ("fail", True), bias.detail


HEADS = [("yolov8n", "one2many"), ("yolo11n", "one2many"), ("yolo26n", "one2many"), ("yolo26n", "end2end")]


@needs_rtx
@pytest.mark.parametrize(("family", "layout"), HEADS)
def test_rtx_builds_every_graph(untrained: Callable[[str], Path], tmp_path: Path, family: str, layout: str) -> None:
    """NVIDIA's builder builds every family and head in fp32, fp16 and int8, as our own conversions write them."""
    from yolo_slim.quantization import fp16, graph, qdq
    from yolo_slim.quantization.ranges import collect, observers, ranges_of

    plain = exported(untrained(family), tmp_path, layout)
    model = graph.load(plain)
    body = graph.parts(model).body
    statistics = observers(model, body)
    blobs = [np.random.default_rng(0).random((1, 3, 128, 128), np.float32)]
    collect(model, statistics, blobs, lambda _: None)
    graph.save(fp16.convert(model), tmp_path / "fp16.onnx")
    graph.save(qdq.quantize(model, body, ranges_of(statistics, "max")), tmp_path / "int8.onnx")
    for precision, path in {"fp32": plain, "fp16": tmp_path / "fp16.onnx", "int8": tmp_path / "int8.onnx"}.items():
        result = preflight(path, targets.load(THOR), precision, layout)
        assert not result.failures
        assert answer(result, "build ahead of time")[0] == "pass"


def exported(weights: Path, folder: Path, layout: str) -> Path:
    """Return Ultralytics' own ONNX export of a copy of the weights, 128 px."""
    import shutil

    from ultralytics import YOLO

    copied = Path(shutil.copyfile(weights, folder / "model.pt"))
    nms = False if layout == "end2end" else None
    return Path(
        YOLO(copied).export(format="onnx", imgsz=128, opset=17, simplify=True, nms=nms, device="cpu", verbose=False)
    )
