"""What moved a cell between two nights: only what is shown is blamed, and each cell has its own answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.helpers import nights
from tests.helpers.cli import run_cli
from tests.helpers.nights import IMAGES, NightDevice, fake_nights, git, new_weights, run_night, runs_of, write_matrix
from tests.helpers.results import complete_result
from yolo_slim.devices.answers import NOT_ITS_SPEED
from yolo_slim.history.moved import Moved
from yolo_slim.history.rows import Answer, Compared
from yolo_slim.nightly.bisect_answer import Finding, MeasuredAgain, Shift

CELL, OTHER = "m/d/s/here/ncnn-fp16", "m/d/s/here/onnxruntime-fp32"


def bisect(matrix: Path, device: NightDevice, *cells: str) -> tuple[int, dict[str, Any]]:
    """Measure the bundles of the first two nights again: exit code and answers."""
    with fake_nights(device):
        code, out, err = run_cli("nightly", "bisect", str(matrix), "1", "2", *cells, "--json")
    assert "Traceback" not in err
    return code, json.loads(out)


@pytest.mark.parametrize(("here", "blamed"), [(1.0, []), (1.45, ["device"])])
def test_difference_that_does_not_come_back(here: float, blamed: list[str], matrix: Path, device: NightDevice) -> None:
    """Another SDK of the device is blamed only if the reference shows that the device moved."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.here, device.facts_now["python"] = {"second weights": 1.2}, here, "3.12"
    run_night(matrix, device)
    device.slower = {}
    code, found = bisect(matrix, device, CELL)
    assert (code, found[CELL]["blamed"]) == (0, blamed)
    assert found[CELL]["differs"]["device"] == "python: 3.11 -> 3.12"
    said = found[CELL]["conclusion"]
    assert ("does not come back" in said, "the device didn't move" in said) == (not blamed, not blamed)
    assert ("so the device moved, by +4" in said, "python" in said) == (bool(blamed), bool(blamed))


def test_device_that_nothing_shows(matrix: Path, device: NightDevice) -> None:
    """Where the timing of a night doesn't count, it isn't claimed that the device stayed as it was."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.reasons = ("throttled during the run",)
    run_night(matrix, device)
    device.reasons = ()
    _, found = bisect(matrix, device, CELL)
    assert found[CELL]["blamed"] == []
    assert "whether the device moved isn't known: the timing of a night doesn't count" in found[CELL]["conclusion"]


@pytest.mark.parametrize("is_still_so", [True, False])
def test_device_that_costs_accuracy(is_still_so: bool, matrix: Path, device: NightDevice) -> None:
    """One bundle that detects otherwise in one of both nights shows it, whichever SDK the device has now."""
    run_night(matrix, device)
    device.blind, device.facts_now["python"] = {"first weights": IMAGES // 2}, "3.12"
    run_night(matrix, device)
    if not is_still_so:
        device.blind = {}
    _, found = bisect(matrix, device, CELL)
    assert found[CELL]["blamed"] == ["device"]
    assert "by -0." in found[CELL]["conclusion"]
    assert "of the same bundle's mAP50-95: python: 3.11 -> 3.12" in found[CELL]["conclusion"]


@pytest.mark.parametrize(
    ("blind", "blamed", "says"),
    [(0, [], "does not come back: the bundles are the same now"), (IMAGES // 2, ["weights"], "the bundle moved")],
)
def test_emulated_device_is_answered_by_accuracy(
    blind: int, blamed: list[str], says: str, matrix: Path, device: NightDevice
) -> None:
    """Its timings never count, so accuracy alone tells whether the bundles differ, and no speed is shown."""
    device.reasons = (NOT_ITS_SPEED, "busy: 1.0 of 2 cores")
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.blind = {"second weights": 2.0}, {"second weights": blind}
    run_night(matrix, device)
    code, found = bisect(matrix, device, CELL)
    assert (code, found[CELL]["blamed"], found[CELL]["speed"]) == (0, blamed, None)
    assert says in found[CELL]["conclusion"]
    with fake_nights(device):
        assert "speed" not in run_cli("nightly", "bisect", str(matrix), "1", "2", CELL)[1]


def test_parts_of_a_bundle(matrix: Path, device: NightDevice) -> None:
    """Commit, weights, settings and the workstation's packages are told apart; what is the same isn't blamed."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "nightly.yaml")
    git(matrix.parent, "commit", "-q", "-m", "first")
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    git(matrix.parent, "commit", "-q", "--allow-empty", "-m", "second")
    device.slower = {"second weights": 1.1}
    newer = complete_result().model_copy(update={"versions": {"yolo_slim": "0.1.0", "torch": "2.10.0"}})
    with patch.object(nights, "complete_result", lambda: newer):
        run_night(matrix, device)
    code, found = bisect(matrix, device, CELL)
    assert (code, found[CELL]["blamed"]) == (0, ["commit", "weights", "workstation"])
    differs = found[CELL]["differs"]
    assert differs["commit"].endswith(": second")
    assert differs["workstation"] == "workstation's torch: 2.9.0 -> 2.10.0"
    assert (differs["settings"], differs["data"], differs["device"]) == ("same", "same", "same")


def test_uncommitted_changes_are_not_the_same(matrix: Path, device: NightDevice) -> None:
    """Equal commits with changes that no commit has don't show that the code is the same."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "best.pt")
    git(matrix.parent, "commit", "-q", "-m", "first")
    answers = []
    for text in ("first weights", "second weights"):
        for _ in range(2):
            new_weights(matrix, text)
            run_night(matrix, device)
        answers.append(bisect(matrix, device, CELL)[1][CELL]["differs"]["commit"])
        shutil.rmtree(matrix.parent / "runs")
    assert answers == ["same", "the same, with changes in both nights that no commit has"]


def test_cell_whose_bundle_is_gone(matrix: Path, device: NightDevice) -> None:
    """It is unknown, with the reason; the others are measured."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    run_night(matrix, device)
    (gone,) = (run for run in runs_of(matrix, 1) if run.cell.name == CELL)
    assert gone.digests is not None
    shutil.rmtree(matrix.parent / "runs/nightly/bundles" / gone.digests.bundle)
    code, found = bisect(matrix, device)
    assert code == 3
    assert f"unknown: The bundle of night 1 of {CELL} is gone. Choose a later night" in found[CELL]["conclusion"]
    assert (found[CELL]["speed"], found[CELL]["blamed"]) == (None, [])
    assert "weights" in found[CELL]["differs"]["weights"]
    assert "does not come back" in found[OTHER]["conclusion"]


def test_cell_that_one_night_lacks(matrix: Path, device: NightDevice, shapes: Path) -> None:
    """A cell that failed, one that is new and one that left the matrix are answers too; only a typing error isn't."""
    device.broken = "ncnn-fp16"
    run_night(matrix, device)
    device.broken = None
    write_matrix(matrix.parent, shapes, settings={"s": {"imgsz": 64}, "new": {"imgsz": 64}})
    run_night(matrix, device)
    write_matrix(matrix.parent, shapes, only=["*/ncnn-*"])
    code, found = bisect(matrix, device)
    assert code == 3
    assert found[CELL]["conclusion"] == "unknown: night 1 has no figures of it: failed"
    assert found[CELL]["differs"] == {}
    assert found["m/d/new/here/ncnn-fp16"]["conclusion"] == "unknown: night 1 has no such cell"
    assert f"{OTHER} isn't in the matrix any more" in found[OTHER]["conclusion"]
    with fake_nights(device):
        code, _, err = run_cli("nightly", "bisect", str(matrix), "1", "2", "nothing")
    assert (code, "No cell of that night has such a name" in err) == (2, True)


def test_device_that_does_not_answer(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Its cells are unknown; those of the other device are measured."""
    targets = {"here": {"profile": "host"}, "away": {"profile": "host", "host": "board"}}
    matrix = write_matrix(tmp_path, shapes, targets=targets)
    run_night(matrix, device)
    run_night(matrix, device)
    targets["away"]["host"] = "gone"
    write_matrix(tmp_path, shapes, targets=targets)
    code, found = bisect(matrix, device, "*/ncnn-fp16")
    assert code == 3
    assert "unknown: The device gone doesn't answer." in found["m/d/s/away/ncnn-fp16"]["conclusion"]
    assert "does not come back" in found[CELL]["conclusion"]


def test_text(matrix: Path, device: NightDevice) -> None:
    """People read the conclusion, both comparisons and every part."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.1}
    run_night(matrix, device)
    with fake_nights(device):
        _, out, _ = run_cli("nightly", "bisect", str(matrix), "1", "2", CELL)
    lines = out.splitlines()
    assert lines[0].startswith(f"{CELL}: the bundle moved, and differs now too: weights: ")
    assert [line.split()[0] for line in lines[1:]] == [
        "speed", "accuracy", "commit:", "weights:", "settings:", "data:", "workstation:", "device:",
    ]  # fmt: skip
    assert "  settings: same" in lines


def compared(answer: Answer) -> Compared:
    """A comparison with this answer."""
    return Compared(answer=answer, change=0.1, lowest=0.05, highest=0.15, p_worse=0.0, p_better=1.0, samples=12)


def test_bundle_that_differs_without_a_recorded_reason() -> None:
    """It is said that no record tells why, and what the records can't tell; nothing is blamed."""
    still = Shift(change=0.0)
    measured = MeasuredAgain(
        speed=compared("worse"), accuracy=compared("same"), latency_shift=still, accuracy_shift=still
    )
    found = Finding(cell=CELL, moved=Moved(), measured=measured, not_recorded={"workstation": "not recorded"})
    assert found.conclusion == (
        "the bundle moved, and differs now too; nothing that is recorded of how it was made differs "
        "(workstation: not recorded)"
    )
    assert (found.blamed, found.parts["workstation"], found.parts["weights"]) == ([], "not recorded", "same")


def test_noise_is_no_answer() -> None:
    """Timings that show neither a change nor its absence blame nobody, whatever the device did."""
    moved = Shift(change=0.4, is_changed=True)
    measured = MeasuredAgain(
        speed=compared("unknown"), accuracy=compared("same"), latency_shift=moved, accuracy_shift=moved
    )
    found = Finding(cell=CELL, moved=Moved(environment=("python: 3.11 -> 3.12",)), measured=measured)
    assert found.conclusion.startswith("unknown: the noise is larger")
    assert (found.blamed, found.is_answered) == ([], False)
