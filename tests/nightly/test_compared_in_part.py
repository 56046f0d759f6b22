"""Cells of which one half can't be compared: the other half still is, and the note says why."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers import tiny_data
from tests.helpers.nights import (
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
from yolo_slim.devices.answers import NOT_ITS_SPEED
from yolo_slim.history.rows import Judgement
from yolo_slim.history.store import History
from yolo_slim.nightly.bundles import KeptBundles


def judgements(matrix: Path, night: int) -> list[Judgement]:
    """What a night says of its cells."""
    return [run.judgement for run in runs_of(matrix, night) if run.judgement]


@pytest.mark.parametrize(("blind", "code", "answer"), [(0, 0, "same"), (IMAGES // 2, 1, "worse")])
def test_emulated_device_is_judged_by_accuracy(
    blind: int, code: int, answer: str, matrix: Path, device: NightDevice
) -> None:
    """Its speed can't count, whatever the night: the answer is that of accuracy, and says so."""
    device.reasons = (NOT_ITS_SPEED, "busy: 1.0 of 2 cores")
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.blind = {"second weights": 2.0}, {"second weights": blind}
    found, out, _ = run_night(matrix, device)
    assert (found, statuses(matrix, 2)) == (code, [answer] * 2)
    assert "speed isn't judged on an emulated device; accuracy" in out
    assert "FPS" not in out
    written = [path for path in matrix.parent.rglob("*") if path.name in ("metrics.prom", "summary.md")]
    assert len(written) > 2
    night = json.loads((matrix.parent / "runs/nightly/nights/0002/night.json").read_text())
    assert [run["measurement"]["speed"] for run in night["runs"]] == [None, None]
    assert not [path for path in written if re.search(r"nightly_fps{|\| \d+\.\d \|", path.read_text())]
    assert [one.speed for one in judgements(matrix, 2)] == [None, None]


def test_device_that_is_only_busy_stays_excluded(matrix: Path, device: NightDevice) -> None:
    """Negative control: a timing that could have counted leaves the cell without an answer."""
    run_night(matrix, device)
    device.reasons = ("busy: 1.0 of 2 cores",)
    assert run_night(matrix, device)[0] == 3
    assert statuses(matrix, 2) == ["excluded", "excluded"]


@pytest.mark.parametrize("step", ["put", "bench"])
def test_reference_that_cannot_be_run(step: str, matrix: Path, device: NightDevice) -> None:
    """It costs the comparison of speed alone: tonight's figures are recorded, and accuracy is judged."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.refused, device.blind = {"first weights": step}, {"second weights": IMAGES // 2}
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (1, ["worse", "worse"])
    assert f"can't be run any more, so speed can't be compared: The bundle failed on the board: {step};" in out
    device.blind = {}
    assert run_night(matrix, device)[0] == 3
    assert statuses(matrix, 3) == ["incomparable", "incomparable"]
    for run in runs_of(matrix, 3):
        assert run.measurement is not None
        assert (run.measurement.speed.rounds, run.measurement.speed.reference_p50_ms) == (12, None)
        assert run.judgement is not None
        assert run.judgement.accuracy is not None
    with History.open(history_of(matrix)) as history:
        timing = history.timing(history.runs(night=3)[0])
    assert timing is not None
    assert "undefined symbol" in str(timing.reference_error)


def test_bundle_of_tonight_that_cannot_be_run(matrix: Path, device: NightDevice) -> None:
    """Negative control: without tonight's bundle there is nothing to record, and the cell failed."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.refused = {"second weights": "bench"}
    assert run_night(matrix, device)[0] == 1
    assert statuses(matrix, 2) == ["failed", "failed"]


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_kept_bundle_without_its_network(damage: str, matrix: Path, device: NightDevice) -> None:
    """It is gone, though its bundle.json is there; the same bundle made again replaces it."""
    run_night(matrix, device)
    kept = KeptBundles(folder=history_of(matrix).parent / "bundles")
    networks = list(kept.folder.rglob("model.onnx"))
    assert [kept.find(path.parent.name) for path in networks] == [path.parent for path in networks]
    for path in networks:
        path.unlink() if damage == "missing" else path.write_text("first")
    assert [kept.find(path.parent.name) for path in networks] == [None, None]
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (3, ["incomparable", "incomparable"])
    assert "the baseline's bundle is gone, so speed can't be compared" in out
    assert run_night(matrix, device)[0] == 0
    assert statuses(matrix, 3) == ["same", "same"]


def other_labels(matrix: Path, folder: Path, device: NightDevice) -> None:
    """Run a night, then change a label."""
    data = tiny_data.make(folder, "detect", images=4)
    write_matrix(matrix.parent, data)
    run_night(matrix, device)
    (label,) = (data.parent / "labels/val").glob("*0.txt")
    label.write_text("")


@pytest.mark.parametrize(("slower", "code", "answer"), [(1.0, 3, "incomparable"), (1.2, 1, "worse")])
def test_other_labels_leave_speed_comparable(
    slower: float, code: int, answer: str, matrix: Path, device: NightDevice, tmp_path: Path
) -> None:
    """Both bundles ran on tonight's images in the same rounds; only their accuracies are of different images."""
    other_labels(matrix, tmp_path / "own", device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": slower}
    found, out, _ = run_night(matrix, device)
    assert (found, statuses(matrix, 2)) == (code, [answer] * 2)
    assert "other images or labels" in out
    assert f"speed {'worse' if answer == 'worse' else 'same'}: latency" in out
    assert [one.accuracy for one in judgements(matrix, 2)] == [None, None]


def test_other_profile_leaves_nothing_comparable(matrix: Path, device: NightDevice, shapes: Path) -> None:
    """Negative control: a profile decides how a bundle runs, so a slower one shows nothing."""
    run_night(matrix, device)
    own = Path("targets/host.yaml").read_text().replace("name: host", "name: mine")
    (matrix.parent / "mine.yaml").write_text(own)
    write_matrix(matrix.parent, shapes, targets={"here": {"profile": "mine.yaml"}})
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.2}
    assert run_night(matrix, device)[0] == 3
    assert [(one.status, one.speed) for one in judgements(matrix, 2)] == [("incomparable", None)] * 2


def commit(matrix: Path, branch: str, *, new: bool = False) -> None:
    """Begin a repository, or a branch of it."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    if new:
        git(matrix.parent, "init", "-q", "-b", branch)
        git(matrix.parent, "add", "best.pt")
    else:
        git(matrix.parent, "checkout", "-q", "-b", branch)
    git(matrix.parent, "commit", "-q", "--allow-empty", "-m", branch)


def test_cell_that_only_a_third_branch_measured(matrix: Path, device: NightDevice, shapes: Path) -> None:
    """A trial isn't compared with another branch's baseline, and never becomes one; against that branch it is."""
    commit(matrix, "main", new=True)
    run_night(matrix, device)
    commit(matrix, "other")
    write_matrix(matrix.parent, shapes, settings={"s": {"imgsz": 64}, "t": {"imgsz": 96}})
    run_night(matrix, device)
    commit(matrix, "mine")
    code, out, _ = run_night(matrix, device, "--against", "main")
    assert (code, sorted(statuses(matrix, 3))) == (0, ["first", "first", "same", "same"])
    assert "the branch's nights didn't measure this cell, so there is nothing to compare it with" in out
    assert "this run is it now" not in out
    assert [one.baseline for one in judgements(matrix, 3) if one.status == "first"] == [None, None]
    assert run_night(matrix, device, "--against", "other")[0] == 0
    assert statuses(matrix, 4) == ["same"] * 4


def test_trial_names_the_branch(matrix: Path, device: NightDevice) -> None:
    """What is gone, and what the differences are counted from, is the branch's last night, not a baseline."""
    commit(matrix, "main", new=True)
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.2}
    code, out, _ = run_night(matrix, device, "--against", "main")
    assert (code, "since the branch's last night: " in out, "since the baseline" in out) == (1, True, False)
    summary = (history_of(matrix).parent / "nights/0002/summary.md").read_text()
    assert "Since the branch's last night:" in summary
    shutil.rmtree(history_of(matrix).parent / "bundles")
    code, out, _ = run_night(matrix, device, "--against", "main")
    assert (code, "the bundle of the branch's last night is gone" in out) == (3, True)
