"""Nights that are killed at random moments; what each of them recorded must be there after every later one.

    python -m tests.helpers.killed_nights --kills 100 --pairs 20 --out record.json

The nights are run by the command line; their chains make tiny bundles at once and their device is invented, so that a
night takes a second. Locks, history and files are the real ones. Pairs are two nights of one folder begun at once: one
has to be refused.

A process that has imported everything forks one child a night, so that a kill costs no new start of Python.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

from tests.helpers import tiny_data
from tests.helpers.nights import NightDevice, run_night, write_matrix
from yolo_slim.errors import EXIT_BAD_INPUT, SlimError
from yolo_slim.files import write_json
from yolo_slim.history.store import History
from yolo_slim.machine import cores, device_model
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.nightly.output import FILES

TARGETS = 4
CELLS = 2 * TARGETS
HISTORY = "runs/nightly/history.sqlite"


@dataclass
class Counts:
    """What was seen."""

    kills: int = 0
    in_the_middle: int = 0
    """Kills after which the night had some of its cells, but not all."""
    nights: int = 0
    runs: int = 0
    lost: int = 0
    """Runs that were recorded once and weren't there later."""
    doubled: int = 0
    """Cells that one night has twice."""
    incomplete: int = 0
    """Runs without one of their large parts."""
    unwritten: int = 0
    """Nights that ended without one of their files."""
    errors: list[str] = field(default_factory=list)
    """Of cells that failed: no kill may lead to one."""


@dataclass
class Pairs:
    """What became of two nights that were begun at once."""

    pairs: int = 0
    one_refused: int = 0
    """Pairs of which one night ran to its end and the other was refused (exit code 2)."""
    nights: int = 0
    doubled: int = 0


def _night(matrix: Path) -> None:
    """Run a night in a child and end with its exit code."""
    code, _, errors = run_night(matrix, NightDevice())
    if code not in (0, 1, 3):
        print(errors, flush=True)
    sys.exit(code)


def _recorded(matrix: Path, counts: Counts) -> set[str]:
    """The runs in the history; counts those that aren't whole."""
    path = matrix.parent / HISTORY
    if not path.is_file():
        return set()
    # Opened for writing: a kill may have come before the tables were made.
    with History.open(path, create=True) as history:
        runs = history.runs()
        counts.incomplete = sum(not (history.timing(r) and history.matches(r) and history.result(r)) for r in runs)
        counts.nights, counts.runs = len(history.nights()), len(runs)
        ended = [night.number for night in history.nights() if night.ended_at]
        folders = [path.parent / "nights" / f"{number:04d}" for number in ended]
        counts.unwritten = sum(not all((folder / name).is_file() for name in FILES) for folder in folders)
        counts.errors = sorted({run.error for run in runs if run.error})
        names = [(run.night, run.cell.name) for run in runs]
        counts.doubled = len(names) - len(set(names))
        return {run.uid for run in runs}


def _wait_for_a_cell(matrix: Path, child: BaseProcess, runs: int) -> None:
    """Wait until the history has so many runs, or the night ends."""
    path = matrix.parent / HISTORY
    while child.is_alive():
        with suppress(sqlite3.Error, SlimError), History.open(path) as history:
            if len(history.runs()) >= runs:
                return
        child.join(0.002)


def kill_nights(folder: Path, kills: int, seed: int = 0) -> Counts:
    """Run nights, kill ``kills`` of them at random moments, let the last one end."""
    # Imported before the forks: each child would take seconds for it.
    prepare_ultralytics()
    importlib.import_module("ultralytics.engine.validator")
    data = tiny_data.make(folder / "shapes", "detect", images=4)
    targets = {f"t{number}": {"profile": "host"} for number in range(TARGETS)}
    matrix = write_matrix(folder, data, targets=targets)
    fork, rng, counts, known = get_context("fork"), random.Random(seed), Counts(), set[str]()
    # A night in a folder of its own tells how long one takes here.
    (folder / "measure").mkdir()
    whole = fork.Process(target=_night, args=(write_matrix(folder / "measure", data, targets=targets),))
    begin = time.monotonic()
    whole.start()
    whole.join()
    seconds = time.monotonic() - begin
    while counts.kills < kills:
        child = fork.Process(target=_night, args=(matrix,))
        child.start()
        if counts.kills % 2:
            # Most of a night passes before its first cell: every other kill waits for some of them.
            _wait_for_a_cell(matrix, child, len(known) + rng.randint(1, CELLS))
            child.join(rng.uniform(0, seconds / 100))
        else:
            child.join(rng.uniform(0, seconds))
        if child.is_alive():
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
            counts.kills += 1
        found = _recorded(matrix, counts)
        counts.in_the_middle += bool(len(found) % CELLS)
        counts.lost += len(known - found)
        known = found
    last = fork.Process(target=_night, args=(matrix,))
    last.start()
    last.join()
    counts.lost += len(known - _recorded(matrix, counts))
    return counts


def _night_of_a_pair(matrix: Path, gate: Barrier) -> None:
    gate.wait()
    _night(matrix)


def begin_pairs(folder: Path, pairs: int) -> Pairs:
    """Begin two nights of one folder at once, again and again."""
    prepare_ultralytics()
    data = tiny_data.make(folder / "shapes", "detect", images=4)
    matrix = write_matrix(folder, data)
    fork, found = get_context("fork"), Pairs()
    for _ in range(pairs):
        gate = fork.Barrier(2)
        both = [fork.Process(target=_night_of_a_pair, args=(matrix, gate)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        found.pairs += 1
        codes = sorted(one.exitcode or 0 for one in both)
        found.one_refused += codes.count(EXIT_BAD_INPUT) == 1
    with History.open(matrix.parent / HISTORY) as history:
        found.nights = len(history.nights())
        names = [(run.night, run.cell.name) for run in history.runs()]
        found.doubled = len(names) - len(set(names))
    return found


def main() -> None:
    """Kill nights, begin pairs, print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file with what was seen")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        counts = kill_nights(Path(folder), options.kills, options.seed)
        print(counts)
        pairs = begin_pairs(Path(other), options.pairs) if options.pairs else Pairs()
        if options.pairs:
            print(pairs)
    if options.out:
        made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", "seed": options.seed}
        write_json(options.out, {**made, "killed": asdict(counts), "at_once": asdict(pairs)})


if __name__ == "__main__":
    main()
