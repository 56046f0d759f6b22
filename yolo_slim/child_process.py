"""Processes of our own: what may crash, or must start from nothing, runs in one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def own_environment() -> dict[str, str]:
    """The environment of a process that imports this very yolo_slim and may use every core."""
    # Another yolo_slim may be installed, so this one's place comes first.
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    environment.pop("OMP_NUM_THREADS", None)
    return environment


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
