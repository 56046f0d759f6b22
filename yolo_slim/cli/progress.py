"""Progress on the terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


SILENT_S = 30.0
"""Without a terminal, seconds without a line after which the last step is said again: a log shows that it works."""


class Listener:
    """Bars where there is a terminal, else one line per fact; see :class:`yolo_slim.progress.Progress`."""

    def __init__(self, bars: Progress | None, *, quiet: bool) -> None:
        self._bars, self._quiet = bars, quiet
        self._tasks: dict[str, TaskID] = {}
        # The thread of :func:`_reminding` prints too: a line that comes meanwhile makes its own one needless.
        self._lock = threading.RLock()
        self._said_at = time.monotonic()
        self._reminder = ""

    def step(self, text: str, done: int, total: int) -> None:
        """Move a bar; without bars, keep how far it is for :meth:`remind`."""
        if self._bars is None:
            self._reminder = _reminder(text, done, total)
            return
        if text not in self._tasks:
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks = {text: self._bars.add_task(text, total=total)}
        self._bars.update(self._tasks[text], completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line."""
        with self._lock:
            self._said_at = time.monotonic()
            if self._quiet:
                return
            if self._bars is None:
                click.echo(text, err=True)
            else:
                # By the bars' own console: other output would break the live display.
                self._bars.console.print(text, markup=False, highlight=False)

    def remind(self) -> float:
        """Say the last step again where nothing was printed for :data:`SILENT_S`; returns when to look again, in s."""
        with self._lock:
            left_s = self._said_at + SILENT_S - time.monotonic()
            if left_s > 0:
                return left_s
            if self._reminder:
                self.say(self._reminder)
            return SILENT_S


def _reminder(text: str, done: int, total: int) -> str:
    """What a log says of the last step: how far it was, where it has more than one part."""
    return f"latest step: {text}" if total == 1 else f"latest step: {text}, {done} of {total}"


@contextmanager
def listening(*, quiet: bool) -> Iterator[Listener]:
    """A listener that writes to standard error, so that standard output is the answer alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet:
        yield Listener(None, quiet=True)
        return
    if not console.is_terminal:
        with _reminding(Listener(None, quiet=False)) as listener:
            yield listener
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield Listener(bars, quiet=False)


@contextmanager
def _reminding(listener: Listener) -> Iterator[Listener]:
    """Let a thread remind of the last step, also during a step of many minutes; it ends before the block does."""
    ended = threading.Event()

    def remind() -> None:
        wait_s = SILENT_S
        while not ended.wait(wait_s):
            wait_s = listener.remind()

    thread = threading.Thread(target=remind, name="reminder", daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        ended.set()
        thread.join()
