"""A whole comparison through its command line: the result, what is imported from it, how it grows, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path

import click
import onnx
import pytest

from tests.helpers import tiny_data
from tests.helpers.charts import loads_nothing
from tests.helpers.cli import run_cli
from tests.helpers.comparisons import KEY, command, entries
from yolo_slim.cli import cli
from yolo_slim.comparison.result import load
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.version import __version__


@pytest.fixture(scope="module")
def finished(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder and the output of a comparison of ours with the smaller input, two seeds."""
    project = tmp_path_factory.mktemp("compare")
    code, out, err = run_cli(*command(trained, signs, project, "--methods", "small-input", "--seeds", "0,1"))
    assert code == 0, err
    return project / "small", out


@pytest.mark.slow
def test_result(finished: tuple[Path, str]) -> None:
    """Every method is scored for each seed and timed in the same rounds; the verdict is in all outputs; exit code 0."""
    folder, out = finished
    methods = entries(folder)
    assert list(methods) == ["ours", "small-input", "control"]
    assert methods["ours"].macs_removed == pytest.approx(0.4, abs=0.03)
    assert (methods["small-input"].imgsz, methods["control"].imgsz) == (64, 96)
    distill = {
        method: read_json(folder / method / "40/seed-0/recover/manifest.json")["settings"]["distill"]
        for method in methods
        if method != "control"
    }
    assert distill["ours"] > 0
    assert distill["small-input"] == 0
    assert [seed.seed for seed in methods["ours"].seeds] == [0, 1]
    assert [seed.seed for seed in methods["control"].seeds] == [None]
    rounds = [entry.runtimes[KEY].bench.round_p50_ms for entry in methods.values()]
    assert [len(one) for one in rounds] == [2, 2, 2]
    assert methods["control"].runtimes[KEY].speedup.ratio == 1
    verdict = load(folder / "compare.json").verdict
    page = (folder / "compare.html").read_text()
    assert verdict.text in unescape(page)
    assert verdict.text in (folder / "compare.md").read_text()
    assert f"VERDICT: {verdict.status}" in out
    assert loads_nothing(page)


@pytest.mark.slow
def test_seeds_share_start_and_timing(finished: tuple[Path, str]) -> None:
    """Ours is pruned once and timed once for both seeds, whose weights differ."""
    folder, _ = finished
    seeds = entries(folder)["ours"].seeds
    assert {seed.timed[KEY] for seed in seeds} == {f"ours/40/seed-0/{KEY}"}
    assert len(list(folder.glob("ours/**/pruned.pt"))) == 1
    assert len({sha256(path) for path in folder.glob("ours/40/seed-*/recover/recovered.pt")}) == 2


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


@pytest.mark.slow
def test_the_cut_of_an_imported_network(finished: tuple[Path, str], trained: Path, signs: Path, tmp_path: Path) -> None:
    """The cut that is timed for an imported network has the activation of its training; the control keeps its own."""
    value = read_json(finished[0] / "compare.json")
    # As if its networks had been trained so: their cuts are made anew, from the untrained model.
    value["settings"]["recover.activation"] = "relu"
    kept = [entry for entry in value["methods"] if entry["method"] != "small-input"]
    write_json(tmp_path / "relu.json", {**value, "methods": kept})
    given = ["--methods", "ours", "--seeds", "1", "--set", "recover.activation=relu"]
    call = command(trained, signs, tmp_path, *given, "--measured", str(tmp_path / "relu.json"))
    assert run_cli(*call)[0] == 0
    assert not list(tmp_path.rglob("recovered.pt"))
    graphs = {path.parent.name: path for path in tmp_path.rglob("model.onnx")}
    found = {name: {node.op_type for node in onnx.load(path).graph.node} for name, path in graphs.items()}
    assert "Relu" in found["ours"]
    assert "Relu" not in found["control"]


@pytest.mark.slow
def test_more_methods_keep_what_is_there(finished: tuple[Path, str], trained: Path, signs: Path) -> None:
    """Another method joins; trained weights stay, a damaged score is made again, and all are timed anew together."""
    folder, _ = finished
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("recovered.pt")}
    before = entries(folder)["ours"].runtimes[KEY]
    damaged = folder / "ours/40/seed-1/score/onnxruntime-fp32/score.json"
    damaged.write_text("{}")
    code, _, err = run_cli(*command(trained, signs, folder.parent, "--methods", "narrow", "--seeds", "1"))
    assert code == 0, err
    methods = entries(folder)
    assert list(methods) == ["ours", "narrow", "small-input", "control"]
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    after = methods["ours"].runtimes[KEY]
    assert after.map50_95 == before.map50_95
    assert after.bench.measured_at > before.bench.measured_at
    assert after.bench.round_p50_ms != before.bench.round_p50_ms
    stamp = (folder / "timing" / "timing.json").stat().st_mtime_ns
    assert run_cli(*command(trained, signs, folder.parent, "--methods", "narrow", "--seeds", "1"))[0] == 0
    assert (folder / "timing" / "timing.json").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_another_comparison_is_refused(finished: tuple[Path, str], trained: Path, signs: Path) -> None:
    """Settings that would make methods unequal are refused with their names, and nothing is written."""
    folder, _ = finished
    before = sha256(folder / "folder.json")
    code, _, err = run_cli(*command(trained, signs, folder.parent, "--epochs", "2"))
    assert code == 2
    assert "recover.epochs: 1 there, 2 now" in err
    assert sha256(folder / "folder.json") == before


@pytest.mark.slow
def test_update_of_yolo_slim_trains_nothing_anew(
    finished: tuple[Path, str], trained: Path, signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another version has trained is refused with both versions and the way to keep it; nothing is touched."""
    folder, _ = finished
    before = {path: sha256(path) for path in folder.rglob("*") if path.is_file()}
    for module in ("workspace.job", "comparison.folder"):
        monkeypatch.setattr(f"yolo_slim.{module}.__version__", "9.9")
    code, _, err = run_cli(*command(trained, signs, folder.parent, "--methods", "small-input", "--seeds", "0,1"))
    assert code == 2
    assert f"yolo_slim: {__version__} there, 9.9 now" in err
    assert f"--measured {folder / 'compare.json'}" in err
    assert {path: sha256(path) for path in before} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "randm"], "Did you mean 'random'?"),
        (["--seeds", "0"], "No training can be made with the seeds []"),
        (["--runtimes", "tensorrt-fp16"], "Some builds can't be compared"),
        (["--set", "prune.recover_epochs_between=2"], "would make the comparison unfair"),
        (["--set", "prune.params_removed=0.5"], "compared at equal MACs"),
        (["--prune", "1.5"], "1.5"),
        (["--train", "fraction=100"], "expected a fraction of the images"),
        (["--train", "freeze=10"], "would stay random"),
        (
            ["--set", "prune.scope=block_costs", "--set", "prune.block_costs=typo.json"],
            "File not found: typo.json (prune.block_costs)",
        ),
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
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("years of work")
    code, _, err = run_cli(*command(trained, signs, tmp_path))
    assert (code, "thesis.txt" in err) == (2, True)
    pose = tiny_data.save(tiny_data.network("yolo11n", "pose"), tmp_path / "pose.pt")
    code, _, err = run_cli(*command(pose, signs, tmp_path))
    assert (code, "not a detection checkpoint" in err) == (2, True)


def test_several_values() -> None:
    """Values stand in one list with commas, or the option is given again; one number alone is how many seeds."""
    inputs = ["--model", "m", "--data", "d"]
    given = [
        *inputs,
        "--seeds",
        "0,1",
        "--methods",
        "narrow,random",
        "--seeds=4",
        "--prune=0.3,.5",
        "--measured",
        "a,b",
    ]
    found = cli.commands["compare"].make_context("compare", [*given, "--measured", "c"]).params
    assert found["seeds"] == [0, 1, 4]
    assert found["methods"] == ["narrow", "random"]
    assert found["prune"] == [0.3, 0.5]
    assert found["measured"] == [Path("a,b"), Path("c")]
    for text, seeds in (("3", 3), ("4,", [4])):
        assert cli.commands["compare"].make_context("compare", [*inputs, "--seeds", text]).params["seeds"] == seeds


def test_values_after_one_another_are_refused() -> None:
    """The form of earlier versions, without commas, is refused with today's."""
    with pytest.raises(click.UsageError, match=r"Unexpected: 1 2\. Separate several values with commas: --seeds 0,1,2"):
        cli.commands["compare"].make_context("compare", ["--model", "m", "--data", "d", "--seeds", "0", "1", "2"])


def test_option_without_a_value_is_an_error() -> None:
    """An empty shell variable doesn't start the whole default grid."""
    for words in (["--seeds"], ["--methods", "-q"], ["--prune", ""]):
        with pytest.raises(click.UsageError, match="requires an argument"):
            cli.commands["compare"].make_context("compare", ["--model", "m", "--data", "d", *words])
