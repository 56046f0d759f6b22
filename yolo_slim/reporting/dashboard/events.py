"""What happened between the nights of a cell: commits, weights, settings, SDKs, the system, new baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from yolo_slim.history.moved import commit_text, moved_between
from yolo_slim.history.rows import Night, Run
from yolo_slim.reporting.dashboard.board import CellHistory, status_of

Kind = Literal["commit", "weights, data, settings", "workstation's SDKs", "device, SDKs", "baseline", "no figure"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened before a night, or in it."""

    night: int
    kind: Kind
    text: str


def events(history: CellHistory, nights: Mapping[int, Night]) -> list[Event]:
    """All events of a cell, in the order of the nights."""
    found = [
        *_moved(history, nights),
        *(_event(one.night, "baseline", one.reason) for one in history.baselines),
        *(_event(run.night, "no figure", _why(run)) for run in history.runs if run.measurement is None),
    ]
    place = {number: index for index, number in enumerate(nights)}
    return sorted(found, key=lambda event: (place.get(event.night, -1), KINDS.index(event.kind)))


def _event(night: int, kind: Kind, text: str) -> Event:
    return Event(night=night, kind=kind, text=text)


def _why(run: Run) -> str:
    return f"{status_of(run)}: {(run.error or '').partition(chr(10))[0]}"


def _moved(history: CellHistory, nights: Mapping[int, Night]) -> Iterator[Event]:
    """What differs between each measured run and the one before it."""
    for before, after in pairwise(history.measured):
        night, sources = after.night, (nights[before.night].source, nights[after.night].source)
        moved = moved_between(before, after, sources)
        if text := commit_text(*sources):
            yield _event(night, "commit", text)
        own = [*moved.weights, *moved.data, *moved.settings]
        if own := [*own, *([moved.incomparable] if moved.incomparable else [])]:
            yield _event(night, "weights, data, settings", "\n".join(own))
        if moved.workstation:
            yield _event(night, "workstation's SDKs", "\n".join(moved.workstation))
        if moved.environment:
            yield _event(night, "device, SDKs", "\n".join(moved.environment))
