"""The networks of a comparison: what is to be measured, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.comparison.arms import Start


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One network to train and measure."""

    arm: str
    removed: float
    """Share of the control's MACs to remove, 0 where the arm has no size."""
    seed: int
    """-1 where nothing is random."""

    @property
    def folder(self) -> Path:
        """Return its place below the comparison's folder."""
        size = f"{self.removed * 100:g}" if self.removed else "full"
        return Path(self.arm, size, f"seed-{self.seed}" if self.seed >= 0 else "once")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of one cell."""

    cell: Cell
    start: Start | None
    """None where it wasn't measured."""
    reason: str = ""
    """Why not."""
    failed: bool = False
    """There is such a network, but this call couldn't make or measure it."""
    macs: int = 0
    params: int = 0
    widths: tuple[int, ...] = ()
    bundles: Mapping[str, Path] | None = None
    """Runtime to bundle."""
    scores: Mapping[str, Any] | None = None
    """Runtime to ``map50_95`` and ``map50``."""
    made: Mapping[str, Any] | None = None
    """Where, when and how it was trained; None for what isn't trained."""
    taken_over: bool = False
    """It was trained for an earlier comparison; its bundles here hold the cut before training."""
    trained_macs: int = 0
    """MACs of what was trained; another machine's arithmetic may have cut another channel."""


def representatives(measured: Sequence[Measured]) -> list[Measured]:
    """Return the networks that are timed: one of those of one arm and shape, whatever its seed."""
    return [one for one in measured if one.start and representative(one, measured) is one]


def representative(one: Measured, measured: Sequence[Measured]) -> Measured:
    """Return the network whose timing stands for one: same arm, size and shape, a trained one if there is any."""
    same = (one.cell.arm, one.cell.removed, one.widths)
    alike = [o for o in measured if o.start and (o.cell.arm, o.cell.removed, o.widths) == same]
    return min(alike, key=lambda o: o.taken_over) if one.start else one


def timed_key(one: Measured, runtime: str) -> str:
    """Return the name of a network's timing in a runtime."""
    return f"{one.cell.folder.as_posix()}/{runtime}"
