"""Whose folder it is, what the next call finds in it, and what is equal between two calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.comparisons import command, network
from yolo_slim.comparison.about import settings_of
from yolo_slim.comparison.folder import Known, owned, remember
from yolo_slim.comparison.networks import Cell, Network
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.workspace.folder import RUN, Owner, claimed, differences


def test_failure_is_not_remembered(tmp_path: Path) -> None:
    """What couldn't be made isn't asked for by the next call, what was measured is, in this call or an earlier one."""
    control = network("control", maps={"r": 0.6})
    with owned(tmp_path, {"key": 1}):
        remember(tmp_path, [control], ["r"])
    with owned(tmp_path, {"key": 1}):
        failed = Network.missing(Cell(method="scratch", removed=0.5, seed=0), "it failed.", failed=True)
        remember(tmp_path, [network("ours", maps={"r": 0.5}), failed], ["r", "s"])
    with owned(tmp_path, {"key": 1}) as known:
        assert [cell.method for cell in known.cells] == ["ours", "control"]
        assert known.runtimes == ("r", "s")
        assert known.cells[1] == control.cell


def test_folders_tell_cells_apart() -> None:
    """Methods, sizes and seeds each have a folder of their own."""
    cells = [Cell(method="ours", removed=share, seed=seed) for share in (0.5, 0.475) for seed in (0, 1)]
    cells.append(Cell(method="control", removed=0.0, seed=-1))
    names = [cell.name for cell in cells]
    assert names == ["ours/50/seed-0", "ours/50/seed-1", "ours/47.5/seed-0", "ours/47.5/seed-1", "control/full/once"]


def test_folder_of_a_killed_first_call(trained: Path, signs: Path, tmp_path: Path) -> None:
    """What a first call that was killed early left is ours; a damaged record of whose folder it is, is an error."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / ".folder.json.1.tmp").write_text("{")
    with owned(tmp_path / "small", {"key": 1}) as known:
        assert known == Known()
    with owned(tmp_path / "small", {"key": 1}):
        pass
    with pytest.raises(SlimError, match="key: 1 there, 2 now"), owned(tmp_path / "small", {"key": 2}):
        pass
    for content in ("{", "[1]", "[]", ""):
        (tmp_path / "small" / "folder.json").write_text(content)
        code, _, err = run_cli(*command(trained, signs, tmp_path))
        assert (code, "folder.json is damaged" in err) == (2, True)


def test_folder_of_an_older_layout(tmp_path: Path) -> None:
    """A folder of the first layout is refused with the way to keep its networks, and left as it is."""
    write_json(tmp_path / "run.json", {"schema": 1, "kind": "comparison", "cells": [{"arm": "ours"}]})
    before = sha256(tmp_path / "run.json")
    with pytest.raises(SlimError, match=r"earlier version of yolo_slim(.|\n)*--measured"), owned(tmp_path, {"key": 1}):
        pass
    assert sha256(tmp_path / "run.json") == before
    assert [item.name for item in tmp_path.iterdir()] == ["run.json"]


def test_another_version(tmp_path: Path) -> None:
    """What another version of yolo_slim trained is refused with both versions and the way to keep it."""
    with owned(tmp_path, {"key": 1}):
        pass
    value = read_json(tmp_path / "folder.json")
    value["identity"]["yolo_slim"] = "0.0.1"
    write_json(tmp_path / "folder.json", value)
    with pytest.raises(SlimError, match=r"yolo_slim: 0\.0\.1 there(.|\n)*--measured .*compare\.json"):
        owned(tmp_path, {"key": 1}).__enter__()


def test_run_is_no_comparison(tmp_path: Path) -> None:
    """The folder of a run is refused."""
    with claimed(tmp_path, Owner(kind=RUN)):
        pass
    with pytest.raises(SlimError, match="contains a run, not a comparison"), owned(tmp_path, {}):
        pass


def test_what_scores_is_a_setting(tmp_path: Path) -> None:
    """Another split, fewer images or another map of the same path are other settings; another device isn't."""
    model, map_file = tmp_path / "m.pt", tmp_path / "map.json"
    model.write_text("weights")
    map_file.write_text("{}")

    def settings(**changes: Any) -> dict[str, Any]:
        return settings_of(RunConfig.model_validate({"model": str(model), "data": "d.yaml", **changes}), "d")

    assert settings() == settings(recover={"device": "0"})
    assert differences(settings(), settings(validate={"split": "val"})) == ["validate.split: auto there, val now"]
    assert differences(settings(), settings(validate={"max_images": 5}))
    guided = {"prune": {"scope": "block_costs", "block_costs": str(map_file)}}
    before = settings(**guided)
    map_file.write_text('{"changed": 1}')
    assert [line.split(":")[0] for line in differences(before, settings(**guided))] == ["prune.block_costs"]
