"""Settings by option, by key and by file: which one wins, and how impossible ones are refused."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.cli import refused, run_cli
from yolo_slim import api
from yolo_slim.cli.chain import QUICKSTART_EPOCHS, QUICKSTART_IMGSZ, QUICKSTART_PRUNE, QUICKSTART_PRUNE_COARSE
from yolo_slim.config.run import RunConfig
from yolo_slim.datasets import quickstart
from yolo_slim.errors import SlimError
from yolo_slim.preparation import default_name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--imgsz", "100"], "Give --imgsz 96 or 128 (make: IMGSZ=)."),
        (["--prune", "1.5"], "prune.macs_removed (--prune): got 1.5"),
        (["--prune", "0"], "prune.macs_removed (--prune): got 0"),
        (["--prune", "0.99", "--set", "prune.criterion=l2"], "below their floor"),
        (["--set", "prune.macs_removed=2"], "prune.macs_removed: got 2"),
        (["--target", "rpi55"], "Did you mean 'rpi5'?"),
        (["--target", "absent.yaml"], "File not found: absent.yaml"),
        (["--set", "prune.criterium=l2"], "Did you mean 'criterion'?"),
        (["--train", "lr00=0.1"], "Did you mean 'lr0'?"),
        (["--set", "export.end2end=true"], "no one-to-one head"),
    ],
)
def test_bad_settings(trained: Path, signs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    """Impossible settings are refused with what would be possible."""
    assert message in refused(trained, signs, tmp_path, *options)


def test_inputs_in_the_file(signs: Path, tmp_path: Path) -> None:
    """A --config file's model is the one that runs: the quickstart doesn't stand in for it, an option does."""
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({"model": "mine.pt", "data": str(signs)}))
    for more, name in (([], "mine.pt"), (["--model", "other.pt"], "other.pt")):
        code, _, err = run_cli("run", "--config", str(file), "--project", str(tmp_path / "runs"), *more)
        assert (code, name in err) == (2, True)
    file.write_text(yaml.safe_dump({"model": "mine.pt"}))
    code, _, err = run_cli("run", "--config", str(file), "--project", str(tmp_path / "runs"))
    assert (code, "--model and --data go together" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ("", ("macs_removed", QUICKSTART_PRUNE_COARSE)),
        ("--target rpi5", ("macs_removed", QUICKSTART_PRUNE)),
        ("--set prune.steps=1", ("macs_removed", QUICKSTART_PRUNE_COARSE)),
        ("--prune 0.3", ("macs_removed", 0.3)),
        ("--target-fps 90", ("target_fps", 90.0)),
        ("--set prune.params_removed=0.4", ("params_removed", 0.4)),
        ("--set 'prune={target_fps: 30}'", ("target_fps", 30.0)),
        ("--set 'prune={steps: 1}'", ("macs_removed", QUICKSTART_PRUNE_COARSE)),
    ],
)
def test_budget_of_the_example(
    options: str, budget: tuple[str, float], trained: Path, signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a model the example's own share is removed, unless the call names a budget."""
    assert example_settings(options, trained, signs, monkeypatch).prune.budget == budget


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", (QUICKSTART_IMGSZ, QUICKSTART_EPOCHS)),
        ("--imgsz 128 --epochs 2", (128, 2)),
        ("--set imgsz=128 --set recover.epochs=2", (128, 2)),
        ("--set 'recover={epochs: 2}'", (QUICKSTART_IMGSZ, 2)),
        ("--set 'recover={patience: 2}'", (QUICKSTART_IMGSZ, QUICKSTART_EPOCHS)),
    ],
)
def test_side_and_epochs_of_the_example(
    options: str, found: tuple[int, int], trained: Path, signs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the example's own unless the call names them, by option, by key or in a section."""
    config = example_settings(options, trained, signs, monkeypatch)
    assert (config.imgsz, config.recover.epochs) == found


def example_settings(options: str, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The settings with which ``yolo-slim run`` without a model would run."""
    asked: list[RunConfig] = []

    def note(model: Path, data: Path, **given: Any) -> None:
        for key in ("project", "name", "retrain", "command", "progress"):
            given.pop(key)
        asked.append(api.make_config(model, data, **given))
        raise SlimError("noted")

    monkeypatch.setattr(api, "run", note)
    monkeypatch.setattr(quickstart, "default_model", lambda: model)
    monkeypatch.setattr(quickstart, "default_data", lambda _: data)
    monkeypatch.setattr(quickstart, "is_drawn", lambda _: True)
    code, _, err = run_cli("run", *shlex.split(options))
    assert (code, err) == (2, "error: noted\n")
    (config,) = asked
    return config


def test_training_arguments_join(tmp_path: Path) -> None:
    """--train changes the arguments that it names; the file's others stay."""
    from yolo_slim.api import make_config

    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({"recover": {"overrides": {"lr0": 0.1, "mosaic": 0.5}}}))
    found = make_config("m.pt", "d.yaml", config=file, train={"lr0": 0.2}, settings={"recover.overrides.cos_lr": False})
    assert dict(found.recover.overrides) == {"lr0": 0.2, "mosaic": 0.5, "cos_lr": False}


def test_old_names_are_refused_with_the_new(tmp_path: Path, trained: Path, signs: Path) -> None:
    """Keys, values, sections, commands, options and arguments of earlier versions: each message has today's name."""
    file = tmp_path / "old.yaml"
    old = {"rounds": 2, "head_gentleness": 0.5, "sensitivity": "map.json", "scope": "sensitivity"}
    file.write_text(yaml.safe_dump({"prune": old, "sensitivity": {"removed": 0.3}}))
    sets = [f"--set=prune.{key}={value}" for key, value in old.items()] + ["--set=sensitivity.removed=0.3"]
    for given in (["--config", str(file)], sets):
        message = refused(trained, signs, tmp_path, *given)
        assert "5 values are not valid" in message
        for line in (
            "prune.rounds: unknown key. It is now called 'steps'.",
            "prune.head_gentleness: unknown key. It is now called 'head_rate'.",
            "prune.sensitivity: unknown key. It is now called 'block_costs'.",
            "prune.scope: got 'sensitivity'; expected: 'global', 'uniform', 'isomorphic' or 'block_costs'. "
            "It is now called 'block_costs'.",
            "sensitivity: unknown key. It is now called 'block_costs'.",
        ):
            assert f"  - {line}\n" in message
    assert "No such command 'sensitivity'. It is now called 'block-costs'." in run_cli("sensitivity", "--help")[2]
    assert "`python -m yolo_slim.runtime camera BUNDLE`" in run_cli("camera")[2]
    code, _, err = run_cli("compare", "--model", "m.pt", "--data", "d.yaml", "--arms", "narrow")
    assert (code, "No such option '--arms'. It is now called '--methods'." in err) == (2, True)
    with pytest.raises(SlimError, match="doesn't take these arguments") as caught:
        api.compare("m.pt", "d.yaml", **{"arms": ["narrow"], "epohcs": 3})
    assert caught.value.culprits == ("arms. It is now called 'methods'.", "epohcs. Did you mean 'epochs'?")


def test_settings_that_exclude_each_other(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A conflict names both settings and what to do; with it come all other problems."""
    message = refused(trained, signs, tmp_path, "--prune", "0.3", "--set", "prune.params_removed=0.4", "--epochs", "0")
    assert "prune.params_removed: conflicts with macs_removed (--prune); set only one budget" in message
    assert "recover.epochs (--epochs): got 0" in message


def test_options_that_exclude_each_other(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Options are named as they are typed, and a percentage is told from a fraction."""
    message = refused(trained, signs, tmp_path, "--prune", "0.3", "--target-fps", "30")
    assert "prune.target_fps (--target-fps): conflicts with macs_removed (--prune); set only one budget" in message
    assert "(a fraction: 50 % is 0.5)" in refused(trained, signs, tmp_path, "--prune", "50")


def test_settings_under_a_value_are_named(tmp_path: Path) -> None:
    """Neither a file's wrong value nor an option below a value is lost; all are told at once."""
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({"prune": 0.7, "recover": {"overrides": None}}))
    settings = {"prune.steps": 2, "prune.images": 8, "recover.epochs": 3}
    with pytest.raises(SlimError) as caught:
        api.make_config("m.pt", "d.yaml", config=file, settings=settings, train={"lr0": 0.1})
    assert [line.split(": ")[0] for line in caught.value.culprits] == ["prune.steps", "prune.images"]
    assert caught.value.culprits[0] == "prune.steps: prune is 0.7, not a section"
    with pytest.raises(SlimError, match=r"imgsz\.side: imgsz is 64, not a section"):
        api.make_config("m.pt", "d.yaml", imgsz=64, settings={"imgsz": 64, "imgsz.side": 32})


def test_numbers_with_an_exponent(monkeypatch: pytest.MonkeyPatch, trained: Path, signs: Path, tmp_path: Path) -> None:
    """1e-3 is a number as 0.001 is; what merely looks like one stays text."""
    seen: list[dict[str, object]] = []
    monkeypatch.setattr(api, "recover", lambda *_, **given: seen.append({**given["train"], **given["settings"]}) or api)
    given = ["recover", str(trained), "--teacher", str(trained), "--data", str(signs), "--out", str(tmp_path / "out")]
    run_cli(*given, "--train", "lr0=3e-4", "--train", "name=e4", "--set", "prune.sparse_strength=1E-5")
    assert seen == [{"lr0": 0.0003, "name": "e4", "prune.sparse_strength": 1e-5}]


def test_values_that_are_no_yaml(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A pattern that YAML takes for an alias is refused with the quotes that it needs, not with a traceback."""
    given = ["prune", str(trained), "--data", str(signs), "--imgsz", "64", "--out", str(tmp_path / "out")]
    code, _, err = run_cli(*given, "--set", "prune.protect=*.cv1")
    assert (code, "in quotes it is text" in err, "Traceback" in err) == (2, True, False)


def test_names_tell_budgets_apart() -> None:
    """Half a percent more or less is another run; rounding errors of binary fractions are not."""

    def name(**budget: float) -> str:
        return default_name(RunConfig.model_validate({"model": "m.pt", "data": "d.yaml", "prune": budget}))

    shares = (0.475, 0.48, 0.29, 0.55)
    assert [name(macs_removed=share).split("-")[-1] for share in shares] == ["47.5", "48", "29", "55"]
    assert name(params_removed=0.3).endswith("-p30")
