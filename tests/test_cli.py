"""The command line: help, listings, and one clear message with exit code 2 for every bad input."""

from __future__ import annotations

import fcntl
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import torch
import yaml

from tests.helpers.cli import run_cli
from yolo_slim import api, cli
from yolo_slim.config import options
from yolo_slim.config.run import RecoverConfig, RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.pipeline import default_name
from yolo_slim.stages.recover import RecoverInputs
from yolo_slim.version import __version__
from yolo_slim.workspace.job import MANIFEST_SCHEMA

COMMANDS = ("run", "compare", "prune", "block-costs", "recover", "export", "quantize", "build", "validate", "plan")
COMMANDS += ("show", "targets", "doctor")


@pytest.fixture
def copied(signs: Path, tmp_path: Path) -> Path:
    """Return the data.yaml of a copy of the signs that a test may damage."""
    shutil.copytree(signs.parent, tmp_path / "data")
    return tmp_path / "data" / "data.yaml"


def edit(data: Path, **values: object) -> None:
    """Change keys of a data.yaml; None removes one."""
    content = {**yaml.safe_load(data.read_text()), **values}
    data.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def refused(model: Path, data: Path, project: Path, *more: str) -> str:
    """Run the chain, assert that it refuses without leaving anything, and return the message."""
    given = ["--model", str(model), "--data", str(data), "--project", str(project / "runs"), "--imgsz", "96"]
    code, out, err = run_cli("run", *given, *more)
    assert code == 2, err
    assert "Traceback" not in err + out
    assert [line for line in err.splitlines() if line.startswith("error: ")]
    assert not list((project / "runs").rglob("*.pt"))
    return err


def test_help_of_every_command() -> None:
    """Every command is listed and explains itself."""
    _, listing, _ = run_cli("--help")
    assert "\\b" not in listing
    for command in COMMANDS:
        assert command in listing
        code, text, _ = run_cli(command, "--help")
        assert code == 0
        assert "\\b" not in text
        assert "Usage: yolo-slim" in text


def test_help_loads_nothing_heavy() -> None:
    """--help imports neither torch nor Ultralytics nor OpenCV and takes half a second at most; doctor shows OpenCV."""
    code = (
        "import sys, time; sys.argv = ['yolo-slim', *sys.argv[1:]]\nfrom yolo_slim import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(time.process_time())\n"
        "print(sorted({'torch', 'ultralytics', 'cv2', 'numpy', 'rich'} & set(sys.modules)))"
    )

    def printed(*words: str) -> list[str]:
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    listing = printed("--help")
    assert "Usage: yolo-slim" in listing[0]
    assert listing[-1] == "[]"
    # Processor time, which other processes of a busy machine lengthen less than the time of the clock.
    assert float(listing[-2]) < 0.5
    assert "cv2" in printed("doctor")[-1]


def test_targets_and_doctor() -> None:
    """The profiles are listed and shown, and the doctor finds nothing missing."""
    code, text, _ = run_cli("targets")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == [
        "host",
        "jetson-agx-orin",
        "jetson-agx-thor",
        "jetson-orin-nano",
        "jetson-orin-nx",
        "rpi4",
        "rpi5",
    ]
    assert "min_fps" in run_cli("targets", "rpi5")[1]
    assert run_cli("doctor", "--json")[0] == 0


def test_unknown_command_and_target() -> None:
    """A typing error gets a did-you-mean."""
    code, _, err = run_cli("prnue")
    assert code == 2
    assert "Did you mean 'prune'?" in err
    code, _, err = run_cli("targets", "rpi55")
    assert code == 2
    assert "Did you mean 'rpi5'?" in err


def test_bad_models(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Missing, truncated, foreign, fused and non-detection checkpoints are each told apart."""
    from ultralytics.nn.tasks import SegmentationModel

    assert "Model not found" in refused(tmp_path / "no.pt", signs, tmp_path)
    damaged = tmp_path / "cut.pt"
    damaged.write_bytes(trained.read_bytes()[:100_000])
    assert "truncated" in refused(damaged, signs, tmp_path)
    torch.save({"weights": torch.zeros(3)}, damaged)
    assert "not an Ultralytics checkpoint" in refused(damaged, signs, tmp_path)
    torch.save({"model": SegmentationModel("yolo11n-seg.yaml", verbose=False)}, damaged)
    assert "not a detection checkpoint" in refused(damaged, signs, tmp_path)
    content = torch.load(trained, weights_only=False)
    content["model"] = content["model"].float().fuse(verbose=False)
    torch.save(content, damaged)
    assert "fused checkpoint" in refused(damaged, signs, tmp_path)


def test_bad_data(trained: Path, copied: Path, tmp_path: Path) -> None:
    """All problems of a data set are reported at once, before anything is written."""
    root = copied.parent
    (root / "images/train/00003.jpg").write_bytes(b"\xff\xd8 no jpeg")
    (root / "labels/train/00004.txt").write_text("0 1.5 0.5 0.2 0.2\n")
    (root / "labels/val/00001.txt").write_text("99 0.5 0.5 0.2 0.2\n")
    message = refused(trained, copied, tmp_path)
    assert "00003.jpg" in message
    assert "outside the image" in message
    assert "class 99 is out of range" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": None}, "val: this key is missing"),
        ({"train": "images/none"}, "does not exist"),
        ({"names": ["a", "b"]}, "class count differ"),
        ({"names": list("abcdefgh")}, "class names differ"),
    ],
)
def test_bad_description(trained: Path, copied: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    """Missing splits and images, and classes other than the model's, are refused."""
    edit(copied, **change)
    assert message in refused(trained, copied, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--imgsz", "100"], "Set IMGSZ to 96 or 128"),
        (["--prune", "1.5"], "prune.macs_removed: got 1.5"),
        (["--prune", "0"], "prune.macs_removed: got 0"),
        (["--prune", "0.99", "--set", "prune.criterion=l2"], "below their floor"),
        (["--target", "rpi55"], "Did you mean 'rpi5'?"),
        (["--set", "prune.criterium=l2"], "Did you mean 'criterion'?"),
        (["--train", "lr00=0.1"], "Did you mean 'lr0'?"),
        (["--set", "export.end2end=true"], "no one-to-one head"),
    ],
)
def test_bad_settings(trained: Path, signs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    """Impossible settings are refused with what would be possible."""
    assert message in refused(trained, signs, tmp_path, *options)


def test_bad_profile(trained: Path, signs: Path, tmp_path: Path) -> None:
    """An own profile's unknown keys and wrong types are reported together."""
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\ndescription: x\narch: any\nthreads: two\nbudgett: {}\nruntimes: []\n")
    message = refused(trained, signs, tmp_path, "--target", str(profile))
    assert "budgett: unknown key. Did you mean 'budget'?" in message
    assert "threads: got 'two'" in message


def test_folder_that_cannot_be_written(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A project path below a file can't be a folder."""
    (tmp_path / "runs").write_text("a file")
    assert "can't be written" in refused(trained, signs, tmp_path)
    assert (tmp_path / "runs").read_text() == "a file"


def test_folder_in_use(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A folder that another process writes to is left alone."""
    folder = tmp_path / "runs" / "busy"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "being written by another process" in refused(trained, signs, tmp_path, "--name", "busy")


def test_folder_of_someone_else(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A folder with other files is refused and keeps them."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(trained, signs, tmp_path, "--name", "mine")
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert [item.name for item in folder.iterdir()] == ["thesis.txt"]
    given = ["compare", "--model", str(trained), "--data", str(signs), "--imgsz", "64", "--project", str(folder.parent)]
    code, _, err = run_cli(*given, "--name", "mine")
    assert (code, "thesis.txt" in err) == (2, True)
    assert [item.name for item in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").rename(folder / ".lock")
    assert "is not a lock of yolo_slim" in refused(trained, signs, tmp_path, "--name", "mine")
    assert (folder / ".lock").read_text() == "years of work"


def test_a_refused_stage_leaves_nothing(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Where nothing was written, no folder stays behind; one that was there before does."""
    (tmp_path / "mine").mkdir()
    for out in ("new", "mine"):
        given = ["prune", str(trained), "--data", str(signs), "--imgsz", "64", "--set", 'prune.protect=["*"]']
        code, _, err = run_cli(*given, "--out", str(tmp_path / out))
        assert (code, "protect less (prune.protect)" in err) == (2, True), err
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]


def test_plans_tell_edits(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Show and diff name what a person changed and no list follows yet; untouched plans are equal."""
    quick = ["--set", "prune.criterion=l2", "--set", "prune.steps=1"]
    given = ["plan", "make", str(trained), "--data", str(signs), "--imgsz", "64", *quick, "--out", str(tmp_path)]
    assert run_cli(*given)[0] == 0
    plan, edited = tmp_path / "plan.json", tmp_path / "edited.json"
    assert "keep the same channels" in run_cli("plan", "diff", str(plan), str(plan))[1]
    values = read_json(plan)
    values["layers"]["model.5.conv"]["keep"] = 16
    edited.write_text(json.dumps(values))
    for command in (["diff", str(plan), str(edited)], ["show", str(edited)]):
        code, out, _ = run_cli("plan", *command)
        assert (code, "model.5.conv: keep 16" in out, "the same channels" in out) == (0, True, False), out
    code, _, err = run_cli("show", str(plan))
    assert (code, "yolo-slim plan show" in err) == (2, True)


def test_disk_full(trained: Path, signs: Path, tmp_path: Path) -> None:
    """On a full disk the message says so and no half file takes a whole one's name."""
    small = tmp_path / "runs"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        quick = ["--set", "prune.criterion=l2", "--set", "prune.steps=1", "--set", "prune.bn_images=8"]
        assert "disk is full" in refused(trained, signs, tmp_path, "--prune", "0.2", *quick)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_show(trained: Path, untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """A checkpoint's widths are shown; something else is refused."""
    assert "model.0.conv" in run_cli("show", str(trained))[1]
    assert '"params"' in run_cli("show", str(untrained("yolov8n")), "--json")[1]
    code, _, err = run_cli("show", str(tmp_path))
    assert code == 2
    assert "Not a bundle" in err


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
    code, _, err = run_cli("compare", "--model", "m.pt", "--data", "d.yaml", "--arms", "narrow")
    assert (code, "No such option '--arms'. It is now called '--methods'." in err) == (2, True)
    with pytest.raises(SlimError, match="doesn't take these arguments") as caught:
        api.compare("m.pt", "d.yaml", **{"arms": ["narrow"], "epohcs": 3})
    assert caught.value.culprits == ("arms. It is now called 'methods'.", "epohcs. Did you mean 'epochs'?")


def test_settings_that_exclude_each_other(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A conflict names both settings and what to do; with it come all other problems."""
    message = refused(trained, signs, tmp_path, "--prune", "0.3", "--set", "prune.params_removed=0.4", "--epochs", "0")
    assert "prune.params_removed: conflicts with macs_removed; set only one budget" in message
    assert "recover.epochs: got 0" in message


def commands_of(group: click.Group) -> Iterator[click.Command]:
    """Yield the commands of a group, those of its own groups too."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from commands_of(command)
        else:
            yield command


@pytest.mark.parametrize("command", commands_of(cli.cli), ids=lambda command: command.callback.__name__)
def test_a_commands_function_takes_its_options(command: click.Command) -> None:
    """Every option reaches a parameter of its name: own ones, or keys of the generated TypedDict."""
    assert command.callback is not None
    parameters = inspect.signature(command.callback).parameters.values()
    known = {item.name for item in parameters if item.kind is not item.VAR_KEYWORD}
    for item in parameters:
        if item.kind is item.VAR_KEYWORD:
            kind = re.fullmatch(r"Unpack\[(\w+)\]", item.annotation)
            assert kind, "options without a type"
            known |= set(getattr(options, kind[1]).__annotations__)
    assert {parameter.name for parameter in command.params} == known


def test_place_of_another_model(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stage alone, without --out, doesn't write into another model's run of the same name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "slim" / f"{trained.stem}-host-64-50"
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"model_sha256": "another"})
    code, _, err = run_cli("prune", str(trained), "--data", str(signs), "--imgsz", "64")
    assert (code, "holds another run" in err) == (2, True)
    assert {path.name for path in folder.iterdir()} == {"run.json", ".lock"}


@pytest.mark.parametrize("command", ["prune", "recover", "export", "plan"])
def test_out_of_the_users_own(command: str, trained: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with files of the user's isn't taken as --out: not his data set, and nothing in it changes."""
    before = {path: path.read_bytes() for path in copied.parent.rglob("*") if path.is_file()}
    monkeypatch.chdir(copied.parent)
    given = {
        "recover": ["recover", str(trained), "--teacher", str(trained)],
        "plan": ["plan", "make", str(trained)],
    }.get(command, [command, str(trained)])
    code, _, err = run_cli(*given, "--data", "data.yaml", "--imgsz", "64", "--out", ".")
    assert (code, "holds files that are not yolo_slim's" in err) == (2, True)
    assert {path: path.read_bytes() for path in copied.parent.rglob("*") if path.is_file()} == before


def test_names_tell_budgets_apart() -> None:
    """Half a percent more or less is another run; rounding errors of binary fractions are not."""

    def name(**budget: float) -> str:
        return default_name(RunConfig.model_validate({"model": "m.pt", "data": "d.yaml", "prune": budget}))

    shares = (0.475, 0.48, 0.29, 0.55)
    assert [name(macs_removed=share).split("-")[-1] for share in shares] == ["47.5", "48", "29", "55"]
    assert name(params_removed=0.3).endswith("-p30")


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


def test_out_of_a_whole_run(trained: Path, signs: Path, tmp_path: Path) -> None:
    """The folder of a run or a comparison isn't one stage's, though a lock of ours lies in it."""
    (tmp_path / ".lock").write_text("pid 1")
    write_json(tmp_path / "run.json", {"kind": "comparison"})
    with pytest.raises(SlimError, match="holds a whole run or comparison"):
        api.recover(trained, trained, signs, tmp_path, imgsz=64)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.json"}


def test_out_in_a_run(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage's folder that a killed run has left is taken as --out, except while that run goes on; others aren't."""
    seen: list[Path] = []
    monkeypatch.setattr(api.recover_stage, "run", lambda *args, **_: seen.append(args[2]))
    run = tmp_path / "mine"
    for name in ("recover", "notes"):
        (run / name / "train").mkdir(parents=True)
    write_json(run / "run.json", {"model_sha256": "of mine"})
    given = {"teacher": trained, "data": signs, "imgsz": 64}
    api.recover(trained, out=run / "recover", **given)
    with pytest.raises(SlimError, match="not yolo_slim's"):
        api.recover(trained, out=run / "notes", **given)
    with (run / ".lock").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(SlimError, match="written by another process"):
            api.recover(trained, out=run / "recover", **given)
    assert seen == [run / "recover"]


def test_recovery_of_other_weights(
    trained: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's weights are recovered into that run by its own model; by a larger one, or from elsewhere, in no run."""
    seen: list[Path] = []
    monkeypatch.setattr(api.recover_stage, "run", lambda *args, **_: seen.append(args[2].resolve()))
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs" / "slim"
    for share in (30, 50):
        folder = runs / f"{trained.stem}-host-64-{share}"
        (folder / "prune").mkdir(parents=True)
        (folder / "prune" / "pruned.pt").write_bytes(bytes([share]))
        identity = {"schema": 1, "model_sha256": sha256(trained), "data": str(signs.resolve()), "target": "host"}
        write_json(folder / "run.json", identity)
    own = runs / f"{trained.stem}-host-64-30"
    api.recover(own / "prune" / "pruned.pt", trained, signs, imgsz=64)
    write_json(own / "run.json", {**read_json(own / "run.json"), "config": {"imgsz": 64}})
    with pytest.raises(SlimError, match="imgsz: 64 there, 96 now"):
        api.recover(own / "prune" / "pruned.pt", trained, signs, imgsz=96)
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    api.recover(other, trained, signs, imgsz=64)
    larger = untrained("yolo11n")
    api.recover(own / "prune" / "pruned.pt", larger, signs, imgsz=64)
    assert seen == [own / "recover", runs / "other-host-64-recover", runs / "pruned-host-64-recover"]
    assert not any(path.name.startswith(larger.stem) for path in runs.iterdir())


def test_finished_recovery_that_nobody_named(signs: Path, trained: Path, tmp_path: Path) -> None:
    """Without --out, a finished recovery isn't trained anew by other settings; every difference is told."""
    before = {"schema": MANIFEST_SCHEMA, "stage": "recover", "fingerprint": "", "outputs": {}}
    before |= {"config": {"epochs": 100, "imgsz": 64}, "inputs": {"weights": "other"}}
    write_json(tmp_path / "manifest.json", before)
    kept = (tmp_path / "manifest.json").read_bytes()
    inputs = RecoverInputs(weights=trained, teacher=trained, data=signs)
    with pytest.raises(SlimError, match="finished recovery that was trained otherwise") as caught:
        api.recover_stage.run(inputs, RecoverConfig(epochs=3), tmp_path, imgsz=64, replace=False)
    assert "epochs: 100 -> 3" in caught.value.culprits
    assert f"weights: other -> {sha256(trained)[:12]}" in caught.value.culprits
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_bytes() == kept


def test_finished_recovery_of_an_earlier_version(signs: Path, trained: Path, tmp_path: Path) -> None:
    """An update of yolo_slim alone doesn't train anew over a recovery that nobody's --out named."""
    config, digest = RecoverConfig(epochs=3), sha256(trained)
    before = {"schema": MANIFEST_SCHEMA, "stage": "recover", "fingerprint": "", "outputs": {}}
    before |= {"config": {**api.recover_stage.settings_of(config), "imgsz": 64, "seed": 0}}
    before |= {"inputs": {"weights": digest, "teacher": digest, "data": ""}, "versions": {"yolo_slim": "0.0.1"}}
    write_json(tmp_path / "manifest.json", before)
    inputs = RecoverInputs(weights=trained, teacher=trained, data=signs)
    with pytest.raises(SlimError, match="finished recovery that was trained otherwise") as caught:
        api.recover_stage.run(inputs, config, tmp_path, imgsz=64, replace=False)
    assert caught.value.culprits == (f"yolo_slim: 0.0.1 -> {__version__}",)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_export_of_other_weights(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out, weights of the same file name don't take the place of another network's export."""
    monkeypatch.setattr(api.export_stage, "run", lambda *args, **_: args[2])
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "recovered.pt").write_bytes(name.encode())
    folder = api.export("a/recovered.pt", signs, imgsz=64)
    whose = {"weights": sha256(tmp_path / "a" / "recovered.pt")}
    write_json(folder / "manifest.json", {"schema": MANIFEST_SCHEMA, "stage": "export", "inputs": whose})
    assert api.export("a/recovered.pt", signs, imgsz=64) == folder
    with pytest.raises(SlimError, match="export of other weights"):
        api.export("b/recovered.pt", signs, imgsz=64)
    assert api.export("b/recovered.pt", signs, folder, imgsz=64) == folder


def test_missing_files_and_folders(trained: Path, signs: Path, tmp_path: Path) -> None:
    """What isn't there, or is a folder, is one message, whichever file it is."""
    given = ["--data", str(signs), "--imgsz", "64"]
    by_map = ["--set", "prune.scope=block_costs", "--set", "prune.block_costs=map.json"]
    for command, message in (
        (["plan", "show", str(tmp_path)], "A folder where a file is wanted"),
        (["prune", str(trained), *given, "--config", str(tmp_path)], "A folder where a file is wanted"),
        (["compare", "--model", "no.pt", *given, *by_map], "File not found: no.pt"),
    ):
        code, _, err = run_cli(*command)
        assert (code, message in err, "Traceback" in err) == (2, True, False), err


def test_two_teachers(trained: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Recover doesn't let --teacher silently win over the settings' teacher; the same one twice is fine."""
    given = ["recover", str(trained), "--teacher", str(trained), "--data", str(signs), "--imgsz", "64"]
    larger = f"recover.teacher={untrained('yolo11n')}"
    code, _, err = run_cli(*given, "--out", str(tmp_path / "out"), "--set", larger)
    assert (code, "Two teachers are given" in err) == (2, True)


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


def test_one_channel(untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """A network of grey images is refused by name: images are read with three channels everywhere."""
    content = torch.load(untrained("yolov8n"), weights_only=False)
    content["model"].yaml["channels"] = 1
    torch.save(content, tmp_path / "grey.pt")
    code, _, err = run_cli("show", str(tmp_path / "grey.pt"))
    assert (code, "takes images of 1 channels" in err) == (2, True)
