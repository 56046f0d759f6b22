"""Where the cells of a sweep run: in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from yolo_slim.errors import MachineError, SlimError
from yolo_slim.sweep.grid import Cell

C = TypeVar("C", bound=Cell)
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[C, R]):
    """What became of one cell: a result, or the error that says why there is none."""

    cell: C
    result: R | None = None
    error: SlimError | None = None


def run_here(
    cells: Sequence[C],
    work: Callable[[C], R],
    *,
    required: Callable[[C], bool] = lambda _: False,
    done: Callable[[Finished[C, R]], None] = lambda _: None,
) -> list[Finished[C, R]]:
    """Run the cells in their order.

    A cell that fails doesn't stop the others, because its error belongs to it alone. An error of the machine would hit
    the next cell too, so it ends the sweep; so does a failed cell without which the others mean nothing.

    Args:
        cells: what to run.
        work: makes the result of one cell; has to be quick for a cell that is finished.
        required: whether the failure of a cell ends the sweep.
        done: called after every cell, before the next one starts.

    Raises:
        SlimError: of a required cell.
        MachineError: of any cell.
    """
    finished = []
    for cell in cells:
        # Reported at once, so that an interruption loses only the cell that was running.
        finished.append(_finish(cell, work, required))
        done(finished[-1])
    return finished


def _finish(cell: C, work: Callable[[C], R], required: Callable[[C], bool]) -> Finished[C, R]:
    """Run one cell; its own error becomes part of the answer."""
    try:
        return Finished(cell=cell, result=work(cell))
    # Before SlimError, of which it is a kind.
    except MachineError:
        raise
    except SlimError as error:
        if required(cell):
            raise
        return Finished(cell=cell, error=error)
