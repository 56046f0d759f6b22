"""What a night records of its surroundings, and where it says what changed since the baseline."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.helpers import nights
from tests.helpers.cli import run_cli
from tests.helpers.histories import write_history
from tests.helpers.nights import NightDevice, git, history_of, new_weights, run_night, runs_of, statuses, write_matrix
from tests.helpers.results import bench_of, complete_result
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.history.rows import Cell
from yolo_slim.history.store import History
from yolo_slim.nightly.environment import environment_of


def moved(matrix: Path, night: int) -> tuple[str, ...]:
    """What a night's first cell says has changed."""
    found = runs_of(matrix, night)[0].judgement
    assert found is not None
    return found.moved


def test_commit_of_the_baseline(matrix: Path, device: NightDevice) -> None:
    """It is in the summary of a cell that became worse, and `diff` names it; a night of one commit names none."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "nightly.yaml")
    git(matrix.parent, "commit", "-q", "-m", "first")
    run_night(matrix, device)
    run_night(matrix, device)
    assert moved(matrix, 2) == ()
    git(matrix.parent, "commit", "-q", "--allow-empty", "-m", "wider")
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.2}
    _, out, _ = run_night(matrix, device)
    with History.open(history_of(matrix)) as history:
        old, new = (str(history.nights()[number].source.commit)[:8] for number in (0, 2))
    line = f"commit: {old} -> {new}: wider"
    assert moved(matrix, 3)[0] == line
    assert f"- {line}" in (matrix.parent / "runs/nightly/nights/0003/summary.md").read_text()
    assert line in out
    where = ("--history", str(history_of(matrix)))
    assert line in run_cli("nightly", "diff", "1", "3", *where)[1]
    assert "commit" not in run_cli("nightly", "diff", "1", "2", *where)[1]


def test_packages_of_the_workstation(matrix: Path, device: NightDevice) -> None:
    """Those of the result are facts of the run; another version is a change of the workstation, not of the device."""
    run_night(matrix, device)
    assert runs_of(matrix, 1)[0].workstation == complete_result().versions
    newer = complete_result().model_copy(update={"versions": {"yolo_slim": "0.1.0", "torch": "2.10.0"}})
    with patch.object(nights, "complete_result", lambda: newer):
        run_night(matrix, device)
    assert moved(matrix, 2) == ("workstation's torch: 2.9.0 -> 2.10.0",)
    out = run_cli("nightly", "show", "2", "*/ncnn-fp16", "--history", str(history_of(matrix)))[1]
    assert "  workstation's torch: 2.10.0" in out


def test_limited_clocks(matrix: Path, device: NightDevice) -> None:
    """A lower limit of the clocks and another power mode are changes of the device; equal ones are none."""
    device.facts_now |= {"cpu_max_mhz": [1800, 2400], "power_mode": "MAXN"}
    run_night(matrix, device)
    run_night(matrix, device)
    assert moved(matrix, 2) == ()
    device.facts_now |= {"cpu_max_mhz": [1500], "power_mode": "15W"}
    run_night(matrix, device)
    assert set(moved(matrix, 3)) == {"cpu_max_mhz: 1800,2400 -> 1500", "power_mode: MAXN -> 15W"}


def test_environment_of_a_device_without_clocks() -> None:
    """What a device doesn't say isn't recorded."""
    samples = {stage: [1.0] * 3 for stage in ("pre", "infer", "post", "total")}
    facts = {"model": "board", "arch": "aarch64", "cpu_max_mhz": [], "gpu_max_mhz": None}
    found = environment_of(bench_of(samples, machine=DeviceFacts.model_validate(facts)))
    assert not {"cpu_max_mhz", "gpu_max_mhz"} & set(found)


def test_imported_nights_leave_tonight_alone(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Older nights of another machine are compared with by nobody, and push no bundle out."""
    matrix = write_matrix(tmp_path, shapes, keep_nights=2)
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    run_night(matrix, device)
    kept = {path.name for path in (tmp_path / "runs/nightly/bundles").iterdir()}
    cell = Cell(model="m", data="d", settings="s", target="here", build="ncnn-fp16")
    write_history(tmp_path / "theirs.sqlite", nights=5, cells=[cell])
    export, where = str(tmp_path / "theirs.jsonl"), ("--history", str(history_of(matrix)))
    run_cli("nightly", "export", export, "--history", str(tmp_path / "theirs.sqlite"))
    code, out, err = run_cli("nightly", "import", export, *where)
    assert (code, "the last night is night 2," in out) == (0, True), err
    new_weights(matrix, "third weights")
    run_night(matrix, device)
    number = max(int(path.name) for path in (tmp_path / "runs/nightly/nights").iterdir())
    assert statuses(matrix, number) == ["same", "same"]
    assert {run.reference for run in runs_of(matrix, number)} == {run.uid for run in runs_of(matrix, 1)}
    assert {path.name for path in (tmp_path / "runs/nightly/bundles").iterdir()} > kept


def test_interrupted_night_is_resumed_after_an_import(tmp_path: Path, matrix: Path, device: NightDevice) -> None:
    """Older nights of another machine have higher numbers, and aren't the last one."""

    def stop() -> None:
        raise KeyboardInterrupt

    device.on_bench = stop
    assert run_night(matrix, device)[0] == 130
    device.on_bench = lambda: None
    cell = Cell(model="m", data="d", settings="s", target="here", build="ncnn-fp16")
    write_history(tmp_path / "theirs.sqlite", nights=2, cells=[cell])
    export = str(tmp_path / "theirs.jsonl")
    run_cli("nightly", "export", export, "--history", str(tmp_path / "theirs.sqlite"))
    run_cli("nightly", "import", export, "--history", str(history_of(matrix)))
    _, _, err = run_night(matrix, device)
    assert "night 1 was interrupted and is resumed" in err


def test_imported_nights_push_no_bundle_out(
    tmp_path: Path, shapes: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that began after an own night don't count for `keep_nights`: their bundles are elsewhere."""
    matrix = write_matrix(tmp_path, shapes, keep_nights=2)
    with monkeypatch.context() as patched:
        patched.setattr("yolo_slim.history.store.now", lambda: "2020-01-01T00:00:00+00:00")
        run_night(matrix, device)
        new_weights(matrix, "second weights")
        run_night(matrix, device)
    cell = Cell(model="m", data="d", settings="s", target="here", build="ncnn-fp16")
    write_history(tmp_path / "theirs.sqlite", nights=3, cells=[cell])
    export = str(tmp_path / "theirs.jsonl")
    run_cli("nightly", "export", export, "--history", str(tmp_path / "theirs.sqlite"))
    _, out, _ = run_cli("nightly", "import", export, "--history", str(history_of(matrix)))
    assert "the last night is night 5," in out
    new_weights(matrix, "third weights")
    run_night(matrix, device)
    kept = {path.name for path in (tmp_path / "runs/nightly/bundles").iterdir()}
    assert kept == {run.digests.bundle for night in (1, 2, 6) for run in runs_of(matrix, night) if run.digests}
