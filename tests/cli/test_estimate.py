"""``yolo-slim estimate`` on checkpoints, bundles and results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.results import changed, complete_result, unproven_result
from tests.helpers.tiny_detector import build_bundle, write_onnx


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose target wasn't at hand."""
    folder = tmp_path_factory.mktemp("run")
    found = unproven_result()
    path = folder / "validate/result.json"
    path.parent.mkdir()
    changed(found, target=changed(found.target, name="rpi5")).save(path)
    return folder


def test_checkpoint(trained: Path) -> None:
    """Each build with rows has an FPS with its band; one without rows has the reason; nothing is called measured."""
    code, text, _ = run_cli("estimate", str(trained), "--target", "rpi5", "--imgsz", "320")
    assert code == 0
    assert text.startswith("Estimated on a Raspberry Pi 5, 320 px, inference alone: not measured")
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  ")}
    fps, lowest, highest = map(float, lines["ncnn-fp16"][:3])
    assert lowest < fps < highest
    assert "onnxruntime-int8: too few rows" in text
    assert "source: Arm" in text


def test_side_that_the_network_does_not_take(trained: Path) -> None:
    """A side between two multiples of the stride is refused, with the nearest ones."""
    code, _, errors = run_cli("estimate", str(trained), "--target", "rpi5", "--imgsz", "100")
    assert (code, "not a multiple of the model's stride 32" in errors) == (2, True)


def test_run(result: Path) -> None:
    """A run has its own target; control and slim are estimated, at another side too."""
    code, text, _ = run_cli("estimate", str(result), "--json")
    assert code == 0
    found = json.loads(text)
    assert (found["target"], found["measured"]) == ("rpi5", False)
    assert {(one["model"], one["build"]) for one in found["estimates"]} == {
        (model, build) for model in ("control", "slim") for build in ("onnxruntime-fp32", "ncnn-fp16")
    }
    small = json.loads(run_cli("estimate", str(result), "--imgsz", "320", "--json")[1])
    for before, after in zip(found["estimates"], small["estimates"], strict=True):
        assert after["infer_ms"] == pytest.approx(before["infer_ms"] / 4, rel=1e-6)


def test_bundles(tmp_path: Path) -> None:
    """A bundle with a graph is estimated; NCNN's files don't say what they need, so the remedy names what does."""
    graph = write_onnx(tmp_path / "tiny.onnx")
    with_graph = build_bundle(graph, tmp_path / "onnxruntime", "onnxruntime")
    code, text, _ = run_cli("estimate", str(with_graph.folder), "--target", "rpi5")
    assert (code, "Raspberry Pi 5, 64 px" in text) == (0, True)
    # Its own target is this workstation.
    assert run_cli("estimate", str(with_graph.folder))[0] == 2
    without = build_bundle(graph, tmp_path / "ncnn", "ncnn")
    code, _, err = run_cli("estimate", str(without.folder), "--target", "rpi5")
    assert code == 2
    assert "Give the run, the checkpoint" in err


def test_what_cannot_be_estimated(trained: Path, result: Path, tmp_path: Path) -> None:
    """No target, one without rows, a file that is no network, no file: one message each, and nothing is estimated."""
    for arguments, message in (
        ([str(trained)], "An estimate is of one device"),
        ([str(result), "--target", "host"], "nothing was published for the device of host"),
        ([str(result), "--target", "rpi55"], "Did you mean 'rpi5'?"),
        ([str(tmp_path), "--target", "rpi5"], "is no network, bundle or finished run"),
        ([str(tmp_path / "a.pt"), "--target", "rpi5"], "File not found"),
        ([str(result), "--imgsz", "0"], "is not in the range"),
    ):
        code, out, err = run_cli("estimate", *arguments)
        assert (code, out) == (2, "")
        assert message in err


def test_show_and_the_summary_say_estimated(tmp_path: Path) -> None:
    """A result with estimates shows them as what they are; one without says nothing of them."""
    from yolo_slim.config import targets
    from yolo_slim.verdict.estimates import estimate_builds

    plain = complete_result()
    found = estimate_builds(targets.load("rpi5"), plain.builds, plain.size, plain.imgsz)
    path = tmp_path / "result.json"
    changed(plain, estimates=found).save(path)
    shown = run_cli("show", str(path))[1]
    assert re.search(r"on a Raspberry Pi 5: \d+ FPS of inference \(\d+ to \d+\), estimated$", shown, re.MULTILINE)
    plain.save(path)
    assert "stimated" not in run_cli("show", str(path))[1]
