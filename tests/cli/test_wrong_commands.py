"""Wrong commands, as a newcomer types them: what is printed, word by word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.cli import edit, run_cli
from yolo_slim import api
from yolo_slim.config.strict import CORRECT_YAML, WRITE_QUOTES
from yolo_slim.datasets import quickstart
from yolo_slim.errors import CHECK_PATH, SlimError

EXPORT = "Make the graph of a checkpoint with `yolo-slim export`."
CHECKPOINT = "Give a checkpoint (.pt), such as Ultralytics' weights/best.pt."


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with two files of no content."""
    monkeypatch.chdir(tmp_path)
    for name in ("best.pt", "data.yaml"):
        (tmp_path / name).touch()


def printed(*words: str) -> list[str]:
    """The lines of a refusal; nothing else is printed, and the exit code is 2."""
    code, out, err = run_cli(*words)
    assert (code, out) == (2, ""), err
    return err.splitlines()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("run --epohcs 3", "No such option '--epohcs'. Did you mean '--epochs'?"),
        ("run --imgsize 3", "No such option '--imgsize'. Did you mean '--imgsz'?"),
        ("run --qiuet", "No such option '--qiuet'. Did you mean '--quiet'?"),
        ("run --onyl 3", "No such option '--onyl'."),
        ("run --arms x", "No such option '--arms'."),
        ("run --seeds 3", "No such option '--seeds'. It is an option of `yolo-slim compare`."),
        (
            "latency --target-fps 20",
            "No such option '--target-fps'. It is an option of `yolo-slim run`, `yolo-slim compare`, "
            "`yolo-slim prune`.",
        ),
        (
            "run --set prune={steps:1} --set prune.steps=2",
            "Invalid value for '--set': 'prune' is given as a whole, and 'prune.steps' beside it; write prune.steps "
            "into one of them",
        ),
        ("run --host", "Option '--host' requires an argument."),
        ("run --prune 50%", "Invalid value for '--prune': '50%' is not a number (a fraction: 50 % is 0.5)."),
        ("run --epochs 1.5", "Invalid value for '--epochs': '1.5' is not a whole number."),
        ("compare --arms x", "No such option '--arms'. It is now called '--methods'."),
        ("run --steps 2", "No such option '--steps'. It is a setting without an option: --set prune.steps=VALUE"),
        (
            "run --prune.steps 2",
            "No such option '--prune.steps'. It is a setting without an option: --set prune.steps=VALUE",
        ),
        ("run --macs-removed 0.5", "No such option '--macs-removed'. Did you mean '--prune'?"),
        ("run --lr0 0.1", "No such option '--lr0'. It is an argument of Ultralytics' training: --train lr0=VALUE"),
        ("run --imgsz big", "Invalid value for '--imgsz': 'big' is neither a whole number nor auto."),
        (
            "prune --model best.pt",
            "No such option '--model'. It is given without an option: yolo-slim prune MODEL ...",
        ),
        (
            "recover --model best.pt",
            "No such option '--model'. It is given without an option: yolo-slim recover WEIGHTS ...",
        ),
        (
            "estimate --model best.pt",
            "No such option '--model'. It is given without an option: yolo-slim estimate PATH ...",
        ),
        (
            "validate --bundles x",
            "No such option '--bundles'. It is given without an option: yolo-slim validate BUNDLES... ...",
        ),
        ("nightly run data.yaml --onyl x", "No such option '--onyl'. It is a key of FILE: only"),
        ("show best.pt other.pt", "Unexpected: other.pt."),
    ],
)
def test_options(typed: str, message: str) -> None:
    """An option that is mistyped, missing or none says what was meant, and where the help is."""
    words = typed.split()
    command = " ".join(words[: 2 if words[0] == "nightly" else 1])
    assert printed(*words) == [f"error: {message}", f"See `yolo-slim {command} --help`."]


@pytest.mark.parametrize(
    ("typed", "missing", "needed"),
    [
        ("latency", "option '--model'", "--model and --data"),
        ("latency --model best.pt", "option '--data'", "--model and --data"),
        ("prune", "argument 'MODEL'", "MODEL and --data"),
        ("estimate", "argument 'PATH'", None),
    ],
)
def test_all_that_a_command_needs_is_named(typed: str, missing: str, needed: str | None) -> None:
    """Where something required is missing, the message names all of it; negative control: one thing needs no list."""
    command = typed.split()[0]
    start = f"`yolo-slim {command}` needs {needed}. " if needed else ""
    assert printed(*typed.split()) == [f"error: Missing {missing}.", f"{start}See `yolo-slim {command} --help`."]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("devise", "No such command 'devise'. Did you mean 'device'?"),
        ("traget", "No such command 'traget'. Did you mean 'targets'?"),
        ("squeeze", "No such command 'squeeze'."),
        (
            "check",
            "No such command 'check'. It takes a bundle, on any machine: `python -m yolo_slim.runtime check BUNDLE`.",
        ),
    ],
)
def test_commands(typed: str, message: str) -> None:
    """A command that is mistyped or another program's says what was meant."""
    assert printed(typed) == [f"error: {message}", "See `yolo-slim --help`."]


def test_help_of_a_group_is_no_error() -> None:
    """A group without a command shows its help, as click does."""
    assert printed("device")[0].startswith("Usage: yolo-slim device")


@pytest.mark.parametrize(
    ("typed", "missing"),
    [
        ("run --model no.pt --data data.yaml", ["no.pt (--model)"]),
        (
            "run --model no.pt --data no.yaml --teacher t.pt",
            ["no.pt (--model)", "no.yaml (--data)", "t.pt (--teacher)"],
        ),
        ("prune no.pt --data data.yaml", ["no.pt (MODEL)"]),
        ("recover best.pt --teacher no.pt --data data.yaml", ["no.pt (--teacher)"]),
        ("run --config no.yaml", ["no.yaml (--config)"]),
        ("compare --model best.pt --data data.yaml --measured a.json", ["a.json (--measured)"]),
        ("device add a b --target rpi5 --identity id", ["id (--identity)"]),
    ],
)
def test_files_that_are_not_there(typed: str, missing: list[str]) -> None:
    """Every one is named with what named it, and all at once."""
    lines = printed(*typed.split())
    if len(missing) == 1:
        assert lines == [f"error: File not found: {missing[0]}", CHECK_PATH]
    else:
        culprits = [f"  - {one}" for one in missing]
        assert lines == [f"error: {len(missing)} files are not found.", *culprits, CHECK_PATH]


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("nightly n.yaml", ["File not found: n.yaml (FILE)", "Write an example: yolo-slim nightly init"]),
        (
            "quantize m.onnx --data data.yaml --out o",
            ["File not found: m.onnx (ONNX)", "Make it with `yolo-slim export`."],
        ),
        ("run --model . --data data.yaml", ["A folder where a file is wanted: . (--model)", CHECK_PATH]),
        (
            "prune best.pt --data best.pt",
            ["best.pt (--data) is a model.", "Give the data.yaml that it was trained with."],
        ),
        ("export data.yaml --data data.yaml", ["data.yaml (WEIGHTS) describes data.", CHECKPOINT]),
        ("build best.pt --data data.yaml --out o", ["best.pt (ONNX) is no .onnx.", EXPORT]),
        ("show .", ["This can't be shown: .", "Give a run's folder, a result.json, a bundle or a checkpoint."]),
    ],
)
def test_files_of_another_kind(typed: str, lines: list[str]) -> None:
    """What a command can't read is refused with what it reads, or how that is made."""
    assert printed(*typed.split()) == [f"error: {lines[0]}", *lines[1:]]


def test_file_that_a_setting_names(tmp_path: Path) -> None:
    """A path in a --config file or in --set is named by its key."""
    (tmp_path / "my.yaml").write_text("recover: {teacher: t.pt}\nprune: {scope: block_costs, block_costs: c.json}\n")
    assert printed("run", "--model", "best.pt", "--data", "data.yaml", "--config", "my.yaml") == [
        "error: 2 files are not found.", "  - t.pt (recover.teacher)", "  - c.json (prune.block_costs)", CHECK_PATH,
    ]  # fmt: skip
    assert printed("run", "--target", "mine.yaml", "--model", "best.pt", "--data", "data.yaml")[0] == (
        "error: File not found: mine.yaml (target)"
    )


@pytest.mark.parametrize(
    ("typed", "message", "line"),
    [
        (
            "run --model data.yaml --data=best.pt --imgsz 320",
            "--model",
            "run --model best.pt --data=data.yaml --imgsz 320",
        ),
        ("prune data.yaml --data ./best.pt", "MODEL", "prune best.pt --data data.yaml"),
    ],
)
def test_exchanged_files(typed: str, message: str, line: str) -> None:
    """Model and data that are exchanged are answered with the line to type."""
    fact = f"error: {message} and --data look exchanged: data.yaml describes data, and best.pt is a model."
    assert printed(*typed.split()) == [fact, f"Write: yolo-slim {line}"]


def test_exchanged_files_in_python() -> None:
    """The API says it too."""
    with pytest.raises(SlimError, match=r"Model and data look exchanged: data\.yaml describes data"):
        api.run("data.yaml", "best.pt")


def test_files_without_their_options() -> None:
    """Files that stand alone are put behind their options, in whatever order they came."""
    for typed in ("data.yaml best.pt", "best.pt data.yaml"):
        assert printed("run", *typed.split(), "--target", "rpi5")[0] == (
            f"error: Unexpected: {typed}. Model and data are given by option, so that they can't be exchanged: "
            "yolo-slim run --model best.pt --data data.yaml --target rpi5"
        )


def test_port_that_is_none(trained: Path, signs: Path) -> None:
    """The port of an address is named, before the data set is read or a device is asked."""
    for words in (
        ("run", "--model", str(trained), "--data", str(signs), "--target", "rpi5", "--host", "pi@x:99999"),
        ("doctor", "--host", "pi@x:99999"),
        ("run", "--host", "pi@x:99999", "--target", "rpi5"),
    ):
        assert printed(*words) == [
            "error: Port 99999 of 'pi@x:99999' is not a port.",
            "Give a number from 1 to 65535; SSH's own is 22, which may be left out.",
        ]


def test_side_that_does_not_fit(trained: Path, signs: Path) -> None:
    """The option is named, as the command line and as make take it."""
    assert printed("run", "--model", str(trained), "--data", str(signs), "--imgsz", "321") == [
        "error: imgsz 321 is not a multiple of the model's stride 32.", "Give --imgsz 320 or 352 (make: IMGSZ=).",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--imgsz 321", "imgsz 321 is not a multiple of the model's stride 32."),
        ("--imgsz auto", "--imgsz auto needs a frame rate, for which it chooses the input side."),
        ("--name mine --prune 2", "settings: 1 value is not valid."),
        ("--train lr00=1", "Some training arguments (--train) can't be passed to Ultralytics."),
        ("--device 99", "recover.device asks for GPU 99; this machine has none that torch can use."),
        ("--target rpi", "Unknown target 'rpi'. Did you mean 'rpi4' or 'rpi5'?"),
        ("--set export.end2end=true", "quickstart-yolo11n.pt has no one-to-one head, so it can't be exported end2end."),
        ("--set prune.round_to=3 --target rpi5", "prune.round_to 3 is not a multiple of rpi5's channel_multiple 8."),
    ],
)
def test_wrong_options_of_the_example(options: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a model and data the options are checked before the example is drawn."""
    monkeypatch.setattr(quickstart, "default_data", lambda _: pytest.fail("drawn"))
    first = printed("run", *options.split())[0]
    assert first.startswith("error: ")
    assert first.endswith(message)


def test_example_is_drawn_where_the_options_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: right options reach the drawing."""

    def draw(root: Path) -> Path:
        raise SlimError(f"drawn in {root}")

    monkeypatch.setattr(quickstart, "default_data", draw)
    assert printed("run")[-1] == "error: drawn in .quickstart"


@pytest.mark.parametrize(
    ("line", "culprit"),
    [
        ("onyl: ['*']", "onyl: unknown key. Did you mean 'only'?"),
        ("seconds: 3", "seconds: unknown key. Did you mean 'timing.seconds'?"),
        ("settings: {half: {epochs: 3}}", "settings.half.epochs: unknown key. Did you mean 'recover.epochs'?"),
        ("targets: {pi: {profile: rpi}}", "targets.pi: Unknown target 'rpi'. Did you mean 'rpi4' or 'rpi5'?"),
    ],
)
def test_mistakes_in_a_matrix(line: str, culprit: str, tmp_path: Path) -> None:
    """Every mistake in nightly.yaml ends with the page that explains it."""
    (tmp_path / "n.yaml").write_text(f"models: {{a: quickstart}}\ndata: {{a: quickstart}}\n{line}\n")
    assert printed("nightly", "n.yaml") == [
        "error: n.yaml: 1 value is not valid.", f"  - {culprit}",
        "Correct them and run the command again; docs/configuration.md lists every key.",
        "More: docs/troubleshooting.md#settings-arent-valid",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "culprit"),
    [
        ("epochs: 3", "epochs: unknown key. Did you mean 'recover.epochs'?"),
        ("prune: {epochs: 3}", "prune.epochs: unknown key. Did you mean 'recover.epochs'?"),
        (
            "prune: 0.5",
            "prune: got 0.5; expected: a section with keys such as macs_removed, params_removed, max_size_mb",
        ),
        (
            "device: cpu",
            "device: got 'cpu'; expected: a section with keys such as host, any_device, offline. "
            "Did you mean 'recover.device'?",
        ),
        ("recover: {epoch: 3}", "recover.epoch: unknown key. Did you mean 'epochs'?"),
        ("batch_size: 3", "batch_size: unknown key. Did you mean 'recover.batch'?"),
        ("lr0: 3", "lr0: unknown key."),
        (
            "validate: {busy: makr}",
            "validate.busy: got 'makr'; expected: 'repeat', 'mark' or 'refuse'. Did you mean 'mark'?",
        ),
    ],
)
def test_mistakes_in_a_file_of_settings(line: str, culprit: str, tmp_path: Path) -> None:
    """A key that is in another section is named with that section."""
    (tmp_path / "my.yaml").write_text(f"{line}\n")
    assert printed("run", "--config", "my.yaml")[:2] == [
        "error: my.yaml: 1 value is not valid.", f"  - {culprit}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("2024-02-30 10:00:00", "'2024-02-30 10:00:00' isn't a valid date: day is out of range for month"),
        ("2024-13-45", "'2024-13-45' isn't a valid date: month must be in 1..12"),
        ("0x_", "'0x_' isn't a valid number"),
        ("!!bool maybe", "'maybe' isn't a valid truth value"),
        ("!!timestamp noon", "'noon' isn't a valid date"),
    ],
)
def test_values_that_are_impossible(value: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML refuses them with errors of Python's own: whichever file it is, it is named with the value's place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "yolo_slim").mkdir()
    devices = tmp_path / "yolo_slim/devices.yaml"
    for typed, name in (
        ("run --model best.pt --data bad.yaml", "bad.yaml"),
        ("run --config bad.yaml", "bad.yaml"),
        ("nightly bad.yaml", "bad.yaml"),
        ("targets bad.yaml", "bad.yaml"),
        ("device list", devices),
    ):
        (tmp_path / name).write_text(f"names: [a]\nval: {value}\n")
        lines = printed(*typed.split())
        assert lines[0] == f"error: Not a YAML file: {name}"
        assert lines[1] == f"  - {problem}"
        assert lines[2].endswith("line 2, column 6:")
        assert lines[-1] == WRITE_QUOTES
    devices.unlink()
    for option in ("--set", "--train"):
        text = f"prune.steps={value}"
        assert printed("run", option, text)[0] == (
            f"error: Invalid value for '{option}': '{text}': the value isn't YAML; in quotes it is text: "
            f"'prune.steps=\"{value}\"'"
        )


def test_brackets_without_end(tmp_path: Path) -> None:
    """A file that would exhaust the stack is refused too; a good date is read (negative control)."""
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 3000)
    lines = printed("targets", "deep.yaml")
    assert (lines[1], lines[-1]) == ("  - too many brackets inside each other", CORRECT_YAML)
    (tmp_path / "good.yaml").write_text("a: 2024-02-29\n")
    assert "  - a: unknown key." in printed("targets", "good.yaml")


def test_training_argument_that_two_are_like(trained: Path, signs: Path) -> None:
    """Where two are equally near, both are named."""
    lines = printed("run", "--model", str(trained), "--data", str(signs), "--imgsz", "64", "--train", "lr=0.1")
    assert lines[1] == "  - lr: unknown argument. Did you mean 'lr0' or 'lrf'?"


def test_classes_of_the_data(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Classes in another order, of other names or another number are told apart, with the page that explains it."""
    data = tmp_path / "copy" / "data.yaml"
    shutil.copytree(signs.parent, data.parent)
    names = ["stop", "yield", "no_entry", "speed_30", "speed_50", "speed_80", "crossing", "turn_right"]
    model = "  - model: " + ", ".join(f"{number}: {name}" for number, name in enumerate(names))
    give = "Give the data.yaml that the model was trained with."
    numbers = " A change of data.yaml alone isn't enough: the numbers in the labels stand for its own order."
    for own, what, remedy in (
        (sorted(names), "its classes are the model's in another order", give + numbers),
        ([*names[:-1], "left"], "its classes have other names than the model's", give),
        ([*names, "left"], "it has 9 classes, the model has 8", give),
    ):
        edit(data, names=own)
        ours = "  - data: " + ", ".join(f"{number}: {name}" for number, name in enumerate(own))
        assert printed("run", "--model", str(trained), "--data", str(data), "--imgsz", "64") == [
            f"error: {data}: {what}.", ours, model, remedy, "More: docs/troubleshooting.md#the-classes-differ",
        ]  # fmt: skip
