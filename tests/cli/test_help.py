"""Help, listings and what a command shows, without any heavy package where none is needed."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.helpers.cli import run_cli
from tests.helpers.constants import ROOT
from tests.helpers.results import complete_result
from yolo_slim import cli
from yolo_slim.config import options
from yolo_slim.files import read_json
from yolo_slim.workspace.folder import locked

COMMANDS = ("run", "compare", "prune", "block-costs", "recover", "export", "quantize", "build", "validate", "plan")
COMMANDS += ("nightly", "show", "targets", "estimate", "doctor")


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


@pytest.mark.parametrize("words", [(), ("nightly",), ("device",), ("plan",)])
def test_lists_of_commands_have_whole_sentences(words: tuple[str, ...]) -> None:
    """Every command has one line of 80 columns, which ends with a sentence's full stop."""
    _, listing, _ = run_cli(*words, "--help")
    lines = listing.partition("Commands:\n")[2].splitlines()
    assert len(lines) >= 4
    for line in lines:
        assert re.match(r"  \w", line), f"continues the line above: {line}"
        assert line.endswith(".")
        assert not line.endswith("...")
        assert len(line) <= 79


def test_version_names_the_commit() -> None:
    """In a clone the version has the commit that is checked out."""
    code, text, _ = run_cli("--version")
    assert code == 0
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    wanted = f"commit {head[:12]}" if head else "no commit known"
    assert re.fullmatch(rf"yolo-slim \d+\.\d+\.\d+ \({wanted}(, with changes)?\)", text.strip())


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


def test_show(trained: Path, untrained: Callable[[str], Path], tmp_path: Path) -> None:
    """A checkpoint's widths are shown; something else is refused."""
    assert "model.0.conv" in run_cli("show", str(trained))[1]
    assert '"params"' in run_cli("show", str(untrained("yolov8n")), "--json")[1]
    code, _, err = run_cli("show", str(tmp_path))
    assert code == 2
    assert "This can't be shown" in err


def test_show_of_a_folder_of_runs(tmp_path: Path) -> None:
    """Every run has its verdict, or what of it is finished; anything else in the folder is left out."""
    for name in ("done", "going", "damaged"):
        (tmp_path / name / "validate").mkdir(parents=True)
        (tmp_path / name / "folder.json").write_text("{}")
    complete_result().save(tmp_path / "done" / "validate" / "result.json")
    (tmp_path / "damaged" / "validate" / "result.json").write_text("{")
    (tmp_path / "going" / "prune").mkdir()
    (tmp_path / "going" / "prune" / "manifest.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    found = json.loads(run_cli("show", str(tmp_path), "--json")[1])
    assert found == {
        "damaged": "its result.json is damaged",
        "done": complete_result().verdict.status,
        "going": "not finished; finished stages: prune",
    }
    assert "finished stages" in run_cli("show", str(tmp_path / "going"))[1]


def test_show_says_when_a_run_went_on(tmp_path: Path) -> None:
    """A result whose run began again says which stages are unfinished; one of a finished run says nothing."""
    for stage in ("prune", "recover", "validate"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "manifest.json").write_text("{}")
    complete_result().save(tmp_path / "validate" / "result.json")
    assert "earlier state" not in run_cli("show", str(tmp_path))[2]
    (tmp_path / "prune" / "manifest.json").unlink()
    code, _, err = run_cli("show", str(tmp_path))
    assert (code, "earlier state of the run: prune began again since." in err) == (0, True)


def test_show_of_a_result_whose_timings_do_not_count(tmp_path: Path) -> None:
    """Such a result has no manifest, because the next call measures again; it isn't called an earlier state."""
    (tmp_path / "validate").mkdir()
    complete_result().save(tmp_path / "validate" / "result.json")
    code, _, err = run_cli("show", str(tmp_path))
    assert (code, "its timings don't count, or validate was interrupted" in err) == (0, True)
    assert "earlier state" not in err


def test_show_of_a_run_that_is_being_made(tmp_path: Path) -> None:
    """Its user isn't told to give the command again; when the lock is free, that is the advice (control)."""
    run = tmp_path / "going"
    (run / "prune").mkdir(parents=True)
    (run / "folder.json").write_text("{}")
    with locked(run):
        shown = [run_cli("show", str(path))[1] for path in (run, tmp_path)]
    assert f"being made now (pid {os.getpid()})" in shown[0]
    assert "being made now; finished stages: none yet" in shown[1]
    free = [run_cli("show", str(path))[1] for path in (run, tmp_path)]
    assert "give the command of this run again" in free[0]
    assert "not finished; finished stages: none yet" in free[1]


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
