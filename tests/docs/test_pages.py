"""Pages as a reader takes them: links lead somewhere, commands are understood, sentences are short."""

from __future__ import annotations

import argparse
import ast
import builtins
import inspect
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from pydantic import ValidationError

from scripts.reading import sentences, words
from tests.helpers.constants import ROOT
from tests.helpers.markdown import PAGES, anchors, blocks, broken, commands
from tests.helpers.results import changed, complete_result, unproven_result
from yolo_slim.cli.answer import judged
from yolo_slim.config.commands import TAKES
from yolo_slim.config.run import RunConfig
from yolo_slim.runtime.__main__ import main as runtime

README = ROOT / "README.md"
EASY = [README, ROOT / "docs/getting-started.md"]
LONGEST_SENTENCE = 40
"""Words."""
LONGEST_EASY = 35
"""Words, in the pages that everybody reads first."""
HARDEST = 3
"""Pages that docs/contributing.md names, because they are the hardest to read."""


def name_of(page: Path) -> str:
    """Name a page in a test's id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Files, pictures and headings that a page links to are there."""
    assert not broken(page, page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("link", ["gone.md", "README.md#no-such-heading", "#nowhere", "docs/images/gone.png"])
def test_a_broken_link_is_found(link: str) -> None:
    """Negative control: a file, a heading elsewhere, a heading here and a picture that don't exist."""
    assert broken(README, f"# Here\n\nSee [this]({link}).\n") == [link]
    assert broken(README, f'# Here\n\nSee <a href="{link}">this</a>.\n') == [link]
    assert broken(README, f"# Here\n\n    code\n\n```\ncode\n```\n\nSee [this]({link}).\n") == [link]
    assert not broken(README, "# Here\n\nSee [this](#here) and `[code](gone.md)`.\n\n    [more](gone.md)\n")


def test_anchors_are_those_of_a_code_host() -> None:
    """Marks vanish, blanks become hyphens, a repeated heading is numbered."""
    assert anchors("# A `b.` (c's)\n\n## Twice\n\n## Twice\n") == {"a-b-cs", "twice", "twice-1"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_have_short_sentences(page: Path) -> None:
    """No sentence has more than 40 words; none of README and getting started more than 35."""
    found = sentences(page.read_text(encoding="utf-8"))
    assert found or page not in EASY
    longest = LONGEST_EASY if page in EASY else LONGEST_SENTENCE
    assert [sentence for sentence in found if len(words(sentence)) > longest] == []


def test_hardest_pages_are_named() -> None:
    """The page for contributors names those with the lowest reading ease in the record, the hardest first."""
    record = json.loads((ROOT / "docs/benchmarks/records/reading.json").read_text(encoding="utf-8"))
    ordered = sorted(record["pages"], key=lambda page: float(page["reading_ease"]))
    hardest = [page["page"].removeprefix("docs/") for page in ordered[:HARDEST]]
    text = (ROOT / "docs/contributing.md").read_text(encoding="utf-8").partition("hardest to read")[2]
    assert re.findall(r"\]\(([^)]+)\)", text)[:HARDEST] == hardest


def test_long_sentences_are_found() -> None:
    """Negative control: a long sentence in a list counts; code and tables don't."""
    long = "word " * 36 + "end."
    assert [len(words(one)) for one in sentences(f"A start.\n\n- {long}\n\n    {long}\n\n| {long} |\n")] == [2, 37]


def test_readme_is_short() -> None:
    """The front page has at most 130 lines."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("command", commands("make "))
def test_make_knows_what_is_documented(command: str) -> None:
    """The goal exists, and its commands contain the value of every variable."""
    goal, *variables = shlex.split(command)[1:]
    given = [f"{one.partition('=')[0]}=sentinel" for one in variables]
    done = subprocess.run(["make", "-nB", goal, *given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sentinel") >= len(given), "a variable that this goal doesn't read"


class ParsedError(Exception):
    """The arguments were understood."""


@pytest.mark.parametrize("command", commands("python -m yolo_slim.runtime "))
def test_the_device_understands_what_is_documented(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each documented call of the runtime passes its parser."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *given: Any) -> NoReturn:
        parse(self, *given)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(ParsedError):
        runtime(shlex.split(command)[3:])


def test_calls_that_the_device_does_not_understand_are_found() -> None:
    """Negative control: an option that doesn't exist ends with code 2."""
    with pytest.raises(SystemExit) as ended:
        runtime(["bench", "ncnn-fp16", "--minuets", "10"])
    assert ended.value.code == 2


BLOCKS = [(name_of(page), block) for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
PYTHON = [one for one in BLOCKS if re.match(r"(import|from) \w+", one[1])]
SETTINGS = [one for one in BLOCKS if one[1].startswith("# slim.yaml")]


def check_python(block: str) -> list[str]:
    """Run the imports; names must be known, attributes of modules exist, arguments fit. What was looked at."""
    looked_at = []
    tree = ast.parse(block)
    imports = [one for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(imports, []), "snippet", "exec"), names)
    stored = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    for one in ast.walk(tree):
        if isinstance(one, ast.Name):
            assert one.id in {*names, *dir(builtins), *stored}, one.id
            looked_at.append(one.id)
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id in names:
            assert hasattr(names[one.value.id], one.attr), one.attr
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and isinstance(one.func.value, ast.Name):
            check_call(names.get(one.func.value.id), one.func.attr, one)
    return [*looked_at, *names.keys() - {"__builtins__"}]


def check_call(owner: Any, name: str, call: ast.Call) -> None:
    """A call of an imported module's function has arguments that it takes; its options are those of the settings."""
    if owner is None:
        return
    assert hasattr(owner, name), name
    given = {key.arg: None for key in call.keywords if key.arg}
    signature = inspect.signature(getattr(owner, name))
    signature.bind(*call.args, **given)
    if any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values()):
        unknown = given.keys() - signature.parameters.keys() - set(TAKES[name].settings)
        assert not unknown, unknown


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_python_of_the_pages(page: str, block: str) -> None:
    """Its imports work; names, attributes and arguments exist."""
    del page  # names the case
    assert check_python(block)


@pytest.mark.parametrize(("page", "block"), SETTINGS)
def test_settings_of_the_pages(page: str, block: str) -> None:
    """Every key is known."""
    del page  # names the case
    given = yaml.safe_load(block)
    found = RunConfig.model_validate({"model": "best.pt", "data": "data.yaml", **given})
    # `validate` is the alias of `validate_`.
    assert given.keys() <= {name.rstrip("_") for name in found.model_fields_set}


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("import yolo_slim\nyolo_slim.rum('best.pt')", AssertionError),
        ("import yolo_slim\nyolo_slim.run(best, data)", AssertionError),
        ("import yolo_slim\nyolo_slim.run('best.pt', 'data.yaml', epoch=3)", AssertionError),
        ("from yolo_slim.stages import quantize\nquantize.QuantizeInputs(onnx=1, data=2)", TypeError),
        ("import yolo_slim.nothing", ModuleNotFoundError),
    ],
)
def test_wrong_python_is_found(block: str, error: type[Exception]) -> None:
    """Negative control: a function, a name, an option, an argument and a module that don't exist."""
    with pytest.raises(error):
        check_python(block)


def test_getting_started_shows_what_a_run_prints(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its example has the heads, marks and names of lines that a run prints, and fits a terminal of 80 by 24."""
    notes = ("one that has room", "one that has none " * 40)
    result = changed(complete_result(), verdict=unproven_result().verdict, notes=notes)
    result.save(tmp_path / "result.json")
    paths = {"bundle": "slim.tar.gz", "report": "report.html"}
    with pytest.raises(SystemExit, match="3"):
        judged("unproven", tmp_path / "result.json", paths, as_json=False)
    printed = kinds_of_lines(capsys.readouterr().out)
    (block,) = [one for one in blocks(EASY[1].read_text(encoding="utf-8")) if one.startswith("Accuracy on")]
    shown = kinds_of_lines(block)
    assert shown <= printed
    assert {"<- winner", "Won:", "Proven:", "Next:", "bundle:", "report:"} <= shown
    assert len(block.splitlines()) <= 24 - 1, "the next prompt needs a line"
    assert max(map(len, block.splitlines())) <= 80


def kinds_of_lines(text: str) -> set[str]:
    """The heads of tables, the marks and the names of lines in a summary, without figures."""
    lines = text.splitlines()
    heads = {" ".join(line.split()) for line in lines if re.match(r"  (rung|build) ", line)}
    marks = {"<-" + line.partition("<-")[2] for line in lines if "<-" in line}
    return heads | marks | {line.split()[0] for line in lines if re.match(r"[A-Za-z]+: ", line)}


def test_snippets_and_commands_are_found() -> None:
    """The pages have snippets, settings and commands at all: an empty list would make no test."""
    assert len(PYTHON) >= 3
    assert SETTINGS
    assert len(commands("make ")) > 10
    assert len(commands("python -m yolo_slim.runtime ")) > 10


def test_wrong_settings_are_found() -> None:
    """Negative control: a key that doesn't exist."""
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"model": "best.pt", "data": "data.yaml", "prune": {"macs_remove": 0.5}})
