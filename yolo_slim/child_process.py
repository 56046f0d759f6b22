"""Processes of our own: what may crash, or must start from nothing, runs in one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def own_environment() -> dict[str, str]:
    """The environment of a process that imports this very yolo_slim and may use every core."""
    # Another yolo_slim may be installed, so this one's place comes first.
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    environment.pop("OMP_NUM_THREADS", None)
    return environment


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that temporary folders are removed; exit code 143.

    `kill`, `timeout` and systemd send it, and Python would end at once.
    """
    # Only the main thread may set handlers, and only it gets them.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            # A fork: the folders are its parent's.
            os._exit(128 + number)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def busy_processes(count: int, *, core: int | None = None, nice: int = 0) -> Iterator[None]:
    """Let processes compute for nothing, to see what a timing makes of them.

    Args:
        count: number of processes.
        core: the core that all of them share; None: any.
        nice: their niceness.
    """
    kept = "" if core is None else f"os.sched_setaffinity(0, {{{core}}}); "
    code = f"import os; {kept}os.nice({nice})\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
