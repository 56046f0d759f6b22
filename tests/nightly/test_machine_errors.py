"""What this machine, or a device, can't do at the moment: it is no result of a cell."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.nights import NightDevice, history_of, run_night, runs_of, statuses, write_matrix
from yolo_slim.errors import DeviceGone, MachineError, SlimError
from yolo_slim.history.store import History
from yolo_slim.nightly import night, output

FULL = OSError(errno.ENOSPC, "No space left on device")


def full(*_: object, **__: object) -> None:
    """Write to a full disk."""
    raise FULL


def is_resumed(matrix: Path, device: NightDevice) -> bool:
    """Whether the same command resumes the first night and measures everything that it has to."""
    code, _, err = run_night(matrix, device)
    with History.open(history_of(matrix)) as history:
        nights = history.nights()
    return (code, len(nights), statuses(matrix, 1)) == (0, 1, ["first", "first"]) and "is resumed" in err


@contextmanager
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[sqlite3.Connection]]:
    """The connections that are opened to histories."""
    connect, found = sqlite3.connect, list[sqlite3.Connection]()

    def keeping(*given: Any, **settings: Any) -> sqlite3.Connection:
        found.append(connect(*given, **settings))
        return found[-1]

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", keeping)
        yield found


def test_history_on_a_full_disk(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell is recorded as failed; with room again the same command measures them."""
    with connections(monkeypatch) as opened:

        def fill() -> None:
            (pages,) = opened[0].execute("PRAGMA page_count").fetchone()
            opened[0].execute(f"PRAGMA max_page_count = {pages}")

        device.on_bench = fill
        code, _, err = run_night(matrix, device)
    assert (code, "The disk is full" in err, "Traceback" in err) == (2, True, False)
    assert runs_of(matrix, 1) == []
    device.on_bench = lambda: None
    assert is_resumed(matrix, device)


def test_history_that_is_locked(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that keeps it locked ends the night; later the same command goes on."""
    with connections(monkeypatch) as opened:

        def lock() -> None:
            if len(opened) == 1:
                opened[0].execute("PRAGMA busy_timeout = 50")
                sqlite3.connect(history_of(matrix), isolation_level=None).execute("BEGIN IMMEDIATE")

        device.on_bench = lock
        code, _, err = run_night(matrix, device)
        opened[1].close()
    assert (code, "keeps" in err and "locked" in err, "Traceback" in err) == (2, True, False)
    assert runs_of(matrix, 1) == []
    device.on_bench = lambda: None
    assert is_resumed(matrix, device)


def test_bundle_that_does_not_fit(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping a bundle on a full disk leaves no half of one, and no cell."""
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copy2", full)
        code, _, err = run_night(matrix, device)
    assert (code, "The disk is full: writing to " in err, "Traceback" in err) == (2, True, False)
    assert runs_of(matrix, 1) == []
    assert list((history_of(matrix).parent / "bundles").iterdir()) == []
    assert is_resumed(matrix, device)


def test_chain_on_a_full_disk(matrix: Path, device: NightDevice) -> None:
    """An error of the system that nobody explained is explained, and ends the night."""
    device.on_make = full
    code, _, err = run_night(matrix, device)
    assert (code, "The disk is full" in err, "Traceback" in err) == (2, True, False)
    assert runs_of(matrix, 1) == []
    device.on_make = lambda: None
    assert is_resumed(matrix, device)


@pytest.mark.parametrize("error", [SlimError("No such layer."), MachineError("Training ran out of memory.")])
def test_other_errors_are_the_cells_own(error: SlimError, matrix: Path, device: NightDevice) -> None:
    """Negative control: what the next night would meet again is recorded, and the other cells go on."""

    def fail() -> None:
        raise error

    device.on_make = fail
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (1, ["failed", "failed"])
    assert error.fact in out


def test_night_that_ends_before_its_files(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it writes, a night hasn't ended: the same command judges it and writes everything."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for place, name in ((night, "write_all"), (output, "junit"), (History, "end_night")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, killed)
            assert run_night(matrix, device)[0] == 130
        with History.open(history_of(matrix)) as history:
            assert [one.ended_at for one in history.nights()] == [None]
            assert history.baselines() == []
        assert statuses(matrix, 1) == ["not judged", "not judged"]
    assert is_resumed(matrix, device)
    folder = history_of(matrix).parent / "nights/0001"
    assert {path.name for path in folder.iterdir()} == set(output.FILES)


def test_files_on_a_full_disk(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night whose files can't be written is resumed and writes them."""
    with monkeypatch.context() as patched:
        patched.setattr(output, "write_text", full)
        code, _, err = run_night(matrix, device)
    assert (code, "The disk is full" in err) == (2, True)
    assert is_resumed(matrix, device)


def with_a_pi(folder: Path, data: Path) -> Path:
    """A matrix of this machine and a device elsewhere."""
    return write_matrix(folder, data, targets={"here": {"profile": "host"}, "pi": {"profile": "host", "host": "pi"}})


def test_device_that_goes_within_a_cell(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Its cells are missing, not failed; those of this machine are measured."""
    matrix, pi = with_a_pi(tmp_path, shapes), NightDevice()

    def leave() -> None:
        pi.is_gone = True
        raise DeviceGone("pi didn't come back within 300 s.")

    pi.on_bench = leave
    code, out, _ = run_night(matrix, device, hosts={"pi": pi})
    found = {run.cell.name: (run.state, run.error) for run in runs_of(matrix, 1)}
    assert code == 3
    assert [found[f"m/d/s/here/{build}"][0] for build in ("onnxruntime-fp32", "ncnn-fp16")] == ["measured"] * 2
    states = [found[f"m/d/s/pi/{build}"] for build in ("onnxruntime-fp32", "ncnn-fp16")]
    assert sorted(state for state, _ in states) == ["missing", "missing"]
    assert {str(error).splitlines()[0] for _, error in states} == {
        "pi didn't come back within 300 s.", "The device pi doesn't answer.",
    }  # fmt: skip
    assert "2 missing" in out


def test_device_that_comes_back(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """The cell in which it went is missing; the next one is measured on the device opened anew."""
    matrix, pi, benches = with_a_pi(tmp_path, shapes), NightDevice(), iter(range(1000))

    def leave() -> None:
        if next(benches) == 0:
            raise DeviceGone("The connection to pi was lost 9 times in this step: time.")

    pi.on_bench = leave
    assert run_night(matrix, device, hosts={"pi": pi})[0] == 3
    assert sorted(run.state for run in runs_of(matrix, 1) if run.cell.target == "pi") == ["measured", "missing"]
    assert pi.asked.count("close") == 2


def test_bundle_that_fails_on_a_device(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Negative control: a device that answers with an error is there, so the cell failed."""
    matrix, pi = with_a_pi(tmp_path, shapes), NightDevice()
    pi.refused = {"first weights": "bench"}
    assert run_night(matrix, device, hosts={"pi": pi})[0] == 1
    assert [run.state for run in runs_of(matrix, 1) if run.cell.target == "pi"] == ["failed", "failed"]
    assert pi.asked.count("close") == 1


def test_reference_on_a_device_that_goes(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """A device that goes while it times the reference is missing: the reference isn't to blame."""
    matrix, pi = with_a_pi(tmp_path, shapes), NightDevice()
    run_night(matrix, device, hosts={"pi": pi})
    benches = iter(range(1000))

    def leave() -> None:
        # Tonight's bundle is timed first.
        if next(benches) == 1:
            raise DeviceGone("pi didn't come back within 300 s.")

    pi.on_bench = leave
    run_night(matrix, device, hosts={"pi": pi})
    found = [run.judgement.status for run in runs_of(matrix, 2) if run.cell.target == "pi" and run.judgement]
    assert sorted(found) == ["missing", "same"]
