"""Networks of earlier comparisons: what is imported and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.helpers.cli import run_cli
from tests.helpers.comparisons import KEY, TRAINING, command, entries, network, write_result
from yolo_slim.comparison.folder import Work, once
from yolo_slim.comparison.imported import join, read
from yolo_slim.comparison.networks import Cell
from yolo_slim.comparison.result import load
from yolo_slim.errors import SlimError


@pytest.mark.slow
def test_trained_elsewhere(finished: tuple[Path, str], trained: Path, signs: Path, tmp_path: Path) -> None:
    """A comparison on another machine trains what is new, imports the rest, and times all of it itself."""
    folder, _ = finished
    given = ["--measured", str(folder / "compare.json"), "--methods", "control-trained", "--seeds", "0,1"]
    call = command(trained, signs, tmp_path, *given)
    assert run_cli(*call)[0] == 0
    before, after = entries(folder), entries(tmp_path / "small")
    assert set(before) | {"control-trained"} == set(after)
    trainings = {path.relative_to(tmp_path / "small").parts[0] for path in tmp_path.rglob("recovered.pt")}
    assert trainings == {"control-trained"}
    for name in ("ours", "small-input"):
        found, own = before[name].runtimes[KEY], after[name].runtimes[KEY]
        assert own.map50_95 == found.map50_95
        assert own.bench.measured_at > found.bench.measured_at
        assert [seed.imported for seed in after[name].seeds] == [True, True]
        assert [seed.made for seed in after[name].seeds] == [seed.made for seed in before[name].seeds]
    assert len(list((tmp_path / "small" / "ours").rglob("export/ours/model.onnx"))) == 1
    notes = " ".join(load(tmp_path / "small" / "compare.json").notes)
    assert "this machine timed the cut before training: ours -40 % seeds 0 1, small-input" in notes
    # They stay when the option isn't given again.
    call = command(trained, signs, tmp_path, "--methods", "control-trained", "--seeds", "0,1")
    assert run_cli(*call)[0] == 0
    assert {path.relative_to(tmp_path / "small").parts[0] for path in tmp_path.rglob("recovered.pt")} == trainings


@pytest.mark.slow
def test_other_settings(finished: tuple[Path, str], trained: Path, signs: Path, tmp_path: Path) -> None:
    """What was trained by other settings is refused with their names, before any work."""
    folder, _ = finished
    given = ["--measured", str(folder / "compare.json"), "--epochs", "2"]
    code, _, err = run_cli(*command(trained, signs, tmp_path, *given))
    assert code == 2
    assert "recover.epochs: 1 there, 2 now" in err
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("*.json"))


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


@pytest.mark.slow
def test_the_cut_of_an_imported_network(trained: Path, signs: Path, tmp_path: Path) -> None:
    """The cut that is timed for an imported network has the activation of its training; the control keeps its own."""
    given = ["--methods", "ours", "--seeds", "1", "--set", "recover.activation=relu"]
    assert run_cli(*command(trained, signs, tmp_path / "first", *given))[0] == 0
    measured = ["--measured", str(tmp_path / "first" / "small" / "compare.json")]
    assert run_cli(*command(trained, signs, tmp_path / "second", *given, *measured))[0] == 0
    graphs = {path.parent.name: path for path in (tmp_path / "second").rglob("model.onnx")}
    found = {name: {node.op_type for node in onnx.load(path).graph.node} for name, path in graphs.items()}
    assert "Relu" in found["ours"]
    assert "Relu" not in found["control"]
