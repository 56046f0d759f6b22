"""How a stage reports what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener. The command line draws bars, a notebook may print, a script stays silent."""

    def step(self, text: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of a piece of work are finished."""

    def say(self, text: str) -> None:
        """Report a fact worth a line of its own."""


class Silent:
    """A listener that ignores everything."""

    def step(self, text: str, done: int, total: int) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""
