"""What differs between two nights, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.history.moved import Moved, moved_between
from yolo_slim.history.rows import Night, Run
from yolo_slim.history.store import History

IMAGES_SHOWN = 5
"""Images that got worse, the worst first."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One cell in two nights; both measured it."""

    before: Run
    after: Run
    moved: Moved
    worse_images: tuple[tuple[str, float, float], ...]
    """Images with their mAP50-95 before and after, those that lost most first."""


def night_of(history: History, number: int) -> Night:
    """Find a night.

    Raises:
        SlimError: there is none of that number.
    """
    nights = history.nights()
    found = next((one for one in nights if one.number == number), None)
    if found is None:
        known = f"1 to {max(one.number for one in nights)}" if nights else "none yet"
        raise SlimError(f"There is no night {number}.", remedy=f"Known nights: {known} (yolo-slim nightly log).")
    return found


def chosen(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose cells match a pattern; without patterns all.

    Raises:
        SlimError: a pattern that no cell matches.
    """
    names = [run.cell.name for run in runs]
    if unknown := [one for one in patterns if not any(fnmatchcase(name, one) for name in names)]:
        raise SlimError(
            "No cell of that night has such a name.", culprits=unknown, remedy=f"Cells: {', '.join(names) or 'none'}."
        )
    return [run for run in runs if not patterns or any(fnmatchcase(run.cell.name, one) for one in patterns)]


def differences(history: History, before: int, after: int, patterns: Sequence[str] = ()) -> list[Difference]:
    """Compare the cells that two nights measured.

    Raises:
        SlimError: no such night, no such cell, or no cell that both measured.
    """
    nights = [night_of(history, number) for number in (before, after)]
    old, new = (
        {run.cell.name: run for run in chosen(history.runs(night=night.number), patterns) if run.state == "measured"}
        for night in nights
    )
    both = [name for name in new if name in old]
    if not both:
        raise SlimError(f"The nights {before} and {after} have no measured cell in common.", remedy="Choose others.")
    return [_difference(history, old[name], new[name]) for name in both]


def paired(
    history: History, before: int, after: int, patterns: Sequence[str] = ()
) -> dict[str, tuple[Run | None, Run | None]]:
    """Every cell that one of two nights has, measured or not, by name; None: that night hasn't it.

    Raises:
        SlimError: no such night, no such cell, or none at all.
    """
    nights = [night_of(history, number) for number in (before, after)]
    old, new = ({run.cell.name: run for run in history.runs(night=night.number)} for night in nights)
    names = [run.cell.name for run in chosen(list({**old, **new}.values()), patterns)]
    if not names:
        raise SlimError(f"The nights {before} and {after} recorded no cell.", remedy="Choose others.")
    return {name: (old.get(name), new.get(name)) for name in names}


def _difference(history: History, before: Run, after: Run) -> Difference:
    moved = moved_between(before, after, history.sources(before, after))
    return Difference(
        before=before,
        after=after,
        moved=moved,
        worse_images=() if moved.incomparable else _worse_images(history, before, after),
    )


def _worse_images(history: History, before: Run, after: Run) -> tuple[tuple[str, float, float], ...]:
    """The images whose own mAP fell most."""
    old, new = history.matches(before), history.matches(after)
    if old is None or new is None:
        return ()
    first, second = old.per_image(), new.per_image()
    lost = np.nan_to_num(first - second)
    order = [int(index) for index in np.argsort(-lost)[:IMAGES_SHOWN] if lost[index] > 0]
    return tuple((new.files[index], float(first[index]), float(second[index])) for index in order)
