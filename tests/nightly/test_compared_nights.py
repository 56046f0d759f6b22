"""A branch against another one's last night, two nights measured again, and who is told of a night."""

from __future__ import annotations

import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import tiny_data
from tests.helpers.cli import run_cli
from tests.helpers.nights import (
    IMAGES,
    NightDevice,
    fake_nights,
    git,
    history_of,
    new_weights,
    run_night,
    runs_of,
    statuses,
    write_matrix,
)
from yolo_slim.history.store import History
from yolo_slim.nightly.matrix import Matrix
from yolo_slim.nightly.webhook import post


def test_against_a_branch(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slower branch is worse than main's last night; the trial becomes nobody's baseline, nor part of a trend."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "best.pt")
    git(matrix.parent, "commit", "-q", "-m", "first weights")
    run_night(matrix, device)
    git(matrix.parent, "checkout", "-q", "-b", "wider")
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.1}
    code, _, _ = run_night(matrix, device, "--against", "main")
    assert (code, statuses(matrix, 2)) == (1, ["worse", "worse"])
    with History.open(history_of(matrix)) as history:
        first, second = history.nights()
        assert (first.source.branch, first.source.dirty, first.source.subject) == ("main", False, "first weights")
        assert (second.kind, second.source.branch, second.source.dirty) == ("trial", "wider", True)
        assert {one.night for one in history.baselines()} == {1}
    # A wrong branch is refused before anything is drawn, which takes a minute.
    drawn: list[object] = []
    monkeypatch.setattr(Matrix, "draw_quickstart", lambda _, progress: drawn.append(progress))
    code, _, err = run_night(matrix, device, "--against", "mian")
    assert (code, "nights of: main" in err, drawn) == (2, True, [])


def test_a_cell_that_is_new_on_a_branch(matrix: Path, device: NightDevice) -> None:
    """It has nothing to be compared with and is told so; the other cells are compared."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "best.pt")
    git(matrix.parent, "commit", "-q", "-m", "first weights")
    run_night(matrix, device)
    data = yaml.safe_load(matrix.read_text())["data"]["d"]
    write_matrix(matrix.parent, data, settings={"s": {"imgsz": 64}, "t": {"imgsz": 96}})
    run_night(matrix, device, "--against", "main")
    assert sorted(statuses(matrix, 2)) == ["first", "first", "same", "same"]


def bisect(matrix: Path, device: NightDevice) -> tuple[int, str, str]:
    """Measure the bundles of the first two nights again."""
    with fake_nights(device):
        return run_cli("nightly", "bisect", str(matrix), "1", "2", "*/ncnn-fp16")


def test_bisect_finds_the_bundle(matrix: Path, device: NightDevice) -> None:
    """Bundles that differ now too: what moved with them is named."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.1}
    run_night(matrix, device)
    code, out, err = bisect(matrix, device)
    assert code == 0, err
    assert "the bundle moved, and differs now too: weights: " in out
    assert "speed worse: latency +" in out


def test_bisect_of_a_bundle_and_a_device_that_both_moved(matrix: Path, device: NightDevice) -> None:
    """The part of each is said: the bundles' by measuring them now, the device's by the reference of both nights."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.here, device.facts_now["python"] = {"second weights": 1.1}, 1.4, "3.12"
    run_night(matrix, device)
    code, out, err = bisect(matrix, device)
    assert code == 0, err
    assert "the bundle moved, and differs now too: weights: " in out
    found = re.search(r"The device moved too, by \+(\d+)\.\d% of the reference's latency: python: 3.11 -> 3.12", out)
    assert found is not None, out
    assert 35 <= int(found[1]) <= 45


@pytest.mark.parametrize(
    ("here", "reasons"), [(1.03, ()), (1.4, ("throttled during the run",))], ids=["noise", "not counted"]
)
def test_bisect_of_a_device_that_moved_too_little(
    here: float, reasons: tuple[str, ...], matrix: Path, device: NightDevice
) -> None:
    """A reference that moved less than the gate, or whose timing doesn't count, says nothing of the device."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.here, device.facts_now["python"] = {"second weights": 1.1}, here, "3.12"
    device.reasons = reasons
    run_night(matrix, device)
    device.reasons = ()
    code, out, err = bisect(matrix, device)
    assert code == 0, err
    assert "the bundle moved, and differs now too: weights: " in out
    assert "The device moved too" not in out


def test_bisect_of_cells_with_other_images(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Cells of two data sets in one call are each measured on their own images."""
    other = tiny_data.make(tmp_path / "other", "detect", images=IMAGES // 2)
    matrix = write_matrix(tmp_path, shapes, data={"d": str(shapes), "e": str(other)})
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    run_night(matrix, device)
    with fake_nights(device):
        code, out, err = run_cli("nightly", "bisect", str(matrix), "1", "2", "*/ncnn-fp16")
    assert code == 0, err
    assert f"{IMAGES} images" in out
    assert f"{IMAGES // 2} images" in out


def test_bisect_finds_the_device(matrix: Path, device: NightDevice) -> None:
    """Bundles that are the same now: what moved with the device is named."""
    run_night(matrix, device)
    device.here, device.facts_now["python"] = 1.4, "3.12"
    run_night(matrix, device)
    code, out, err = bisect(matrix, device)
    assert code == 0, err
    assert re.search(r"so the device moved, by \+\d+\.\d% of the reference's latency: python: 3.11 -> 3.12", out)


def test_bisect_of_equal_nights(matrix: Path, device: NightDevice) -> None:
    """One bundle in both nights and nothing else that differs: nothing is said to have moved."""
    run_night(matrix, device)
    run_night(matrix, device)
    code, out, err = bisect(matrix, device)
    assert code == 0, err
    assert "does not come back: both nights have the same bundle, and the device didn't move" in out


def test_bisect_on_a_throttled_device(matrix: Path, device: NightDevice) -> None:
    """Timings that don't count show nothing of a bundle."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    run_night(matrix, device)
    device.slower, device.reasons = {"second weights": 1.5}, ("throttled during the run",)
    code, out, err = bisect(matrix, device)
    assert code == 3, err
    assert "unknown: the timing doesn't count: throttled during the run" in out


def test_bisect_without_a_bundle(matrix: Path, device: NightDevice) -> None:
    """A bundle that is gone can't be measured again, and that is said."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    run_night(matrix, device)
    shutil.rmtree(matrix.parent / "runs/nightly/bundles")
    code, out, err = bisect(matrix, device)
    assert (code, "is gone" in out, "Traceback" in err) == (3, True, False)


def test_old_bundles_are_removed(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Bundles of the baselines and of the last nights stay, the others go."""
    matrix = write_matrix(tmp_path, shapes, keep_nights=1)
    for number in range(3):
        new_weights(matrix, f"{number} weights")
        run_night(matrix, device)
    kept = {path.name for path in (tmp_path / "runs/nightly/bundles").iterdir()}
    assert kept == {run.digests.bundle for night in (1, 3) for run in runs_of(matrix, night) if run.digests}


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is told."""

    got: list[Any] = []  # noqa: RUF012

    def do_POST(self) -> None:
        """Read JSON."""
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_webhook(tmp_path: Path, shapes: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """The night is posted as JSON; an address that doesn't answer is a warning without the address."""
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}/secret")
    matrix = write_matrix(tmp_path, shapes, webhook="$HOOK")
    run_night(matrix, device)
    server.shutdown()
    server.server_close()
    assert Hook.got[0]["headline"] == "Night 1: 2 first"
    code, _, err = run_night(matrix, device)
    assert code == 0
    assert "the webhook was not told: Connection refused" in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://bob:SECRET@example.org/x", "InvalidURL"), ("http://127.0.0.1:9/SECRET token", "InvalidURL"),
        ("http://bob:SECRET@[::1", "ValueError"), ("ftp://SECRET", "http:// or https://"),
    ],
)  # fmt: skip
def test_webhook_with_a_bad_address(address: str, reason: str) -> None:
    """What is wrong with an address is said without the address."""
    problem = post(address, {})
    assert reason in problem
    assert "SECRET" not in problem
