"""Cells of a sweep: order, names, what is known, and what a failure stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from yolo_slim.errors import MachineError, SlimError
from yolo_slim.sweep.executors import Finished, run_here
from yolo_slim.sweep.grid import Store, merged, product


@dataclass(frozen=True)
class Named:
    """A cell that is a name."""

    name: str


def test_product() -> None:
    """The first axis changes slowest, and a value that is given twice counts once."""
    found = list(product(seed=[1, 0, 1], size=[0.3, 0.5]))
    assert found == [
        {"seed": 1, "size": 0.3},
        {"seed": 1, "size": 0.5},
        {"seed": 0, "size": 0.3},
        {"seed": 0, "size": 0.5},
    ]


def test_merged() -> None:
    """Cells of earlier calls and of this one are there once, in the order of the tables."""
    known, wanted = [Named("b"), Named("a")], [Named("c"), Named("a")]
    assert [cell.name for cell in merged(known, wanted, lambda cell: cell.name)] == ["a", "b", "c"]


def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    """Figures survive the process, and those that another process added meanwhile aren't lost."""
    first, other = Store(tmp_path / "grid.json"), Store(tmp_path / "grid.json")
    assert first.once("a", lambda: 1) == 1
    assert other.once("b", lambda: 2) == 2
    again = Store(tmp_path / "grid.json")
    assert again.figures == {"a": 1, "b": 2}
    assert again.once("a", lambda: pytest.fail("measured again")) == 1


def failing(errors: dict[str, Exception]) -> Callable[[Named], str]:
    """Return work that fails for some cells."""

    def work(cell: Named) -> str:
        if cell.name in errors:
            raise errors[cell.name]
        return cell.name.upper()

    return work


def test_a_failed_cell_stops_no_other() -> None:
    """Its error stands in the place of its result, and every cell is reported before the next one starts."""
    seen: list[str] = []

    def done(finished: Finished[Named, str]) -> None:
        seen.append(finished.cell.name)

    cells = [Named("a"), Named("b"), Named("c")]
    found = run_here(cells, failing({"b": SlimError("no b.")}), done=done)
    assert [one.result for one in found] == ["A", None, "C"]
    assert [one.error.fact if one.error else "" for one in found] == ["", "no b.", ""]
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize("error", [MachineError("disk full."), SlimError("no a.")])
def test_what_stops_a_sweep(error: SlimError) -> None:
    """A problem of the machine, or the failure of a cell that is required, ends it at once."""
    seen: list[str] = []
    with pytest.raises(SlimError, match=error.fact):
        run_here(
            [Named("a"), Named("b")],
            failing({"a": error}),
            required=lambda cell: cell.name == "a",
            done=lambda finished: seen.append(finished.cell.name),
        )
    assert seen == []
