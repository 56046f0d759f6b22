"""Where the time of a frame goes: every operation has one part, and the parts are the timing's own milliseconds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.results import make_bench
from tests.helpers.tiny_detector import build_bundle, scene, write_onnx
from yolo_slim.backends import Operation
from yolo_slim.backends.ncnn.operations import operations_of
from yolo_slim.backends.onnxruntime.operations import WARMUP, read_profile
from yolo_slim.runtime.breakdown import NOT_TOLD, PARTS, measure, part_of, rows, shares
from yolo_slim.runtime.detector import Detector

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def operation(kind: str, name: str = "", ms: float = 1.0, *, is_decoding: bool = False) -> Operation:
    """Return one operation."""
    return Operation(kind=kind, name=name, ms=ms, is_decoding=is_decoding)


@pytest.mark.parametrize(
    ("kind", "name", "part"),
    [
        ("Conv", "/model.0/conv/Conv", "convolutions"),
        ("QLinearConv", "", "convolutions"),
        ("ConvolutionDepthWise", "convdw_1", "convolutions"),
        ("QuickGelu", "/model.0/act/Mul/QuickGeluFusion/", "activations"),
        ("Swish", "silu_1", "activations"),
        ("BinaryOp mul", "mul_0", "activations"),
        ("MatMul", "/model.10/m/m.0/attn/MatMul", "attention"),
        ("Mul", "/model.10/m/m.0/attn/Mul", "attention"),
        ("Conv", "/model.10/m/m.0/attn/pe/conv/Conv", "convolutions"),
        ("ReorderInput", "ReorderInput_token_1", "copies"),
        ("BinaryOp", "add_1", "copies"),
        ("DequantizeLinear", "", "conversions"),
        ("MaxPool", "/model.9/m/MaxPool", "other"),
        ("NewerThanThisTable", "", "other"),
    ],
)
def test_every_kind_has_its_part(kind: str, name: str, part: str) -> None:
    """Runtimes name the same work differently; work that no row knows is counted, as other."""
    assert part_of(operation(kind, name)) == part


def test_the_end_of_the_head_is_its_own_part() -> None:
    """A softmax of the DFL isn't attention."""
    assert part_of(operation("Softmax", is_decoding=True)) == "decoding"


def test_shares_add_up_to_one() -> None:
    """Shares are of all operations together; parts that don't occur are left out."""
    found = shares([operation("Conv", ms=3.0), operation("Swish"), operation("Odd", ms=4.0)])
    assert found == {"convolutions": 3 / 8, "activations": 1 / 8, "other": 4 / 8}


def test_rows_are_the_medians_of_the_timing() -> None:
    """The parts of the inference add up to its median, whatever the separate run took."""
    stages = dict(make_bench(50.0, 1).stages)
    found = rows(stages, NOT_TOLD)
    assert [row.part for row in found] == ["pre", "inference", "post"]
    divided = rows(stages, replace(NOT_TOLD, frames=1, shares={"convolutions": 0.75, "copies": 0.25}))
    assert [row.part for row in divided] == ["pre", "convolutions", "copies", "post"]
    assert divided[1].ms + divided[2].ms == pytest.approx(stages["infer"].p50_ms)
    assert sum(row.share for row in divided) == pytest.approx(1.0)


def test_profile_of_onnx_runtime() -> None:
    """Medians leave the first frames out; only what the head does itself is decoding."""
    names = ["/model.0/conv/Conv", "/model.22/cv2.0/cv2.0.0/conv/Conv", "/model.22/dfl/Softmax", "/model.22/Sigmoid"]
    names += ["/model.2/Split", "ReorderInput_token_1"]
    slow = [_event(name, 9000) for name in names for _ in range(WARMUP)]
    fast = [_event(name, 2000) for name in names for _ in range(3)]
    runs = [{"cat": "Session", "name": "model_run", "dur": 20000} for _ in range(WARMUP + 3)]
    before = [{**_event("/model.0/conv/Conv", 1), "name": "/model.0/conv/Conv_fence_before"}]
    found = read_profile([*runs, *before, *slow, *fast])
    assert {one.ms for one in found.operations} == {2.0}
    assert [one.name for one in found.operations if one.is_decoding] == ["/model.22/dfl/Softmax", "/model.22/Sigmoid"]
    assert found.frame_ms == 20.0


def _event(name: str, dur: int) -> dict[str, object]:
    kind = name.rsplit("/", 1)[-1]
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": {"op_name": kind}}


def test_layers_of_ncnn() -> None:
    """What follows the last convolution is decoding; the DFL's own convolution doesn't begin it anew."""
    lines = ["Convolution a 1 1 in0 x", "BinaryOp b 2 1 x x y 0=2", "BinaryOp c 2 1 x y z 0=0", "Convolution d 1 1 z u"]
    lines += ["Softmax e 1 1 u v", "Convolution f 1 1 v w", "Concat g 1 1 w out0"]
    found = operations_of([line.split() for line in lines], [1.0] * 7)
    assert [one.kind for one in found][:3] == ["Convolution", "BinaryOp mul", "BinaryOp"]
    assert [one.name for one in found if one.is_decoding] == ["e", "f", "g"]


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn"])
def test_a_real_bundle_is_divided(runtime: str, tmp_path: Path) -> None:
    """Both runtimes tell what a real network's operations take."""
    bundle = build_bundle(write_onnx(tmp_path / "tiny.onnx"), tmp_path / "bundle", runtime)
    with Detector(bundle, threads=1) as detector:
        found = measure(detector, scene(), frames=7)
    assert found.shares["convolutions"] > 0
    assert found.covered is not None
    assert sorted(path.name for path in bundle.folder.iterdir()) == sorted(
        {*(file.split("/")[0] for file in bundle.spec.files), "bundle.json"}
    )


def test_a_runtime_that_tells_nothing(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the inference stays whole, and nothing is guessed."""
    monkeypatch.setattr("yolo_slim.runtime.breakdown.operation_timer", lambda _: None)
    with Detector(tiny_bundle) as detector:
        assert measure(detector, scene()) == NOT_TOLD


def test_bench_shows_it_on_request(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """`--breakdown` adds the table and the key; without it the key is null."""
    out, short = tmp_path / "bench.json", ["--seconds", "0.05", "--queries", "6", "--repeat", "0"]
    answer = cli("bench", tiny_bundle, "--breakdown", "--json", out, *short).stdout
    assert "where the time goes" in answer
    assert PARTS["convolutions"] in answer
    assert json.loads(out.read_text())["breakdown"]["shares"]["convolutions"] > 0
    assert "where the time goes" not in cli("bench", tiny_bundle, "--json", out, *short).stdout
    assert json.loads(out.read_text())["breakdown"] is None
