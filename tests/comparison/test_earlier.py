"""Networks of earlier comparisons: what joins, what is refused, what the reader is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.comparison.test_compare import command, entries
from tests.comparison.test_compare import finished as finished
from tests.test_cli import run_cli
from yolo_slim.comparison.cells import Cell, Measured, representatives
from yolo_slim.comparison.earlier import differences, read, take_over
from yolo_slim.comparison.run import settings_of
from yolo_slim.comparison.summary import Row, value
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.pipeline import Run
from yolo_slim.reporting.comparison_text import rows as rows_of
from yolo_slim.workspace.job import Job

MADE = {"machine": "a", "versions": {"torch": "2"}, "mixed_precision": False, "finished_at": "2026-01-01", "seconds": 1}


@pytest.mark.slow
def test_trained_elsewhere(finished: tuple[Path, str], trained: Path, signs: Path, tmp_path: Path) -> None:
    """A comparison on another machine trains what is new, takes the rest over, and times all of it itself."""
    folder, _ = finished
    given = ["--measured", str(folder / "compare.json"), "--arms", "control-trained", "--seeds", "0", "1"]
    call = command(trained, signs, tmp_path, *given)
    assert run_cli(*call)[0] == 0
    before, after = entries(folder), entries(tmp_path / "small")
    assert set(before) | {"control-trained"} == set(after)
    trainings = {path.relative_to(tmp_path / "small").parts[0] for path in tmp_path.rglob("recovered.pt")}
    assert trainings == {"control-trained"}
    for name in ("ours", "small-input"):
        found, own = before[name]["runtimes"]["onnxruntime-fp32"], after[name]["runtimes"]["onnxruntime-fp32"]
        assert own["map50_95"] == found["map50_95"]
        assert own["bench"]["measured_at"] > found["bench"]["measured_at"]
        assert [seed["taken_over"] for seed in after[name]["seeds"]] == [True, True]
        assert [seed["made"] for seed in after[name]["seeds"]] == [seed["made"] for seed in before[name]["seeds"]]
    assert len(list((tmp_path / "small" / "ours").rglob("export/ours/model.onnx"))) == 1
    notes = " ".join(read_json(tmp_path / "small" / "compare.json")["notes"])
    assert "timed by the cut before training: ours -40 % seeds 0 1, small-input" in notes
    # They stay when the option isn't given again.
    call = command(trained, signs, tmp_path, "--arms", "control-trained", "--seeds", "0", "1")
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


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"schema": 1}', '{"settings": {}, "arms": [{"seeds": [{}]}]}', '{"settings": [1], "arms": []}'],
)
def test_other_files(tmp_path: Path, content: str) -> None:
    """Files that aren't such results are refused by name."""
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SlimError, match=r"x.json isn't the result of a comparison"):
        read(tmp_path / "x.json", {})
    with pytest.raises(SlimError, match=r"y.json can't be read"):
        read(tmp_path / "y.json", {})


def test_first_file_decides(tmp_path: Path) -> None:
    """A network that two files have counts once, and what an earlier call took over is kept."""
    for name, found in (("a", 0.1), ("b", 0.2)):
        seed = {"seed": 0, "macs": 5, "scores": {"r": {"map50_95": found}}, "made": MADE}
        arms = [{"arm": "ours", "removed": 0.5, "seeds": [seed]}, {"arm": "control", "removed": None, "seeds": [seed]}]
        write_json(tmp_path / f"{name}.json", {"settings": {"k": 1}, "arms": arms})
    cell = Cell(arm="ours", removed=0.5, seed=0)
    for names in ("ab", "b", ""):  # What an earlier call took over is kept.
        earlier = take_over(tmp_path, [one for name in names for one in read(tmp_path / f"{name}.json", {"k": 1})])
        assert list(earlier) == [cell]
        assert earlier[cell].scores["r"]["map50_95"] == 0.1


def test_a_trained_network_is_timed(tmp_path: Path) -> None:
    """Of networks of one shape the one that was trained here stands for all."""
    from yolo_slim.comparison.arms import Start

    start = Start(weights=tmp_path, imgsz=96, implementation="made")
    cells = [Cell(arm="ours", removed=0.5, seed=seed) for seed in range(3)]
    measured = [Measured(cell=cell, start=start, widths=(8,), taken_over=cell.seed != 1) for cell in cells]
    assert [one.cell.seed for one in representatives(measured)] == [1]


def test_differences_of_training_are_told() -> None:
    """Precision, cuts and missing runtimes of taken over networks are in the notes and the figures."""
    common: dict[str, Any] = {"imgsz": 96, "implementation": "made", "folder": "x", "params": 1, "reason": ""}
    one, both = {"r": {"map50_95": 0.5, "map50": 0.6}}, {key: {"map50_95": 0.4, "map50": 0.6} for key in "rs"}
    ours = {"arm": "ours", "removed": 0.5, "macs": 50, "timed": dict.fromkeys("rsq", "t"), **common}
    rows = [
        Row(seed=0, scores=both, made=MADE, **ours),
        Row(seed=1, scores=one, made={**MADE, "mixed_precision": True}, taken_over=True, trained_macs=49, **ours),
        Row(
            arm="control",
            removed=0.0,
            seed=-1,
            macs=100,
            scores={**both, "q": both["r"]},
            timed=dict.fromkeys("rsq", "c"),
            **common,
        ),
    ]
    training = {"epochs": 1, "batch": 2, "images_seen": 3, "distill": 0.0}
    about = {"runtimes": list("rsq"), "training": training, "target": {"name": "host", "is_this_machine": True}}
    found = value(about, rows, {})
    maps = {key: entry["map50_95"] for key, entry in found["arms"][0]["runtimes"].items()}
    assert {key: one and one["seeds"] for key, one in maps.items()} == {"r": 2, "s": 1, "q": None}
    assert "unproven" in rows_of(found, "q")[0]
    notes = " ".join(found["notes"])
    assert "Without accuracy in q, which the comparison that trained them didn't build: ours." in notes
    assert "Without accuracy in s" not in notes
    assert "mixed precision. off: ours -50 % seed 0; on: ours -50 % seed 1." in notes
    assert "ours -50 % seed 1 was trained with 49 MACs, its cut here has 50." in notes
    assert "alike in machine" not in notes


def test_random_is_cut_anew_for_each_seed() -> None:
    """A seed's cut is held against what was trained by that seed, not against another seed's cut."""
    scores = {"r": {"map50_95": 0.5, "map50": 0.6}}
    common: dict[str, Any] = {"imgsz": 96, "implementation": "made", "folder": "x", "params": 1, "reason": ""}
    common["timed"] = {"r": "t"}
    taken: dict[str, Any] = {
        "arm": "random",
        "removed": 0.5,
        "scores": scores,
        "made": MADE,
        "taken_over": True,
        **common,
    }
    rows = [
        *[Row(seed=seed, macs=macs, trained_macs=macs, **taken) for seed, macs in enumerate((48, 52))],
        Row(seed=2, macs=50, trained_macs=49, **taken),
        Row(arm="control", removed=0.0, seed=-1, macs=100, scores=scores, **common),
    ]
    training = {"epochs": 1, "batch": 2, "images_seen": 3, "distill": 0.0}
    about = {"runtimes": ["r"], "training": training, "target": {"name": "host", "is_this_machine": True}}
    told = [note for note in value(about, rows, {})["notes"] if "its cut here has" in note]
    assert told == ["random -50 % seed 2 was trained with 49 MACs, its cut here has 50."]


def test_own_training_stays_own(tmp_path: Path) -> None:
    """A network that this folder trained isn't replaced by its figures in a file that had taken it over from here."""
    seeds = [{"seed": seed, "macs": 5, "scores": {"r": {"map50_95": 0.1}}, "made": MADE} for seed in (0, 1)]
    write_json(tmp_path / "a.json", {"settings": {}, "arms": [{"arm": "ours", "removed": 0.5, "seeds": seeds}]})
    folder = tmp_path / "ours/50/seed-0/recover"
    folder.mkdir(parents=True)
    Job(stage="recover", folder=folder, config={}, inputs={}).finish([])
    assert list(take_over(tmp_path, read(tmp_path / "a.json", {}))) == [Cell(arm="ours", removed=0.5, seed=1)]


def test_what_scores_is_a_setting(tmp_path: Path) -> None:
    """Another split, fewer images or another map of the same path are other settings; another device isn't."""
    model, map_file = tmp_path / "m.pt", tmp_path / "map.json"
    model.write_text("weights")
    map_file.write_text("{}")

    def settings(**changes: Any) -> dict[str, Any]:
        config = RunConfig.model_validate({"model": str(model), "data": "d.yaml", **changes})
        return settings_of(cast("Run", SimpleNamespace(config=config, model=model, data_digest="d")))

    assert settings() == settings(recover={"device": "0"})
    assert differences(settings(), settings(validate={"split": "val"})) == ["validate.split: auto there, val now"]
    assert differences(settings(), settings(validate={"max_images": 5}))
    guided = {"prune": {"scope": "block_costs", "block_costs": str(map_file)}}
    before = settings(**guided)
    map_file.write_text('{"changed": 1}')
    assert [line.split(":")[0] for line in differences(before, settings(**guided))] == ["prune.block_costs"]


def test_later_runtimes_join(tmp_path: Path) -> None:
    """Figures of a runtime that was compared later join those of the same training, and of no other."""
    for name, found, made in (("a", {"r": 1}, MADE), ("b", {"r": 2, "s": 3}, MADE), ("c", {"q": 4}, {"seconds": 2})):
        scores = {key: {"map50_95": value} for key, value in found.items()}
        seed = {"seed": 0, "macs": 5, "scores": scores, "made": made}
        write_json(
            tmp_path / f"{name}.json", {"settings": {}, "arms": [{"arm": "ours", "removed": 0.5, "seeds": [seed]}]}
        )
    take_over(tmp_path, read(tmp_path / "a.json", {}))
    for given in ([*read(tmp_path / "b.json", {}), *read(tmp_path / "c.json", {})], []):
        (found,) = take_over(tmp_path, given).values()
        assert {key: value["map50_95"] for key, value in found.scores.items()} == {"r": 1, "s": 3}
