"""A process that is told to end removes its temporary files first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.helpers import tiny_detector
from tests.helpers.constants import ROOT
from tests.helpers.waiting import wait_until
from yolo_slim.child_process import ended_by_sigterm

EXIT_TERMINATED = 128 + signal.SIGTERM


def started(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Start Python with a folder of its own for temporary files."""
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True)


def test_sigterm_removes_temporary_folders(tmp_path: Path) -> None:
    """A command that is ended by kill, timeout or systemd leaves nothing, prints nothing, and ends with 143."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    onnx = tiny_detector.write_onnx(tmp_path / "tiny.onnx")
    bundle = tiny_detector.build_bundle(onnx, tmp_path / "bundle", "onnxruntime").folder
    process = started(folder, "-m", "yolo_slim.runtime", "tune", str(bundle), "--seconds", "30")
    wait_until(lambda: list(folder.glob("yolo-slim-tune-*")), 30)
    process.terminate()
    assert (process.communicate(timeout=30)[1], process.returncode) == ("", EXIT_TERMINATED)
    assert list(folder.iterdir()) == []


FORK = """
import os, signal, sys, tempfile, time
from yolo_slim.child_process import ended_by_sigterm
with ended_by_sigterm(), tempfile.TemporaryDirectory() as folder:
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(say, b"1")
        time.sleep(20)
        os._exit(1)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    sys.exit(0 if os.path.isdir(folder) and os.waitstatus_to_exitcode(status) == 143 else 1)
"""


def test_a_fork_leaves_its_parents_folders(tmp_path: Path) -> None:
    """A worker that was forked and is terminated removes nothing of its parent."""
    process = started(tmp_path, "-c", FORK)
    assert (process.communicate(timeout=30)[1], process.returncode) == ("", 0)


def test_the_handler_before_comes_back() -> None:
    """Outside the block SIGTERM means what it meant before."""

    def other(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, other)
    try:
        with ended_by_sigterm():
            assert signal.getsignal(signal.SIGTERM) is not other
        assert signal.getsignal(signal.SIGTERM) is other
    finally:
        signal.signal(signal.SIGTERM, before)
