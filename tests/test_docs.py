"""The documentation as a user takes it: programs understand its commands, and what is generated is up to date."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import click
import pytest
from click.core import ParameterSource
from pydantic import BaseModel, Field

from tests.helpers.constants import ROOT
from yolo_slim.cli import cli
from yolo_slim.config.commands import CompareConfig
from yolo_slim.config.declaration import settings_in
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import RunConfig

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "datasets").glob("*.md"))]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.py")), ROOT / "tests/helpers/trt_contract.py"]


class ParsedError(Exception):
    """A script has understood its arguments and would begin to work."""


def shown_commands(path: Path, start: str) -> Iterator[str]:
    """Yield the commands of a file's indented lines, continued ones joined, but for those with blanks to fill in."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    for line in re.findall(rf"^    (?:taskset -c \d |\$ )?({re.escape(start)}.*)$", text, re.MULTILINE):
        command = re.split(r"\s{2,}|\s#", line)[0]
        if not re.search(r"[|\[]|\.\.\.", command):
            yield command.replace("$C", "--model best.pt --data data.yaml --epochs 10")


def script_commands() -> list[str]:
    """Return the commands of all scripts, in pages and in their own docstrings."""
    starts = ("python scripts/", "python -m scripts.", "python -m tests.")
    return sorted({c for path in [*PAGES, *SCRIPTS] for start in starts for c in shown_commands(path, start)})


def tool_commands() -> list[str]:
    """Return the commands of the command line."""
    return sorted({command for path in PAGES for command in shown_commands(path, "yolo-slim ")})


def parse_as_script(command: str, patch: pytest.MonkeyPatch) -> None:
    """Let a script read a command's arguments, and no more.

    Raises:
        ParsedError: it understood them.
        SystemExit: it didn't.
    """
    original = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any) -> NoReturn:
        original(self, *given)
        raise ParsedError

    _, script, *arguments = shlex.split(command)
    if script == "-m":
        script = arguments.pop(0).replace(".", "/") + ".py"
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, module)
    patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    patch.setattr(sys, "argv", [script, *arguments])
    spec.loader.exec_module(module)
    module.main()


def parse_as_tool(command: str) -> set[str]:
    """Let the command line read a command's arguments, and no more; return the options and arguments it was given.

    Raises:
        click.UsageError: it doesn't understand them.
    """
    found: click.Command = cli
    arguments = shlex.split(command)[1:]
    while isinstance(found, click.Group):
        _, command_found, arguments = found.resolve_command(click.Context(found), arguments)
        assert command_found is not None
        found = command_found
    context = found.make_context(found.name, arguments)
    given = [p for p in found.params if context.get_parameter_source(p.name or "") is ParameterSource.COMMANDLINE]
    return {name for parameter in given for name in parameter.opts}


@pytest.mark.parametrize("command", script_commands())
def test_scripts_understand_what_is_documented(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each documented call of a script passes its own parser."""
    with pytest.raises(ParsedError):
        parse_as_script(command, monkeypatch)


def test_a_call_that_a_script_does_not_understand_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that takes several values swallows the models behind it."""
    with pytest.raises(SystemExit):
        parse_as_script("python scripts/bench_grid.py criteria --data d.yaml --shares .3 best.pt", monkeypatch)


@pytest.mark.parametrize("command", tool_commands())
def test_the_command_line_understands_what_is_documented(command: str) -> None:
    """Each documented call of yolo-slim passes its parser."""
    options = {word for word in shlex.split(command) if word.startswith("--")}
    assert options <= parse_as_tool(command)


@pytest.mark.parametrize("command", ["yolo-slim run --modle best.pt", "yolo-slim squeeze best.pt"])
def test_a_call_that_the_command_line_does_not_understand_is_found(command: str) -> None:
    """Options and commands that don't exist fail."""
    with pytest.raises(click.UsageError):
        parse_as_tool(command)


def load_generator() -> ModuleType:
    """Import scripts/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "scripts/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = load_generator().generated()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path: Path) -> None:
    """What follows from the settings says what their fields say; `make generate` writes it."""
    assert path.read_text(encoding="utf-8") == GENERATED[path]


def test_configuration_page_has_every_key() -> None:
    """Keys of sections, and of lists in sections, have a row with type, default, option and meaning."""
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert "| `macs_removed` | number, > 0, < 1 | `0.5` | `--prune` | Fraction of the multiply-accumulates" in page
    assert "| `imgsz` | integer, > 0 | the target's | `--imgsz` | Input side" in page
    for kind in (RunConfig, CompareConfig, Profile):
        for setting in settings_in(kind):
            assert f"\n| `{setting.key.split('.')[-1]}` | " in page
            assert setting.help, f"{setting.key} has no docstring"
    for heading in ("`validate.`", "`runtimes[]`", "`jetson.jetpacks[]`"):
        assert f"\n## {heading}\n" in page


class Rung(BaseModel):
    """One entry."""

    map50: float = Field(description="Accuracy, see docs/result.md.")


@dataclass(frozen=True)
class Base:
    """What is inherited."""

    name: str
    """Of the run."""


@dataclass(frozen=True)
class Ladder(Base):
    """The ``mAP`` after every stage."""

    rungs: tuple[Rung, ...]
    """Entries."""
    best: Rung | None = None
    by_class: Mapping[str, float] = field(default_factory=dict)


def test_a_page_of_any_class() -> None:
    """Dataclasses and other models get a page the same way; a class in two places has one section."""
    assert load_generator().page_of(Ladder, "Ladder").splitlines() == [
        "## Ladder", "", "The `mAP` after every stage.", "",
        "| key | type | default | meaning |", "| --- | --- | --- | --- |",
        "| `name` | text |  | Of the run. |",
        "| `rungs` | list of section |  | Entries. |",
        "| `best` | section | none | One entry. |",
        "| `by_class` | mapping of text to number | `{}` |  |", "",
        "## `rungs[]`, `best.`", "", "One entry.", "",
        "| key | type | meaning |", "| --- | --- | --- |",
        "| `map50` | number | Accuracy, see [result.md](result.md). |",
    ]  # fmt: skip
