"""The grid of settings: which cells it has, and that a network is made once for all cells that need it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.constants import ROOT
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.sweep.settings_grid import GridRequest, Recipe, Settings, SettingsCell, SettingsGrid, require_split

ROWS: dict[str, Settings] = {
    "defaults": {},
    "uniform": {"prune.scope": "uniform"},
    "distillation off": {"recover.distill": 0.0},
    "between": {"prune.recover_epochs_between": 1},
}


@pytest.fixture
def request_(trained: Path, signs: Path, tmp_path: Path) -> GridRequest:
    """Return a grid of one model at one size."""
    return GridRequest(
        rows=ROWS, models=(trained,), data=signs, imgsz=96, out=tmp_path / "runs", store=tmp_path / "grid.json"
    )


def unused(*_: Any) -> Path:
    """Fail where a network is made that shouldn't be."""
    pytest.fail("made a network")


def grid(request: GridRequest, **recipe: Any) -> SettingsGrid:
    """Return a grid whose networks are made by the given functions."""
    return SettingsGrid(request, Recipe(**{"prune": unused, "recover": unused, **recipe}))


def test_cells(request_: GridRequest) -> None:
    """Without training, rows that change training alone have no cell; with it, a cut with training has one."""
    assert [(cell.row, cell.epochs) for cell in grid(request_).cells()] == [("defaults", 0), ("uniform", 0)]
    found = [(cell.row, cell.epochs) for cell in grid(replace(request_, epochs=5)).cells()]
    assert found == [
        *[(row, epochs) for row in ("defaults", "uniform", "distillation off") for epochs in (0, 5)],
        ("between", 5),
    ]


def test_names(request_: GridRequest) -> None:
    """A name changes with what decides the figures; cells that differ in training share the pruned network."""
    by_row = {(cell.row, cell.epochs): cell for cell in grid(replace(request_, epochs=5)).cells()}
    defaults, off = by_row["defaults", 5], by_row["distillation off", 5]
    assert defaults.folder == off.folder == by_row["defaults", 0].folder
    assert defaults.name != off.name
    assert by_row["uniform", 0].folder != defaults.folder
    assert replace(defaults, seed=1).folder != defaults.folder
    between = by_row["between", 5]
    assert (defaults.epochs_left, between.epochs_left) == (5, 3)
    assert replace(between, settings={**between.settings, "prune.steps": 5}).epochs_left == 1


def test_trainings_between_steps_decide_the_cut(request_: GridRequest) -> None:
    """A cut with trainings depends on how they train; a cut without them doesn't."""
    by_row = {cell.row: cell for cell in grid(replace(request_, epochs=5)).cells()}
    for row, is_equal in (("defaults", True), ("between", False)):
        cell = by_row[row]
        trained_otherwise = replace(cell, settings={**cell.settings, "recover.distill": 0.5})
        assert (trained_otherwise.cut_digest == cell.cut_digest) == is_equal


def test_growing(request_: GridRequest, trained: Path) -> None:
    """A row that has no network says so, the others are measured once, and a second call measures nothing."""
    made: list[str] = []

    def prune(cell: SettingsCell, out: Path) -> Path:
        made.append(cell.row)
        if cell.row == "uniform":
            raise SlimError("the MACs can't be reached.")
        return trained

    seen: list[tuple[str, str]] = []
    this = grid(request_, prune=prune)
    this.run(lambda cell, found: seen.append((cell.row, found)))
    assert made == ["defaults", "uniform"]
    assert seen[1] == ("uniform", "the MACs can't be reached.")
    control = read_json(request_.store)[this.control(trained)]["map50_95"]
    assert seen[0] == ("defaults", f"{control:.4f}")
    assert [this.maps(trained, row) for row in this.rows] == [[[control]], [[]]]
    assert len(this.origins()) == 1
    grid(replace(request_, rows={"defaults": {}})).run()


def test_split_that_does_not_exist(signs: Path) -> None:
    """Images that aren't there are found before any work."""
    require_split(signs, "val")
    with pytest.raises(SlimError, match="has no split holdout"):
        require_split(signs, "holdout")


def test_the_record_is_of_today(request_: GridRequest) -> None:
    """The recorded figures of the defaults are found under today's names of the settings."""
    cells = list(grid(replace(request_, rows={"defaults": {}})).cells())
    names = read_json(ROOT / "docs/benchmarks/records/grid.json")
    assert [name for name in names if f"-{cells[0].cut_digest}/0ep/" in name]
