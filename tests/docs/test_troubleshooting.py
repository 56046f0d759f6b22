"""The page of troubleshooting has what error messages lead to."""

from __future__ import annotations

import ast
import re

import pytest

from tests.helpers.constants import ROOT
from tests.helpers.markdown import anchors
from yolo_slim.errors import TROUBLESHOOTING, SlimError

PAGE = (ROOT / TROUBLESHOOTING).read_text(encoding="utf-8")


def topics() -> dict[str, str]:
    """Collect every topic that the sources give an error, with the file of one that does."""
    found = {}
    for path in sorted((ROOT / "yolo_slim").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "topic" and isinstance(node.value, ast.Constant):
                found[str(node.value.value)] = path.name
    return found


@pytest.mark.parametrize("topic", topics().items(), ids=lambda item: item[0])
def test_every_topic_has_a_section(topic: tuple[str, str]) -> None:
    """What an error prints as its anchor is a heading of the page."""
    assert topic[0] in anchors(PAGE), f"{topic[1]} leads to a section that isn't there"


IN_MS = ("latency_tables", "stages/latency_choice", "stages/prune_latency", "pruning/latency_limits")
"""Modules of a cut to milliseconds."""


def without_topic(text: str) -> list[int]:
    """Lines at which an error is made that leads to no section."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    made = [one for one in calls if ast.unparse(one.func) in ("SlimError", "Unreachable", "MachineError")]
    return [one.lineno for one in made if "topic" not in [keyword.arg for keyword in one.keywords]]


@pytest.mark.parametrize("name", IN_MS)
def test_errors_of_a_cut_to_milliseconds_have_a_section(name: str) -> None:
    """Each of them leads to the page."""
    text = (ROOT / "yolo_slim" / f"{name}.py").read_text(encoding="utf-8")
    assert "topic=" in text
    assert without_topic(text) == []


def test_an_error_without_a_section_is_found() -> None:
    """Negative control."""
    assert without_topic('raise SlimError("A fact.", topic="a")\nraise Unreachable("A fact.", remedy="b")') == [2]


def test_the_page_is_by_symptom() -> None:
    """It has at least 25 symptoms, each with something to do."""
    sections = re.split(r"^### .*$", PAGE, flags=re.MULTILINE)[1:]
    assert len(sections) >= 25
    assert all(len(section.split()) > 8 for section in sections)
    assert len(topics()) >= 25


def test_an_error_prints_where_it_is_explained() -> None:
    """The last line names page and section; an error without a topic has no such line."""
    error = SlimError("A fact.", culprits=["one"], remedy="Do this.", topic="the-disk-is-full")
    assert str(error).splitlines() == ["A fact.", "  - one", "Do this.", f"More: {TROUBLESHOOTING}#the-disk-is-full"]
    assert "More" not in str(SlimError("A fact.", remedy="Do this."))
