"""Which earlier run a cell is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.errors import SlimError
from yolo_slim.history.rows import Run
from yolo_slim.history.store import History


def reference_run(history: History, cell: str, against: str | None) -> Run | None:
    """The cell's baseline; with a branch, its run in the last night of that branch. None: there is none yet."""
    if against is None:
        baseline = history.baseline(cell)
        return history.run(baseline.run) if baseline else None
    nights = {one.number for one in history.own_nights() if one.source.branch == against}
    runs = [run for run in history.runs(cell=cell) if run.night in nights and run.state == "measured"]
    return runs[-1] if runs else None


def require_a_reference(history: History, cells: Sequence[str], against: str) -> None:
    """Refuse a branch that measured none of the cells: a wrong name, most likely. A cell that is new is no fault.

    Raises:
        SlimError: no night of the branch measured any of them.
    """
    if any(reference_run(history, cell, against) for cell in cells):
        return
    known = sorted({one.source.branch or "no branch" for one in history.own_nights()})
    raise SlimError(
        f"No night of the branch {against} measured any of these cells here.",
        culprits=[f"nights of: {', '.join(known) or 'none yet'}"],
        remedy=f"Run a night on {against} first: yolo-slim nightly FILE.yaml",
    )
