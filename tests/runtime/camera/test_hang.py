"""A model that never answers: the camera ends with a message and an error code, so that a service starts it again."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.helpers.camera_sources import FakeDetector, Opener, Scripted, endless, until
from tests.helpers.constants import ROOT
from yolo_slim.runtime.camera.hang import ModelHung
from yolo_slim.runtime.camera.live import Live, LiveSettings

HANGING = """
import sys, time
from yolo_slim.runtime import detector
from yolo_slim.runtime.__main__ import main

timed, frames = detector.Detector.timed, []

def hang(self, *arguments):
    frames.append(0)
    while len(frames) > int(sys.argv[-1]):
        time.sleep(60)
    return timed(self, *arguments)

detector.Detector.timed = hang
detector.Detector.close = lambda _: time.sleep(600)
sys.exit(main(sys.argv[1:-1]))
"""
"""The device's command with a model that hangs after so many runs, and then can't be freed either."""


def test_hung_model_ends_the_camera() -> None:
    """Before the limit it is only stale. Then it ends with the reason, and stopping waits for nothing."""
    now, free = [0.0], threading.Event()
    source = Scripted(endless(), is_live=True)
    settings = LiveSettings(max_stall_s=60.0)
    live = Live(Opener(source), {"slim": FakeDetector(lambda _: free.wait(60))}, settings, clock=lambda: now[0])
    states: list[str] = []
    live.on_status(lambda status: states.append(status.state))
    live.start()
    until(lambda: "live" in states)
    now[0] = 59.0
    until(lambda: "stale" in states)
    assert not live.wait(0.3)
    now[0] = 61.0
    with pytest.raises(ModelHung, match="hasn't finished a frame for 60 s"):
        live.wait(30)
    live.stop()
    assert not free.is_set()
    assert (live.stats().state, source.closed) == ("ended", 1)
    assert "hangs" in live.stats().reason
    until(lambda: states[-1] == "ended")
    free.set()
    with pytest.raises(ModelHung):
        live.wait(0)


def test_slow_frames_are_no_hang() -> None:
    """Negative control: each frame has the whole limit, and a pause isn't work."""
    now = [0.0]

    def slow(_: int) -> None:
        now[0] += 50.0

    live = Live(
        Opener(Scripted(endless())), {"slim": FakeDetector(slow)}, LiveSettings(max_stall_s=60.0), clock=lambda: now[0]
    )
    with live:
        until(lambda: live.stats().totals.shown > 3)
        live.change(paused=True)
        until(lambda: live.stats().state == "paused")
        now[0] += 1000.0
        assert not live.wait(0.3)


@pytest.mark.parametrize(("runs", "shown"), [(4, 3), (0, 0)])
def test_command_leaves_a_hung_model(runs: int, shown: int, tiny_bundle: Path, tmp_path: Path) -> None:
    """Outputs are closed, the message says what to do, the code is an error, and nothing waits for the model.

    It runs once before the first frame, and may hang there too.
    """
    lines = tmp_path / "out.jsonl"
    options = ["--port", "0", "--max-stall", "1", "--jsonl", str(lines)]
    command = [sys.executable, "-c", HANGING, "camera", str(tiny_bundle), *options, str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "error: The model hasn't finished a frame for 1 s: it or its driver hangs." in done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines.read_text().splitlines()) == shown
