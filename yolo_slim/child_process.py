"""Processes of our own: what may crash, or must start from nothing, runs in one."""

from __future__ import annotations

import os
from pathlib import Path


def own_environment() -> dict[str, str]:
    """The environment of a process that imports this very yolo_slim and may use every core."""
    # Another yolo_slim may be installed, so this one's place comes first.
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    environment.pop("OMP_NUM_THREADS", None)
    return environment
