"""Every run as compact data, for the page that compares any two: equal facts are written once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.history.rows import Run
from yolo_slim.history.store import History
from yolo_slim.reporting.dashboard.board import Board, CellHistory, status_of

NETWORKS = 200
"""Networks whose widths are read, the newest first: reading a result takes time."""
DIGITS = 5


@dataclass
class Table:
    """Values by number; equal ones have one number."""

    values: list[object] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, value: object) -> int:
        """The number of a value."""
        key = repr(value)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def all_runs(history: History, board: Board) -> JsonObject:
    """What the page of differences reads."""
    facts, classes = Table(), Table()
    cells = [
        {
            "name": one.cell.name,
            "page": one.page,
            "names": _names(one),
            "runs": [_run(run, facts, classes) for run in one.runs],
        }
        for one in board.cells
    ]
    widths, unreadable = _widths(history, board)
    nights = {
        night.number: {
            "at": night.started_at[:16].replace("T", " "),
            "commit": f"{night.source.commit[:10]}{'+' if night.source.dirty else ''}"
            if night.source.commit
            else "no repository",
            "subject": night.source.subject or "",
        }
        for night in board.nights
    }
    return {
        "nights": nights, "cells": cells, "facts": facts.values, "classes": classes.values,
        "widths": widths, "unreadable": unreadable,
    }  # fmt: skip


def _names(one: CellHistory) -> Mapping[int, str]:
    measured = one.measured[-1].measurement if one.measured else None
    return measured.accuracy.names if measured else {}


def _run(run: Run, facts: Table, classes: Table) -> JsonObject:
    """One run: night, answer, numbers of its facts, figures."""
    found: JsonObject = {
        "night": run.night,
        "status": status_of(run),
        "settings": facts.number(run.settings),
        "environment": facts.number(run.environment),
        "workstation": facts.number(run.workstation),
        "digests": facts.number(run.digests.model_dump(exclude_none=True) if run.digests else {}),
    }
    if run.measurement is None:
        return {**found, "error": run.error or ""}
    accuracy, speed = run.measurement.accuracy, run.measurement.shown_speed
    per_class = {key: round(value.ap50_95, DIGITS) for key, value in accuracy.per_class.items()}
    figures = [
        accuracy.map50_95, accuracy.map50, *((speed.fps, speed.p50_ms, speed.p99_ms) if speed else [None] * 3),
        run.measurement.size_mb, run.measurement.peak_memory_mb,
    ]  # fmt: skip
    return {
        **found,
        "classes": classes.number(per_class),
        "figures": [None if value is None else round(value, DIGITS) for value in figures],
    }


def _widths(history: History, board: Board) -> tuple[dict[str, dict[str, tuple[int, int]]], dict[str, str]]:
    """Layer to channels (before and after pruning) of the newest networks, by digest; and why some have none."""
    runs = board.newest_first((run for one in board.cells for run in one.measured), lambda run: run.night)
    first = {run.digests.network: run for run in runs if run.digests}
    found: dict[str, dict[str, tuple[int, int]]] = {}
    unreadable: dict[str, str] = {}
    for digest in list(dict.fromkeys(run.digests.network for run in runs if run.digests))[:NETWORKS]:
        # Only the channels are lost with a result of an earlier version: no reason to have no pages.
        try:
            result = history.result(first[digest])
        except SlimError as error:
            unreadable[digest] = error.fact
            continue
        if result:
            found[digest] = {row.layer: (row.before, row.after) for row in result.widths}
    return found, unreadable
