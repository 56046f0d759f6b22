"""Progress on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


SILENT_S = 30.0
"""Without a terminal, seconds without a line after which a step is one: a log shows that the command works."""


class Listener:
    """Bars where there is a terminal, else one line per fact; see :class:`yolo_slim.progress.Progress`."""

    def __init__(self, bars: Progress | None, *, quiet: bool) -> None:
        self._bars, self._quiet = bars, quiet
        self._tasks: dict[str, TaskID] = {}
        self._said_at = time.monotonic()

    def step(self, text: str, done: int, total: int) -> None:
        """Move a bar; without bars, print how far it is when nothing was printed for :data:`SILENT_S`."""
        if self._bars is None:
            if time.monotonic() - self._said_at > SILENT_S:
                self.say(f"{text}: {done} of {total}")
            return
        if text not in self._tasks:
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks = {text: self._bars.add_task(text, total=total)}
        self._bars.update(self._tasks[text], completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line."""
        self._said_at = time.monotonic()
        if self._quiet:
            return
        if self._bars is None:
            click.echo(text, err=True)
        else:
            # By the bars' own console: other output would break the live display.
            self._bars.console.print(text, markup=False, highlight=False)


@contextmanager
def listening(*, quiet: bool) -> Iterator[Listener]:
    """A listener that writes to standard error, so that standard output is the answer alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Listener(None, quiet=quiet)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield Listener(bars, quiet=quiet)
