"""The networks of a comparison: what is to be measured, and what became of each.

A cell here is a method at one size with one seed. Which sizes and seeds a method has depends on the method, so the
cells are made by :func:`yolo_slim.comparison.methods.cells_of`; products, order and execution are those of every sweep
(:mod:`yolo_slim.sweep`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.comparison.result import Score, Training

NOTHING_RANDOM = -1
"""Seed of a cell whose network doesn't depend on any."""


def size_name(removed: float) -> str:
    """The folder of all networks that lose this share of the MACs, below their method's."""
    return f"{removed * 100:g}" if removed else "full"


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One network to train and measure."""

    method: str
    removed: float
    """Share of the control's MACs to remove, 0 where the method has no size."""
    seed: int
    """:data:`NOTHING_RANDOM` where it decides nothing."""

    @property
    def name(self) -> str:
        """Its folder below the comparison's, which identifies it."""
        return (
            f"{self.method}/{size_name(self.removed)}/{'once' if self.seed == NOTHING_RANDOM else f'seed-{self.seed}'}"
        )


@dataclass(frozen=True, kw_only=True)
class Network:
    """What became of one cell."""

    cell: Cell
    reason: str = ""
    """Why it wasn't measured; empty where it was."""
    failed: bool = False
    """There is such a network, but this call couldn't make or measure it, which decides nothing about it."""
    imgsz: int | None = None
    """Input side in pixels; None where it wasn't measured."""
    implementation: str = ""
    """What really made it."""
    macs: int = 0
    params: int = 0
    widths: tuple[int, ...] = ()
    bundles: Mapping[str, Path]
    """By runtime."""
    scores: Mapping[str, Score]
    """By runtime; an imported network may lack a runtime."""
    made: Training | None = None
    """None for what isn't trained."""
    imported: bool = False
    """It was trained for an earlier comparison; its bundles here contain the cut before training."""
    trained_macs: int = 0
    """MACs of what was trained; another machine's arithmetic may have cut another channel."""

    @property
    def measured(self) -> bool:
        """Whether there are figures."""
        return not self.reason

    @classmethod
    def missing(cls, cell: Cell, reason: str, *, failed: bool) -> Network:
        """One that couldn't be had."""
        return cls(cell=cell, reason=reason, failed=failed, bundles={}, scores={})


def representatives(networks: Sequence[Network]) -> list[Network]:
    """Choose the networks that are timed: one for each method and shape, because the weights don't change the speed."""
    return [one for one in networks if one.measured and representative(one, networks) is one]


def representative(one: Network, networks: Sequence[Network]) -> Network:
    """Find the network whose timing stands for one: same method, size and shape; a trained one if there is any."""
    same = (one.cell.method, one.cell.removed, one.widths)
    alike = [o for o in networks if o.measured and (o.cell.method, o.cell.removed, o.widths) == same]
    # An imported network has only its untrained cut here, whose post-processing has less to do.
    return min(alike, key=lambda o: o.imported) if one.measured else one


def timed_key(one: Network, runtime: str) -> str:
    """Name a network's timing in a runtime."""
    return f"{one.cell.name}/{runtime}"
