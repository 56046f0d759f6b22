"""The cells of a sweep: one for every combination of settings, each with a name, and the figures that are known.

A name says all that decides a cell's figures. It is the key in a :class:`Store` and can be a folder, so that a later
call, here or on another machine, finds what is finished and measures the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from yolo_slim.files import merge_json, read_json

C = TypeVar("C", bound="Cell")


class Cell(Protocol):
    """One network to make and measure."""

    @property
    def name(self) -> str:
        """What identifies it in this call and in every later one."""


def product(**axes: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the axes' values, each value once; the first axis changes slowest."""
    values = [dict.fromkeys(values) for values in axes.values()]
    for combination in itertools.product(*values):
        yield dict(zip(axes, combination, strict=True))


def merged(known: Iterable[C], wanted: Iterable[C], order: Callable[[C], Any]) -> list[C]:
    """Put the cells of earlier calls and of this one together, each once, in the order of the tables."""
    return sorted({cell.name: cell for cell in [*known, *wanted]}.values(), key=order)


class Store:
    """Figures by name in one JSON file, which several processes may fill at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: Mapping[str, Any] = read_json(path) if path.is_file() else {}

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """Give the figures of a name; they are measured only where they aren't known."""
        if name not in self.figures:
            # Measured before the lock is taken: other processes don't wait for it.
            # The file is read again while it is locked, because another process may have added figures.
            self.figures = merge_json(self.path, {name: measure()})
        return self.figures[name]
