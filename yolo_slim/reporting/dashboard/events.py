"""What happened between the nights of a cell: commits, weights, settings, SDKs, the system, new baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from yolo_slim.history.moved import moved_between
from yolo_slim.history.rows import Night, Run
from yolo_slim.reporting.dashboard.board import CellHistory, status_of

Kind = Literal["commit", "weights, data, settings", "device, SDKs", "baseline", "no figure"]
KINDS: tuple[Kind, ...] = ("commit", "weights, data, settings", "device, SDKs", "baseline", "no figure")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened before a night, or in it."""

    night: int
    kind: Kind
    text: str


def events(history: CellHistory, nights: Mapping[int, Night]) -> list[Event]:
    """All events of a cell, by night."""
    found = [
        *_moved(history, nights),
        *(_event(one.night, "baseline", one.reason) for one in history.baselines),
        *(_event(run.night, "no figure", _why(run)) for run in history.runs if run.measurement is None),
    ]
    return sorted(found, key=lambda event: (event.night, KINDS.index(event.kind)))


def _event(night: int, kind: Kind, text: str) -> Event:
    return Event(night=night, kind=kind, text=text)


def _why(run: Run) -> str:
    return f"{status_of(run)}: {(run.error or '').partition(chr(10))[0]}"


def _moved(history: CellHistory, nights: Mapping[int, Night]) -> Iterator[Event]:
    """What differs between each measured run and the one before it."""
    for before, after in pairwise(history.measured):
        night, moved = after.night, moved_between(before, after)
        if text := commit_text(nights[before.night], nights[night]):
            yield _event(night, "commit", text)
        if own := [*moved.weights, *moved.settings, *([moved.incomparable] if moved.incomparable else [])]:
            yield _event(night, "weights, data, settings", "\n".join(own))
        if moved.environment:
            yield _event(night, "device, SDKs", "\n".join(moved.environment))


def commit_text(before: Night, after: Night) -> str:
    """How the code of two nights differs; empty: it doesn't."""
    old, new = before.source, after.source
    if (old.commit, old.dirty) == (new.commit, new.dirty):
        return ""
    names = [f"{one.commit[:8]}{'+' if one.dirty else ''}" if one.commit else "no repository" for one in (old, new)]
    return f"{' -> '.join(names)}{f': {new.subject}' if new.subject else ''}"
