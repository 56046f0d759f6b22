"""Networks of earlier comparisons: what is imported and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.comparisons import TRAINING, network, write_result
from yolo_slim.comparison.folder import Work, once
from yolo_slim.comparison.imported import join, read
from yolo_slim.comparison.networks import Cell
from yolo_slim.errors import SlimError


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    """The networks of another comparison are refused."""
    write_result(tmp_path / "a.json", [network("ours", maps={"r": 0.1}, made=TRAINING)], {"k": 1})
    with pytest.raises(SlimError, match="k: 1 there, 2 now"):
        read(tmp_path / "a.json", {"k": 2})


def test_first_file_decides(tmp_path: Path) -> None:
    """A network that two files have counts once, and what an earlier call imported is kept."""
    for name, found in (("a", 0.1), ("b", 0.2)):
        write_result(tmp_path / f"{name}.json", [network("ours", maps={"r": found}, made=TRAINING)], {"k": 1})
    cell = Cell(method="ours", removed=0.5, seed=0)
    for names in ("ab", "b", ""):
        imported = join(tmp_path, [one for name in names for one in read(tmp_path / f"{name}.json", {"k": 1})])
        assert list(imported) == [cell]
        assert imported[cell].scores["r"].map50_95 == 0.1
        assert imported[cell].made == TRAINING


def test_own_training_stays_own(tmp_path: Path) -> None:
    """A network that this folder trained isn't replaced by its figures in a file that had imported it from here."""
    networks = [network("ours", seed=seed, maps={"r": 0.1}, made=TRAINING) for seed in (0, 1)]
    write_result(tmp_path / "a.json", networks, {})
    once(Work(stage="recover", folder=tmp_path / "ours/50/seed-0/recover", decides={}, inputs={}), [], lambda: True)
    assert list(join(tmp_path, read(tmp_path / "a.json", {}))) == [Cell(method="ours", removed=0.5, seed=1)]


def test_later_runtimes_join(tmp_path: Path) -> None:
    """Figures of a runtime that was compared later join those of the same training, and of no other."""
    other = replace(TRAINING, seconds=2)
    for name, maps, made in (
        ("a", {"r": 0.1}, TRAINING),
        ("b", {"r": 0.2, "s": 0.3}, TRAINING),
        ("c", {"q": 0.4}, other),
    ):
        write_result(tmp_path / f"{name}.json", [network("ours", maps=maps, made=made)], {})
    join(tmp_path, read(tmp_path / "a.json", {}))
    for given in ([*read(tmp_path / "b.json", {}), *read(tmp_path / "c.json", {})], []):
        (found,) = join(tmp_path, given).values()
        assert {key: score.map50_95 for key, score in found.scores.items()} == {"r": 0.1, "s": 0.3}
