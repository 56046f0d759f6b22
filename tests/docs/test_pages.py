"""Pages as a reader takes them: links lead somewhere, commands are understood, sentences are short."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from scripts.reading import sentences, words
from tests.helpers.constants import ROOT
from tests.helpers.markdown import PAGES, anchors, blocks, broken
from yolo_slim.config.run import RunConfig
from yolo_slim.runtime.__main__ import main as runtime

README = ROOT / "README.md"
EASY = [README, ROOT / "docs/getting-started.md"]
LONGEST_SENTENCE = 35
"""Words, in the pages that everybody reads first."""


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
    assert broken(README, f"# Here\n\n    code\n\n```\ncode\n```\n\nSee [this]({link}).\n") == [link]
    assert not broken(README, "# Here\n\nSee [this](#here) and `[code](gone.md)`.\n\n    [more](gone.md)\n")


def test_anchors_are_those_of_a_code_host() -> None:
    """Marks vanish, blanks become hyphens, a repeated heading is numbered."""
    assert anchors("# A `b.` (c's)\n\n## Twice\n\n## Twice\n") == {"a-b-cs", "twice", "twice-1"}


@pytest.mark.parametrize("page", EASY, ids=name_of)
def test_first_pages_have_short_sentences(page: Path) -> None:
    """No sentence of README and getting started has more than 35 words."""
    found = sentences(page.read_text(encoding="utf-8"))
    assert len(found) > 20
    assert [sentence for sentence in found if len(words(sentence)) > LONGEST_SENTENCE] == []


def test_long_sentences_are_found() -> None:
    """Negative control: a long sentence in a list counts; code and tables don't."""
    long = "word " * 36 + "end."
    assert [len(words(one)) for one in sentences(f"A start.\n\n- {long}\n\n    {long}\n\n| {long} |\n")] == [2, 37]


def test_readme_is_short() -> None:
    """The front page has at most 130 lines."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


def commands(start: str) -> list[str]:
    """Collect the commands of all pages' blocks that begin so, without those with blanks to fill in."""
    found = set()
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.split(r"\s{2,}|\s#|;| && ", line.removeprefix("$ "))[0].strip()
                if command.startswith(start) and not re.search(r"[|\[<]|\.\.\.", command):
                    found.add(command)
    return sorted(found)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("command", commands("make "))
def test_make_knows_what_is_documented(command: str) -> None:
    """The goal exists, and every variable is one that the Makefile reads."""
    goal, *variables = shlex.split(command)[1:]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    done = subprocess.run(["make", "-n", goal], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for variable in variables:
        assert f"$({variable.partition('=')[0]})" in makefile


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_are_python_or_settings(page: Path) -> None:
    """A block that begins like Python is Python; one that begins as a file of settings has only known keys."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if re.match(r"(import|from) \w+", block):
            ast.parse(block)
        if block.startswith("# slim.yaml"):
            RunConfig.model_validate({"model": "best.pt", "data": "data.yaml", **yaml.safe_load(block)})
