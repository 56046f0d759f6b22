"""What the dashboard reads of a history: its nights and, for every cell, its runs and baselines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from yolo_slim.errors import SlimError
from yolo_slim.files import sha256_json
from yolo_slim.history.rows import NIGHT, Baseline, Cell, Night, Run
from yolo_slim.history.store import History

T = TypeVar("T")
STEP_MS = 60_000
"""What a night follows its predecessor by, at least, on the time axis: the clock may have gone backwards."""


@dataclass(frozen=True)
class CellHistory:
    """One cell through all nights."""

    cell: Cell
    runs: tuple[Run, ...]
    """In the order of the nights; at least one."""
    baselines: tuple[Baseline, ...]
    """In the order in which they were set."""

    @property
    def page(self) -> str:
        """Name of its page."""
        return f"cell-{slug(self.cell.name)}.html"

    @property
    def device_page(self) -> str:
        """Name of its device's page."""
        return device_page(self.cell.target)

    @property
    def last(self) -> Run:
        """The newest run."""
        return self.runs[-1]

    @cached_property
    def measured(self) -> tuple[Run, ...]:
        """The runs with figures."""
        return tuple(run for run in self.runs if run.measurement and run.digests)

    @cached_property
    def baseline(self) -> Run | None:
        """The run that the last one was compared with, else the newest baseline; None: there is none."""
        wanted = self.last.reference or (self.baselines[-1].run if self.baselines else None)
        return next((run for run in self.runs if run.uid == wanted), None)

    @property
    def pair(self) -> tuple[int, int] | None:
        """The nights whose images are shown side by side, the baseline's and the last one; None: there is one night."""
        if self.baseline is None or self.last.measurement is None or self.baseline.uid == self.last.uid:
            return None
        return self.baseline.night, self.last.night

    @property
    def status(self) -> str:
        """The newest answer."""
        return status_of(self.last)


@dataclass(frozen=True)
class Board:
    """Everything that the pages show, without the large parts of the runs."""

    nights: tuple[Night, ...]
    cells: tuple[CellHistory, ...]

    @property
    def devices(self) -> Mapping[str, Sequence[CellHistory]]:
        """The cells of every device."""
        names = dict.fromkeys(one.cell.target for one in self.cells)
        return {name: [one for one in self.cells if one.cell.target == name] for name in names}

    @cached_property
    def night(self) -> Mapping[int, Night]:
        """The nights by number."""
        return {night.number: night for night in self.nights}

    def newest_first(self, of: Iterable[T], night: Callable[[T], int]) -> list[T]:
        """Sort what belongs to nights; an imported night has a higher number than later ones.

        Args:
            of: what is sorted.
            night: gives the number of its night.
        """
        place = {one.number: index for index, one in enumerate(self.nights)}
        return sorted(of, key=lambda one: -place.get(night(one), -1))

    @cached_property
    def times(self) -> Mapping[int, int]:
        """When each night began, milliseconds since 1970, in the order of the nights."""
        found: dict[int, int] = {}
        last = 0
        for night in self.nights:
            last = max(int(datetime.fromisoformat(night.started_at).timestamp() * 1000), last + STEP_MS)
            found[night.number] = last
        return found


def read(history: History) -> Board:
    """Read a history; comparisons with a branch (trials) are left out.

    Raises:
        SlimError: it has no night with a cell.
    """
    nights = tuple(night for night in history.nights() if night.kind == NIGHT)
    numbers = {night.number for night in nights}
    runs: dict[str, list[Run]] = {}
    for run in history.runs():
        if run.night in numbers:
            runs.setdefault(run.cell.name, []).append(run)
    if not runs:
        raise SlimError(f"{history.path} has no night with a cell.", remedy="Run a night: yolo-slim nightly FILE.yaml")
    baselines = history.baselines()
    cells = [
        CellHistory(found[-1].cell, tuple(found), tuple(one for one in baselines if one.cell == name))
        for name, found in sorted(runs.items())
    ]
    return Board(nights, tuple(cells))


def status_of(run: Run) -> str:
    """A run's answer, or why it has none."""
    return run.judgement.status if run.judgement else "not judged" if run.state == "measured" else run.state


def device_page(target: str) -> str:
    """Name of a device's page."""
    return f"device-{slug(target)}.html"


def slug(name: str) -> str:
    """A file name for a name: readable, and different for different names."""
    text = re.sub(r"[^a-zA-Z0-9.]+", "-", name).strip("-.")[:80]
    return f"{text}-{sha256_json(name)[:6]}"
