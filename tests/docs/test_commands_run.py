"""The documented commands that take a moment and need no network are run, in a folder as the pages assume it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.constants import ROOT
from tests.helpers.histories import write_history
from tests.helpers.markdown import commands
from tests.helpers.results import changed, complete_result, make_build
from tests.helpers.tiny_detector import build_bundle, save_scene, write_onnx
from yolo_slim import api
from yolo_slim.history.rows import Cell
from yolo_slim.runtime.__main__ import main as runtime

TOOL = (
    "doctor", "show", "estimate", "plan show", "plan diff", "device add", "device list", "device remove",
    "nightly init", "nightly log", "nightly show", "nightly diff", "nightly bless", "nightly export", "nightly import",
    "nightly dashboard",
)  # fmt: skip
"""Commands of ``yolo-slim`` that are run."""
RUNTIME = ("doctor", "check", "detect", "infer")
"""Commands of ``python -m yolo_slim.runtime`` that are run."""
LEFT = r"--host|--devices|tensorrt|\.onnx|\.mp4"
"""What needs a device, a Jetson, an exported graph or a video."""
RUN = [
    command
    for start, kinds in (("yolo-slim", TOOL), ("python -m yolo_slim.runtime", RUNTIME))
    for command in commands(f"{start} ")
    if re.match(rf"{start} ({'|'.join(kinds)})\b", command) and not re.search(LEFT, command)
]


@pytest.fixture(scope="module")
def place(small: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages name: weights, data, a bundle, a run, plans and twelve nights."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(small, folder / "best.pt")
    run = folder / "runs/slim/NAME/validate"
    run.mkdir(parents=True)
    jetson = (make_build("control", "tensorrt-fp16", 0.61), make_build("slim", "tensorrt-fp16", 0.6))
    changed(complete_result(), builds=jetson).save(run / "result.json")
    quick = {"prune.criterion": "l2", "prune.steps": 1, "prune.bn_images": 8}
    api.make_plan(small, signs, folder / "out/plan", imgsz=64, settings=quick)
    shutil.copytree(folder / "out/plan", folder / "other")
    cell = Cell(model="signs", data="signs", settings="half", target="host", build="ncnn-fp16")
    write_history(folder / "runs/nightly/history.sqlite", nights=12, cells=[cell])
    _write_bundles(folder)
    return folder


def _write_bundles(folder: Path) -> None:
    """Write the bundle under each of its names, and folders of images."""
    # ONNX Runtime's is made in a moment; the commands don't look at a bundle's name.
    build_bundle(write_onnx(folder / "tiny.onnx"), folder / "ncnn-fp16", "onnxruntime")
    shutil.copytree(folder / "ncnn-fp16", folder / "runs/slim/quickstart-rpi5/build/slim/ncnn-fp16")
    for images in ("SOURCE", "FOLDER", ".quickstart/quickstart/images/test"):
        save_scene(folder / images / "scene.png")


@pytest.fixture
def given(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return a function that gives a command in that folder and returns its exit code."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def give(command: str) -> int:
        words = shlex.split(command)
        if words[0] == "yolo-slim":
            code, _, error = run_cli(*words[1:])
            assert "Traceback" not in error
            return code
        return runtime(words[3:])

    return give


@pytest.mark.parametrize("command", RUN)
def test_documented_commands_work(command: str, given: Callable[[str], int]) -> None:
    """Each ends with exit code 0."""
    if command.startswith("yolo-slim device") and " add " not in command:
        assert given("yolo-slim device add kitchen pi@10.0.0.7 --target rpi5") == 0
    if "nightly import" in command:
        assert given("yolo-slim nightly export nights.jsonl") == 0
    assert given(command) == 0


def test_an_own_target_is_made_as_documented(given: Callable[[str], int], place: Path) -> None:
    """The line with sed writes a profile that the next command reads."""
    text = (ROOT / "docs/choosing-a-budget.md").read_text(encoding="utf-8")
    (line,) = re.findall("^    (yolo-slim targets .* > mine.yaml)$", text, re.M)
    tool = f'yolo-slim() {{ {shlex.quote(sys.executable)} -m yolo_slim.cli "$@"; }}; '
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-c", f"{tool}set -o pipefail; {line}"], cwd=place, env=environment, check=True)
    assert given("yolo-slim targets mine.yaml") == 0
    assert "name: mine" in (place / "mine.yaml").read_text()


@pytest.mark.parametrize("command", ["yolo-slim show gone.pt", "python -m yolo_slim.runtime check gone"])
def test_a_command_that_fails_is_found(command: str, given: Callable[[str], int]) -> None:
    """Negative control: files that aren't there end with code 2."""
    assert given(command) == 2


def test_the_page_names_what_is_run() -> None:
    """Docs/contributing.md lists every command that is run; each has a documented call."""
    text = " ".join((ROOT / "docs/contributing.md").read_text(encoding="utf-8").split())
    for start, kinds in (("yolo-slim", TOOL), ("python -m yolo_slim.runtime", RUNTIME)):
        for kind in kinds:
            assert f"`{kind}`" in text
            assert any(command.startswith(f"{start} {kind}") for command in RUN), kind
