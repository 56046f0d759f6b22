"""The whole chain through its command line: results, what a second call skips, and resume after kill -9."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.charts import loads_nothing
from tests.helpers.cli import run_cli
from tests.helpers.constants import QUICK
from yolo_slim import pipeline, preparation
from yolo_slim.datasets import description
from yolo_slim.datasets.description import Dataset
from yolo_slim.files import read_json, sha256
from yolo_slim.models import checkpoint
from yolo_slim.stages import context
from yolo_slim.workspace import job

pytestmark = pytest.mark.slow
STAGE_FILES = ("prune/pruned.pt", "export/control/model.onnx", "build/control/ncnn-fp16.tar.gz")


def arguments(model: Path, data: Path, project: Path, name: str, epochs: int) -> list[str]:
    """Return the command line of a small run."""
    given = ["--model", str(model), "--data", str(data), "--project", str(project), "--name", name]
    return ["run", *given, "--imgsz", "96", "--prune", "0.4", "--epochs", str(epochs), "--device", "cpu", *QUICK]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One finished run."""

    model: Path
    folder: Path
    code: int
    loads: Counter[str]
    """Unpickled checkpoints, by the SHA-256 of their bytes."""
    described: list[Path]
    """Data sets' descriptions that were read."""


@pytest.fixture(scope="module")
def finished(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a finished run, with what its process read."""
    project = tmp_path_factory.mktemp("project")
    # Other bytes than the shipped model's, which another test may have left in this process's memory.
    model = project / "best.pt"
    torch.save({**torch.load(trained, weights_only=False), "date": "of this test"}, model)
    loads, described, load, load_dataset = Counter[str](), list[Path](), torch.load, description.load_dataset

    def counting_load(file: object, *given: Any, **options: Any) -> object:
        data = file.getvalue() if isinstance(file, io.BytesIO) else Path(str(file)).read_bytes()
        # Ultralytics' exporter and validator read for themselves.
        if not re.match(re.escape(tempfile.gettempdir()) + "/yolo-slim-(export|control)-", str(file)):
            loads[hashlib.sha256(data).hexdigest()] += 1
        return load(file, *given, **options)

    def counting_load_dataset(data_yaml: Path) -> Dataset:
        described.append(data_yaml)
        return load_dataset(data_yaml)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", counting_load)
        for module in (description, preparation, context):
            patch.setattr(module, "load_dataset", counting_load_dataset)
        code, _, _ = run_cli(*arguments(model, signs, project, "whole", 2))
    return Finished(model=model, folder=project / "whole", code=code, loads=loads, described=described)


def changed(folder: Path, before: dict[Path, tuple[int, bytes]]) -> set[str]:
    """Return the files of a folder that were written since, but for the lock and the claim that every call writes."""
    now = state(folder)
    paths = {path for path in {**before, **now} if before.get(path) != now.get(path)}
    return {str(path.relative_to(folder)) for path in paths if path.name not in (".lock", "folder.json")}


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return when each file was written, and its content."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_result(finished: Finished) -> None:
    """The run ends with a verdict, a full ladder, timed builds of control and slim, and a report that opens offline."""
    folder = finished.folder
    result = read_json(folder / "validate" / "result.json")
    assert finished.code == {"pass": 0, "fail": 1}[result["verdict"]["status"]]
    rungs = [rung["rung"] for rung in result["ladder"]]
    assert rungs == ["control", "pruned", "recovered", "onnx", "onnxruntime-fp32", "ncnn-fp16"]
    assert {build["key"] for build in result["builds"]} == {
        f"{model}/{build}" for model in ("control", "slim") for build in ("onnxruntime-fp32", "ncnn-fp16")
    }
    assert all(len(build["bench"]["samples_ms"]["total"]) >= 64 for build in result["builds"])
    page = (folder / "validate" / "report.html").read_text()
    assert loads_nothing(page)
    assert "data:image/jpeg;base64," in page
    assert result["verdict"]["status"] in page
    HTMLParser().feed(page)


def test_each_file_is_read_once(finished: Finished, signs: Path) -> None:
    """One process unpickles best.pt once and reads data.yaml once, for all stages."""
    assert finished.loads[sha256(finished.model)] == 1
    assert finished.described == [signs]


def test_finished_run_asked_again(finished: Finished, signs: Path) -> None:
    """Every stage says that it is up to date, no file changes, and nothing that loads a network is imported."""
    folder = finished.folder
    before = state(folder)
    code = (
        "import sys; sys.argv = ['yolo-slim', *sys.argv[1:]]\nfrom yolo_slim import cli\n"
        "try:\n    cli.main()\nfinally:\n"
        "    names = {'torch', 'torchvision', 'ultralytics', 'onnx', 'onnxruntime', 'ncnn', 'torch_pruning', 'yaml'}\n"
        "    print(sorted(names & set(sys.modules)))"
    )
    command = arguments(finished.model, signs, folder.parent, folder.name, 2)
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == finished.code, done.stderr
    networks = [f"{stage} ({network})" for network in ("control", "slim") for stage in ("export", "build")]
    stages = ["control", "prune", "recover", *networks, "validate"]
    assert done.stderr.splitlines() == [f"{stage}: up to date, skipped" for stage in stages]
    # yaml shows that what was imported is really listed.
    assert done.stdout.splitlines()[-1] == "['yaml']"
    assert changed(folder, before) == set()


def test_after_an_update_of_a_package(
    finished: Finished, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training and the pruning that it started from are kept and named; cheap stages are made again and say why."""
    folder = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, folder)
    before, installed = state(folder), version("torch")
    monkeypatch.setattr(job, "version", lambda package: "9.9" if package == "torch" else version(package))
    command = arguments(finished.model, signs, tmp_path, folder.name, 2)
    code, _, err = run_cli(*command)
    assert code in (0, 1), err
    said = [line for line in err.splitlines() if "kept" in line or "made again" in line or "up to date" in line]
    kept = f"kept although torch {installed} -> 9.9"
    stale = f"stale, made again: torch {installed} -> 9.9"
    trainings = [f"prune: {kept}; the recovery starts from it", f"recover: {kept}; --retrain trains again"]
    skipped = "up to date, skipped"
    assert said == [
        f"control: {stale}", *trainings, f"export (control): {stale}", f"build (control): {skipped}",
        f"export (slim): {stale}", f"build (slim): {skipped}", f"validate: {stale}",
    ]  # fmt: skip
    assert {path.split("/")[0] for path in changed(folder, before)} == {"control", "export", "validate"}
    assert {path: sha256(folder / path) for path in STAGE_FILES} == {
        path: sha256(finished.folder / path) for path in STAGE_FILES
    }
    code, _, err = run_cli(*command)
    assert [line for line in err.splitlines() if skipped not in line] == trainings


def test_damaged_output_is_made_again(finished: Finished, signs: Path) -> None:
    """A damaged output comes out with the same bytes; what was made from it stays."""
    folder = finished.folder
    before = {path: sha256(folder / path) for path in STAGE_FILES}
    stamp = (folder / "validate" / "result.json").stat().st_mtime_ns
    damaged = folder / STAGE_FILES[0]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    code, _, err = run_cli(*arguments(finished.model, signs, folder.parent, folder.name, 2))
    assert code == finished.code
    assert "prune: stale, made again: pruned.pt complete -> changed" in err
    assert {path: sha256(folder / path) for path in STAGE_FILES} == before
    assert (folder / "validate" / "result.json").stat().st_mtime_ns == stamp


def test_another_run_is_refused(finished: Finished, untrained: Callable[[str], Path], signs: Path) -> None:
    """A folder that contains a run of another model is left alone."""
    folder, other = finished.folder, untrained("yolov8n")
    before = sha256(folder / "folder.json")
    code, _, err = run_cli(*arguments(other, signs, folder.parent, folder.name, 2))
    assert code == 2
    assert "contains the results of another run" in err
    assert sha256(folder / "folder.json") == before


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A stage that is killed."""

    stage: str
    """Its folder."""
    watched: str = ""
    """Appears in that folder while the stage works."""
    earlier: tuple[str, ...]
    """Stages that an earlier call has finished."""
    stop: str | None
    """The stage at which the resumed run is stopped; None: it goes on to its verdict."""
    made: tuple[str, ...] = ()
    """Files that come out with the bytes of an unbroken run; a training's bytes are its own."""


KILLS = (
    Kill(stage="prune", earlier=(), stop="recover", made=STAGE_FILES[:1]),
    Kill(stage="recover", watched="train/weights/last.pt", earlier=("control", "prune"), stop="export"),
    Kill(stage="export/control", earlier=("control", "prune", "recover"), stop="build", made=STAGE_FILES[1:2]),
    Kill(stage="build/control", earlier=("control", "prune", "recover", "export"), stop=None, made=STAGE_FILES),
)


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.stage)
def test_resume_after_kill(
    finished: Finished, signs: Path, tmp_path: Path, kill: Kill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in any stage, the same command resumes; prune, export and build end with the bytes of an unbroken run."""
    whole, folder = finished.folder, tmp_path / finished.folder.name
    for stage in kill.earlier:
        shutil.copytree(whole / stage, folder / stage)
        shutil.copy(whole / "folder.json", folder)
    command = arguments(finished.model, signs, tmp_path, folder.name, 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "yolo_slim.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watched, deadline = folder / kill.stage / kill.watched, time.monotonic() + 900
    while not watched.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert watched.exists()
    assert not (folder / kill.stage / "manifest.json").exists()
    if kill.stop:
        monkeypatch.setattr(getattr(pipeline, kill.stop), "run", refuse)
    code, _, err = run_cli(*command)
    assert code in ((130,) if kill.stop else (0, 1)), err
    skipped = {line.split()[0].rstrip(":") for line in err.splitlines() if line.endswith("up to date, skipped")}
    assert skipped >= set(kill.earlier)
    for path in kill.made:
        assert sha256(folder / path) == sha256(whole / path)
    if (folder / "recover" / "recovered.pt").exists():
        slim = [checkpoint.load(one / "recover" / "recovered.pt") for one in (whole, folder)]
        shapes = [[tuple(p.shape) for p in loaded.model.parameters()] for loaded in slim]
        assert shapes[0] == shapes[1]


def refuse(*_: object, **__: object) -> None:
    """Stop the run at this stage."""
    raise KeyboardInterrupt
