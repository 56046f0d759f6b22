"""A dashboard that was written, and where its history is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.reporting.dashboard.board import Board
from yolo_slim.reporting.dashboard.site import Site

NIGHTS, SLOWER, LESS_ACCURATE = 14, 8, 12
"""Nights of the written history, and those of its two planted changes."""


@dataclass(frozen=True)
class Written:
    """A history and its dashboard."""

    history: Path
    board: Board
    site: Site
    folder: Path

    def page(self, name: str) -> str:
        """The text of a page."""
        return (self.folder / name).read_text(encoding="utf-8")

    def cell(self, part: str) -> str:
        """The page of the cell whose name contains ``part``."""
        (found,) = [one.page for one in self.board.cells if part in one.cell.name]
        return self.page(found)
