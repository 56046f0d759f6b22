"""A device that changed: every place that people and programs look at says so, and no cell becomes worse."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.nights import (
    BUILDS,
    IMAGES,
    NightDevice,
    git,
    history_of,
    new_weights,
    run_night,
    runs_of,
    statuses,
    write_matrix,
)
from yolo_slim.history.device_changes import device_changes
from yolo_slim.history.rows import Cell, Judgement, Run

CHANGED = re.compile(
    r"1 device changed: here, its reference is up to 3\d% slower than in earlier nights \(2 of 2 cells\)"
)


@dataclass(frozen=True)
class Said:
    """Where a night's words and figures are."""

    code: int
    terminal: str
    summary: str
    junit: list[str]
    metrics: str
    value: dict[str, Any]
    page: str


def said(matrix: Path, device: NightDevice) -> Said:
    """Run a night and read everything that it leaves."""
    code, out, err = run_night(matrix, device)
    assert "Traceback" not in err
    project = history_of(matrix).parent
    folder = max((project / "nights").iterdir())
    pages = ("--history", str(history_of(matrix)), "--out", str(project / "site"))
    assert run_cli("nightly", "dashboard", *pages)[0] == 0
    page = re.sub(r"<[^>]+>", " ", (project / "site/index.html").read_text(encoding="utf-8"))
    return Said(
        code=code,
        terminal=out,
        summary=(folder / "summary.md").read_text(),
        junit=[one.text or "" for one in ElementTree.parse(folder / "junit.xml").iter("system-out")],
        metrics=(folder / "metrics.prom").read_text(),
        value=json.loads((folder / "night.json").read_text()),
        page=" ".join(unescape(page).split()),
    )


def test_every_output_names_a_device_that_changed(matrix: Path, device: NightDevice) -> None:
    """An SDK that costs a third of the frames is in the first line, with the SDK; the exit code is the cells'."""
    run_night(matrix, device)
    device.here, device.facts_now["python"] = 1.33, "3.12"
    found = said(matrix, device)
    assert (found.code, statuses(matrix, 2)) == (0, ["same", "same"])
    assert CHANGED.search(found.terminal.splitlines()[0]), found.terminal
    assert "on here since the baseline: python: 3.11 -> 3.12" in found.terminal
    assert CHANGED.search(found.summary.splitlines()[0])
    assert re.search(r"- here: its reference .*; since the baseline: python: 3.11 -> 3.12", found.summary)
    assert len(found.junit) == len(BUILDS)
    assert all(text.startswith("device changed: here: its reference is up to 3") for text in found.junit)
    changed = re.findall(r'yolo_slim_nightly_device_changed\{.*target="here".*\} (.*)', found.metrics)
    assert changed == ["1", "1"]
    assert re.search(r"yolo_slim_nightly_device_change\{.*\} 0\.3", found.metrics)
    (one,) = found.value["devices_changed"]
    assert (one["target"], one["cells"], one["timed"], one["moved"]) == ("here", 2, 2, ["python: 3.11 -> 3.12"])
    assert "Night 2: 0 of 2 cells worse, 1 device changed" in found.page
    assert "here ◆ device changed its reference is up to 3" in found.page


def test_no_output_names_a_device_that_did_not_change(matrix: Path, device: NightDevice) -> None:
    """Negative control: new weights on the same device, which are slower, say nothing of it."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.3}
    found = said(matrix, device)
    assert (found.code, statuses(matrix, 2)) == (1, ["worse", "worse"])
    texts = (found.terminal, found.summary, found.page, *found.junit)
    assert not [text for text in texts if "device changed" in text or "devices that changed" in text.lower()]
    assert found.junit == []
    assert re.findall(r"yolo_slim_nightly_device_changed\{.*\} (.*)", found.metrics) == ["0", "0"]
    assert found.value["devices_changed"] == []


def judged(target: str, change: float | None, *, changed: bool, moved: tuple[str, ...] = ()) -> Run:
    """A run whose reference moved."""
    cell = Cell(model="m", data="d", settings="s", target=target, build="ncnn-fp16")
    judgement = Judgement(
        status="same", reason="", baseline=None, device_change=change, device_changed=changed, device_moved=moved,
        moved=("weights: a -> b", *moved),
    )  # fmt: skip
    return Run(uid="u", night=2, cell=cell, state="measured", recorded_at="", judgement=judgement)


def test_devices_are_told_apart() -> None:
    """Each has its own largest change; a cell that moved too little, or has no earlier night, counts as it should."""
    runs = [
        judged("pi", -0.2, changed=True, moved=("ncnn: 1 -> 2", "fp16_arithmetic: True -> False")),
        judged("pi", 0.01, changed=False),
        judged("nano", 0.14, changed=True), judged("nano", None, changed=False), judged("orin", 0.05, changed=False),
    ]  # fmt: skip
    nano, pi = device_changes(runs)
    assert (nano.target, nano.text) == ("nano", "its reference is 14% slower than in earlier nights")
    assert (pi.target, pi.text) == ("pi", "its reference is 20% faster than in earlier nights (1 of 2 cells)")
    assert pi.moved == ("ncnn: 1 -> 2", "fp16_arithmetic: True -> False")


def test_another_board_is_no_earlier_night(matrix: Path, device: NightDevice) -> None:
    """A night on a faster board under the same name says nothing of how fast this one was."""
    run_night(matrix, device)
    run_night(matrix, device)
    device.here, device.facts_now["model"] = 0.5, "Faster Board"
    assert run_night(matrix, device)[0] == 3
    device.here, device.facts_now["model"] = 1.0, "Example Board"
    assert "device changed" not in run_night(matrix, device)[1]
    # Control: the same board, slower.
    device.here = 1.5
    assert "1 device changed" in run_night(matrix, device)[1]


def test_last_figures_are_at_one_path(matrix: Path, device: NightDevice) -> None:
    """A collector finds the last night's figures, with the time of its end; a trial doesn't replace them."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "best.pt")
    git(matrix.parent, "commit", "-q", "-m", "first weights")
    run_night(matrix, device)
    project = history_of(matrix).parent
    last = project / "metrics.prom"
    first = last.read_text()
    assert first == (project / "nights/0001/metrics.prom").read_text()
    (ended,) = re.findall(r"^yolo_slim_nightly_end_timestamp_seconds (\d{10})$", first, re.MULTILINE)
    value = json.loads((project / "nights/0001/night.json").read_text())
    assert value["night"]["ended_at"].startswith("20")
    assert int(ended) == int(datetime.fromisoformat(value["night"]["ended_at"]).timestamp())
    run_night(matrix, device, "--against", "main")
    assert last.read_text() == first
    assert (project / "nights/0002/metrics.prom").is_file()
    run_night(matrix, device)
    assert "yolo_slim_nightly_night 3" in last.read_text()
    assert [path.name for path in project.iterdir() if path.name.endswith(".tmp")] == []


def test_every_gauge_is_explained(matrix: Path, device: NightDevice) -> None:
    """Each has its help and type once, before its values, as the text format wants it."""
    run_night(matrix, device)
    run_night(matrix, device)
    lines = (history_of(matrix).parent / "metrics.prom").read_text().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    for line in lines:
        if not line.startswith("#"):
            name = re.split(r"[{ ]", line)[0]
            assert lines.index(f"# TYPE {name} gauge") < lines.index(line)


def test_device_on_other_images_did_not_change(matrix: Path, device: NightDevice, shapes: Path) -> None:
    """A reference that takes longer on other images says nothing of its device; on the same ones it does."""
    run_night(matrix, device)
    write_matrix(matrix.parent, shapes, settings={"s": {"imgsz": 64, "validate.max_images": IMAGES // 2}})
    device.here = 1.4
    run_night(matrix, device)
    found = [run.judgement for run in runs_of(matrix, 2) if run.judgement]
    assert [(one.device_change, one.device_changed) for one in found] == [(None, False)] * 2
    device.here = 2.0
    run_night(matrix, device)
    assert [run.judgement.device_changed for run in runs_of(matrix, 3) if run.judgement] == [True, True]
