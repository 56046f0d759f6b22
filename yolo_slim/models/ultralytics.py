"""How yolo_slim talks to Ultralytics: no network, nothing installed behind the user's back, its log in a file."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from yolo_slim.machine import cores


def prepare_ultralytics() -> None:
    """Set what Ultralytics reads when it is first imported; call before importing it."""
    # Not only a default: Ultralytics would install missing packages at run time, behind the user's back.
    os.environ["YOLO_AUTOINSTALL"] = "false"
    # Online, it checks for a connection when it is imported, and downloads what it misses.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    # Ultralytics' console logger starts quiet; the stages send its records to a log file instead.
    os.environ.setdefault("YOLO_VERBOSE", "false")
    # Of torch and its exporter, about code that isn't ours.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*TracerWarning.*")


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Send Ultralytics' log records to a file for the length of the block, and none to the console."""
    prepare_ultralytics()
    from ultralytics.utils import LOGGER

    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    console, level, propagate = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        # Progress bars are printed, not logged; they get a file of their own.
        with path.with_suffix(".out").open("a", encoding="utf-8") as bars, redirect_stdout(bars):
            yield
    finally:
        LOGGER.handlers[:], LOGGER.propagate = console, propagate
        LOGGER.setLevel(level)
        handler.close()


def use_all_cores() -> None:
    """Let torch use every core that this process may use."""
    import torch

    # Importing Ultralytics sets OMP_NUM_THREADS to 1, and its trainer sets numbers of its own.
    torch.set_num_threads(cores())
