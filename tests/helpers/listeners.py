"""Listeners to a stage's progress: one remembers what was said, one stops the stage."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Remembers:
    """Keeps what is said, and how bars move."""

    said: str = ""
    steps: list[tuple[str, int, int]] = field(default_factory=list)

    def step(self, text: str, done: int, total: int) -> None:
        """Keep a bar's progress."""
        self.steps.append((text, done, total))

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said += text + "\n"


@dataclass
class Interrupts:
    """Stops the stage, as Ctrl-C does, at the first line that contains a text."""

    text: str

    def step(self, text: str, done: int, total: int) -> None:
        """Ignore a bar's progress."""

    def say(self, text: str) -> None:
        """Stop at the line that was waited for."""
        if self.text in text:
            raise KeyboardInterrupt


@dataclass
class StopsTraining(Remembers):
    """Stops a training inside of prune in its second epoch, as a kill would, and keeps what is said before."""

    def step(self, text: str, done: int, total: int) -> None:
        """Stop when the first epoch is complete and the second one's images are through."""
        if text == "prune: train" and done == 2:
            raise KeyboardInterrupt
