"""The whole chain through its command line: results, resume after kill -9, and folders that aren't ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.constants import QUICK
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint

pytestmark = pytest.mark.slow
STAGE_FILES = ("prune/pruned.pt", "export/control/model.onnx", "build/control/ncnn-fp16.tar.gz")


def arguments(model: Path, data: Path, project: Path, name: str, epochs: int) -> list[str]:
    """Return the command line of a small run."""
    given = ["--model", str(model), "--data", str(data), "--project", str(project), "--name", name]
    return ["run", *given, "--imgsz", "96", "--prune", "0.4", "--epochs", str(epochs), "--device", "cpu", *QUICK]


@pytest.fixture(scope="module")
def finished(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return the folder and exit code of one finished run."""
    project = tmp_path_factory.mktemp("project")
    code, _, _ = run_cli(*arguments(trained, signs, project, "whole", 2))
    return project / "whole", code


def test_result(finished: tuple[Path, int]) -> None:
    """The run ends with a verdict, a full ladder, timed builds of control and slim, and a report that opens offline."""
    folder, code = finished
    result = read_json(folder / "validate" / "result.json")
    assert code == {"pass": 0, "fail": 1}[result["verdict"]["status"]]
    rungs = [rung["rung"] for rung in result["ladder"]]
    assert rungs == ["control", "pruned", "recovered", "onnx", "onnxruntime-fp32", "ncnn-fp16"]
    assert {build["name"] for build in result["builds"]} == {
        f"{model}/{build}" for model in ("control", "slim") for build in ("onnxruntime-fp32", "ncnn-fp16")
    }
    assert all(len(build["bench"]["samples_ms"]["total"]) >= 64 for build in result["builds"])
    page = (folder / "validate" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "data:image/jpeg;base64," in page
    assert result["verdict"]["status"] in page
    HTMLParser().feed(page)


def test_second_run_keeps_everything(finished: tuple[Path, int], trained: Path, signs: Path) -> None:
    """The same command again changes no file; a damaged output is made again with the same bytes."""
    folder, code = finished
    before = {path: sha256(folder / path) for path in STAGE_FILES}
    stamp = (folder / "validate" / "result.json").stat().st_mtime_ns
    command = arguments(trained, signs, folder.parent, folder.name, 2)
    assert run_cli(*command)[0] == code
    assert (folder / "validate" / "result.json").stat().st_mtime_ns == stamp
    damaged = folder / STAGE_FILES[0]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert run_cli(*command)[0] == code
    assert {path: sha256(folder / path) for path in STAGE_FILES} == before


def test_another_run_is_refused(finished: tuple[Path, int], untrained: object, signs: Path) -> None:
    """A folder that holds a run of another model is left alone."""
    folder, _ = finished
    other = untrained("yolov8n")  # type: ignore[operator]
    before = sha256(folder / "folder.json")
    code, _, err = run_cli(*arguments(other, signs, folder.parent, folder.name, 2))
    assert code == 2
    assert "contains the results of another run" in err
    assert sha256(folder / "folder.json") == before


@pytest.mark.parametrize("marker", ["prune/job-started", "recover/train/weights/last.pt", "export/control", "build"])
def test_resume_after_kill(finished: tuple[Path, int], trained: Path, signs: Path, tmp_path: Path, marker: str) -> None:
    """Killed in any stage, the same command goes on; prune, export and build end with the bytes of an unbroken run."""
    command = arguments(trained, signs, tmp_path, "killed", 2)
    watched = tmp_path / "killed" / marker.replace("prune/job-started", "prune")
    process = subprocess.Popen(
        [sys.executable, "-m", "yolo_slim.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 900
    while not watched.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert watched.exists()
    assert not (tmp_path / "killed" / "validate" / "manifest.json").exists()
    assert run_cli(*command)[0] in (0, 1)
    whole, _ = finished
    for path in STAGE_FILES:
        assert sha256(tmp_path / "killed" / path) == sha256(whole / path)
    slim = [checkpoint.load(folder / "recover" / "recovered.pt") for folder in (whole, tmp_path / "killed")]
    shapes = [[tuple(p.shape) for p in loaded.model.parameters()] for loaded in slim]
    assert shapes[0] == shapes[1]
