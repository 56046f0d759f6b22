"""A whole comparison through its command line: the result, growth of the grid, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import click
import pytest

from tests.test_cli import run_cli
from yolo_slim.cli import cli
from yolo_slim.comparison.arms import Start
from yolo_slim.comparison.cells import Cell
from yolo_slim.comparison.run import fair
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.version import __version__

SCORE = {"map50_95": 0.5, "map50": 0.6}
QUICK = ["--set", "validate.min_seconds=0.2", "--set", "validate.min_queries=8", "--set", "validate.rounds=2"]
QUICK += ["--set", "prune.steps=1", "--set", "prune.images=8", "--set", "prune.bn_images=8"]
QUICK += ["--set", "export.parity_images=2", "--train", "workers=0", "--device", "cpu"]


def command(model: Path, data: Path, project: Path, *more: str) -> list[str]:
    """Return the command line of a small comparison."""
    given = ["--model", str(model), "--data", str(data), "--project", str(project), "--name", "small"]
    return ["compare", *given, "--imgsz", "96", "--epochs", "1", "--prune", "0.4", *QUICK, *more]


@pytest.fixture(scope="module")
def finished(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder and the output of a comparison of ours with the smaller input, two seeds."""
    project = tmp_path_factory.mktemp("compare")
    code, out, err = run_cli(*command(trained, signs, project, "--arms", "small-input", "--seeds", "0", "1"))
    assert code == 0, err
    return project / "small", out


def entries(folder: Path) -> dict[str, Any]:
    """Return the arms of a comparison's result by name."""
    return {entry["arm"]: entry for entry in read_json(folder / "compare.json")["arms"]}


@pytest.mark.slow
def test_result(finished: tuple[Path, str]) -> None:
    """Every arm is scored for each seed and timed in the same rounds; the verdict is in all outputs; exit code 0."""
    folder, out = finished
    arms = entries(folder)
    assert list(arms) == ["ours", "small-input", "control"]
    assert arms["ours"]["macs_removed"] == pytest.approx(0.4, abs=0.03)
    assert (arms["small-input"]["imgsz"], arms["control"]["imgsz"]) == (64, 96)
    taught = {
        arm: read_json(folder / arm / "40/seed-0/recover/manifest.json")["config"]["distill"]
        for arm in arms
        if arm != "control"
    }
    assert taught["ours"] > 0
    assert taught["small-input"] == 0
    assert [seed["seed"] for seed in arms["ours"]["seeds"]] == [0, 1]
    assert [seed["seed"] for seed in arms["control"]["seeds"]] == [None]
    rounds = [entry["runtimes"]["onnxruntime-fp32"]["bench"]["round_p50_ms"] for entry in arms.values()]
    assert [len(one) for one in rounds] == [2, 2, 2]
    assert arms["control"]["runtimes"]["onnxruntime-fp32"]["speedup"]["ratio"] == 1
    verdict = read_json(folder / "compare.json")["verdict"]
    page = (folder / "compare.html").read_text()
    assert verdict["text"] in unescape(page)
    assert verdict["text"] in (folder / "compare.md").read_text()
    assert f"VERDICT: {verdict['status']}" in out
    assert "http" not in page


@pytest.mark.slow
def test_seeds_share_start_and_timing(finished: tuple[Path, str]) -> None:
    """Ours is pruned once and timed once for both seeds, whose weights differ."""
    folder, _ = finished
    seeds = entries(folder)["ours"]["seeds"]
    assert {seed["timed"]["onnxruntime-fp32"] for seed in seeds} == {"ours/40/seed-0/onnxruntime-fp32"}
    assert len(list(folder.glob("ours/**/pruned.pt"))) == 1
    assert len({sha256(path) for path in folder.glob("ours/40/seed-*/recover/recovered.pt")}) == 2


@pytest.mark.slow
def test_more_arms_keep_what_is_there(finished: tuple[Path, str], trained: Path, signs: Path) -> None:
    """Another arm joins; trained weights stay, a damaged score is made again, and all are timed anew together."""
    folder, _ = finished
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("recovered.pt")}
    before = entries(folder)["ours"]["runtimes"]["onnxruntime-fp32"]
    damaged = folder / "ours/40/seed-1/score/onnxruntime-fp32/score.json"
    damaged.write_text("{}")
    code, _, err = run_cli(*command(trained, signs, folder.parent, "--arms", "narrow", "--seeds", "1"))
    assert code == 0, err
    arms = entries(folder)
    assert list(arms) == ["ours", "narrow", "small-input", "control"]
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    after = arms["ours"]["runtimes"]["onnxruntime-fp32"]
    assert after["map50_95"] == before["map50_95"]
    assert after["bench"]["measured_at"] > before["bench"]["measured_at"]
    assert after["bench"]["round_p50_ms"] != before["bench"]["round_p50_ms"]
    stamp = (folder / "timing" / "timing.json").stat().st_mtime_ns
    assert run_cli(*command(trained, signs, folder.parent, "--arms", "narrow", "--seeds", "1"))[0] == 0
    assert (folder / "timing" / "timing.json").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_another_comparison_is_refused(finished: tuple[Path, str], trained: Path, signs: Path) -> None:
    """Settings that would make arms unequal are refused with their names, and nothing is written."""
    folder, _ = finished
    before = sha256(folder / "run.json")
    code, _, err = run_cli(*command(trained, signs, folder.parent, "--epochs", "2"))
    assert code == 2
    assert "recover.epochs: 1 there, 2 now" in err
    assert sha256(folder / "run.json") == before


@pytest.mark.slow
def test_update_of_yolo_slim_trains_nothing_anew(
    finished: tuple[Path, str], trained: Path, signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another version has trained is refused with both versions and the way to keep it; nothing is touched."""
    folder, _ = finished
    before = {path: sha256(path) for path in folder.rglob("*") if path.is_file()}
    for module in ("manifest", "comparison.run"):
        monkeypatch.setattr(f"yolo_slim.{module}.__version__", "9.9")
    code, _, err = run_cli(*command(trained, signs, folder.parent, "--arms", "small-input", "--seeds", "0", "1"))
    assert code == 2
    assert f"yolo_slim: {__version__} there, 9.9 now" in err
    assert f"--measured {folder / 'compare.json'}" in err
    assert {path: sha256(path) for path in before} == before


def test_impossible_arm_is_a_row(trained: Path, signs: Path, tmp_path: Path) -> None:
    """An arm that can't be made is told with its reason and takes no other arm along."""
    from yolo_slim.comparison.summary import Row, value

    row = {"seed": 0, "imgsz": 96, "implementation": "made", "folder": "x", "params": 1, "timed": {"r": "t"}}
    rows = [
        Row(arm="ours", removed=0.5, reason="", macs=50, scores={"r": {"map50_95": 0.5, "map50": 0.6}}, **row),
        Row(arm="small-input", removed=0.5, reason="no side fits.", macs=0, scores={}, **{**row, "imgsz": None}),
        Row(arm="control", removed=0.0, reason="", macs=100, scores={"r": {"map50_95": 0.6, "map50": 0.7}}, **row),
    ]
    training = {"epochs": 1, "batch": 2, "images_seen": 3, "distill": 0.0}
    target = {"name": "host", "is_this_machine": True}
    found = value({"runtimes": ["r"], "training": training, "target": target}, rows, {})
    assert [entry["status"] for entry in found["arms"]] == ["measured", "not possible", "measured"]
    assert not [note for note in found["notes"] if note.startswith("Trained without it")]
    taught = value(
        {"runtimes": ["r"], "training": {**training, "distill": 3.0}, "target": target},
        [rows[0], replace(rows[0], arm="small-input"), rows[2]],
        {},
    )
    assert "Trained without it, because they begin as the control: small-input." in taught["notes"]
    assert "small-input was not possible: no side fits." in found["notes"]
    assert found["verdict"]["status"] == "undecided"
    assert found["arms"][0]["runtimes"]["r"]["bench"] is None


def test_failed_rival_leaves_the_verdict_open() -> None:
    """A rival that exists but couldn't be measured, or not in this runtime, isn't beaten; what can't exist is none."""
    from yolo_slim.comparison.summary import Row, value

    common: dict[str, Any] = {"imgsz": 96, "implementation": "made", "folder": "x", "params": 1, "timed": {"r": "t"}}
    rows = [
        Row(arm="ours", removed=0.5, seed=0, reason="", macs=50, scores={"r": SCORE}, **common),
        Row(arm="uniform-l2", removed=0.5, seed=0, reason="too slow.", failed=True, macs=0, scores={}, **common),
        Row(arm="narrow", removed=0.5, seed=0, reason="no such width.", macs=0, scores={}, **common),
        Row(arm="random", removed=0.5, seed=0, reason="", macs=50, scores={}, **common),
        Row(arm="control", removed=0.0, seed=-1, reason="", macs=100, scores={"r": SCORE}, **common),
    ]
    training = {"epochs": 1, "batch": 2, "images_seen": 3, "distill": 0.0}
    about = {"runtimes": ["r"], "training": training, "target": {"name": "host", "is_this_machine": True}}
    found = value(about, rows, {})
    assert [entry["status"] for entry in found["arms"][1:4]] == ["failed", "not possible", "measured"]
    judged = {judgement["arm"]: judgement for judgement in found["judgements"]["r"]["arms"]}
    assert set(judged) == {"uniform-l2", "random", "control"}
    assert judged["uniform-l2"]["reason"] == "not measured: too slow."
    assert judged["random"]["reason"] == "not measured: it has no accuracy in this runtime"
    assert "uniform-l2 could not be measured: too slow." in found["notes"]
    assert "narrow was not possible: no such width." in found["notes"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_seed_that_failed_is_told(order: tuple[int, int]) -> None:
    """A seed without a network leaves the others of its arm in the table, whichever comes first."""
    from yolo_slim.comparison.summary import Row, value

    common: dict[str, Any] = {"removed": 0.5, "imgsz": 96, "implementation": "made", "folder": "x", "params": 1}
    timed = {"timed": {"r": "t"}}
    good = Row(arm="random", seed=order[0], reason="", macs=50, scores={"r": SCORE}, **common, **timed)
    bad = Row(arm="random", seed=order[1], reason="missed the MACs.", macs=0, scores={}, timed={}, **common)
    control = Row(arm="control", seed=-1, reason="", macs=100, scores={"r": SCORE}, **{**common, "removed": 0}, **timed)
    ours = Row(arm="ours", seed=0, reason="", macs=50, scores={"r": SCORE}, **common, **timed)
    training = {"epochs": 1, "batch": 2, "images_seen": 3, "distill": 0.0}
    about = {"runtimes": ["r"], "training": training, "target": {"name": "host", "is_this_machine": True}}
    found = value(about, [ours, *sorted([good, bad], key=lambda row: row.seed), control], {})
    entry = found["arms"][1]
    assert entry["status"] == "measured"
    assert [seed["seed"] for seed in entry["seeds"]] == [order[0]]
    assert f"random could not be measured with seed {order[1]}: missed the MACs." in found["notes"]


def test_nothing_learns_from_itself() -> None:
    """Arms that begin as the control train without it as teacher, the others with it; the table says which."""
    from yolo_slim.comparison.arms import ARMS
    from yolo_slim.comparison.run import _training_of
    from yolo_slim.config.run import RunConfig

    config = RunConfig(model="m.pt", data="d.yaml")
    for arm in ARMS.values():
        changed = _training_of(arm, config)
        assert changed.get("recover", config.recover).distill == (config.recover.distill if arm.distilled else 0)
    assert [name for name, arm in ARMS.items() if arm.trained and not arm.distilled] == [
        "small-input",
        "control-trained",
    ]


def test_failure_is_not_remembered(tmp_path: Path) -> None:
    """What couldn't be made isn't asked for by the next call, what was measured is."""
    from yolo_slim.comparison.cells import Cell, Measured
    from yolo_slim.comparison.run import _remember

    write_json(tmp_path / "run.json", {"schema": 1, "cells": [{"arm": "control", "removed": 0.0, "seed": -1}]})
    cells = [Cell(arm=arm, removed=0.5, seed=0) for arm in ("ours", "scratch")]
    start = Start(weights=tmp_path, imgsz=96, implementation="made")
    measured = [Measured(cell=cells[0], start=start), Measured(cell=cells[1], start=None, reason="it failed.")]
    _remember(tmp_path, measured, ["onnxruntime-fp32"])
    found = read_json(tmp_path / "run.json")
    assert [cell["arm"] for cell in found["cells"]] == ["ours", "control"]
    assert found["runtimes"] == ["onnxruntime-fp32"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "randm"], "Did you mean 'random'?"),
        (["--seeds", "0"], "No training can be made with the seeds []"),
        (["--runtimes", "tensorrt-fp16"], "Some builds can't be compared"),
        (["--set", "prune.recover_epochs_between=2"], "would make the comparison unfair"),
        (["--set", "prune.params_removed=0.5"], "compared at equal MACs"),
        (["--prune", "1.5"], "1.5"),
        (["--train", "fraction=100"], "takes a share of the images"),
        (["--train", "freeze=10"], "would stay random"),
        (["--set", "prune.scope=block_costs", "--set", "prune.block_costs=typo.json"], "map not found: typo.json"),
    ],
)
def test_bad_options(trained: Path, signs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    """What can't be compared is refused before any work."""
    code, _, err = run_cli(*command(trained, signs, tmp_path, *options))
    assert code == 2
    assert message in err
    assert not list(tmp_path.rglob("*.pt"))


def test_bad_folders_and_models(trained: Path, signs: Path, tmp_path: Path, untrained: Callable[[str], Path]) -> None:
    """Foreign files stay, and a model of another task is refused."""
    from tests import tiny_data

    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("years of work")
    code, _, err = run_cli(*command(trained, signs, tmp_path))
    assert (code, "thesis.txt" in err) == (2, True)
    pose = tiny_data.save(tiny_data.network("yolo11n", "pose"), tmp_path / "pose.pt")
    code, _, err = run_cli(*command(pose, signs, tmp_path))
    assert (code, "not a detection checkpoint" in err) == (2, True)


def test_several_values() -> None:
    """Values follow their option one after the other or with commas; other options end them."""
    words = ["--seeds", "0", "1", "--arms", "narrow,random", "-q", "--seeds=4", "--prune", "0.3", "0.5"]
    given = ["--model", "m", "--data", "d", *words]
    found = cli.commands["compare"].make_context("compare", given).params
    assert found["seeds"] == (0, 1, 4)
    assert found["arms"] == ("narrow", "random")
    assert found["shares"] == (0.3, 0.5)
    assert found["quiet"] is True


def test_option_without_a_value_is_an_error() -> None:
    """An empty shell variable doesn't start the whole default grid."""
    for words in (["--seeds"], ["--arms", "-q"]):
        with pytest.raises(click.UsageError, match="requires an argument"):
            cli.commands["compare"].make_context("compare", ["--model", "m", "--data", "d", *words])


def test_equal_training() -> None:
    """No arm may stop early or be trained before its cut."""
    config = RunConfig.model_validate({"model": "m", "data": "d", "recover": {"epochs": 40}})
    assert fair(config).recover.patience == 40
    sparse = RunConfig.model_validate({"model": "m", "data": "d", "prune": {"sparse_epochs": 3}})
    with pytest.raises(SlimError, match="unfair"):
        fair(sparse)


def test_folders_tell_cells_apart() -> None:
    """Arms, sizes and seeds each have a folder of their own."""
    cells = [Cell(arm="ours", removed=share, seed=seed) for share in (0.5, 0.475) for seed in (0, 1)]
    cells.append(Cell(arm="control", removed=0.0, seed=-1))
    folders = [cell.folder.as_posix() for cell in cells]
    assert folders == ["ours/50/seed-0", "ours/50/seed-1", "ours/47.5/seed-0", "ours/47.5/seed-1", "control/full/once"]


def test_folder_of_a_killed_first_call(trained: Path, signs: Path, tmp_path: Path) -> None:
    """What a first call that was killed early left is ours; a damaged record of whose folder it is, is an error."""
    from yolo_slim.comparison.run import _claim, _require_own

    (tmp_path / "small").mkdir()
    (tmp_path / "small" / ".run.json.1.tmp").write_text("{")
    _require_own(tmp_path / "small", {})
    assert _claim(tmp_path / "small", {"key": 1}) == {"runtimes": [], "cells": []}
    _require_own(tmp_path / "small", {"key": 1})
    for content in ("{", "[1]", "[]", ""):
        (tmp_path / "small" / "run.json").write_text(content)
        code, _, err = run_cli(*command(trained, signs, tmp_path))
        assert (code, "run.json is damaged" in err) == (2, True)


def test_only_the_machine_stops_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that can't be is no rival, one that fails later is told as failed, a killed process stops the call."""
    from types import SimpleNamespace

    from yolo_slim.comparison.arms import AnotherTime
    from yolo_slim.comparison.run import _Comparison
    from yolo_slim.errors import MachineError

    this: Any = SimpleNamespace(progress=SimpleNamespace(say=lambda _: None))
    cell = Cell(arm="narrow", removed=0.5, seed=0)

    def raising(error: Exception | None) -> Callable[..., object]:
        def step(*_: Any) -> object:
            if error:
                raise error
            return object()

        return step

    def measured(start: Exception | None, later: Exception | None = None) -> bool:
        this._start, this._carried = raising(start), raising(later)
        return _Comparison._measure(this, cell).failed

    assert measured(SlimError("no such width.")) is False
    assert measured(AnotherTime("took too long.")) is True
    assert measured(None, SlimError("its loss became NaN.")) is True
    with pytest.raises(MachineError):
        measured(MachineError("out of memory."))
