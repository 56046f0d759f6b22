"""The script that measures how the code reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.texture import Figure, figures, percentile, report
from tests.helpers.constants import ROOT

TWO_FUNCTIONS = '''"""A module."""

from typing import Any

from yolo_slim import files
from yolo_slim.errors import SlimError
from yolo_slim.stages import prune


class Box:
    """Return: not a function's docstring, but one that begins so."""

    def area(self, scale: float, *more: float, **others: Any) -> dict[str, Any]:
        """Return the area.

        Of four lines, which don't count.
        """
        # The scale is squared, because
        # an area has two sides.
        found = {

            "area": scale * scale,  # a trailing comment
        }
        return found  # type: ignore[no-any-return]


def empty() -> None:
    """Do nothing."""
'''


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Figure]:
    """Return the figures of a tree of four small files by name."""
    for name, text in {
        "runtime/box.py": TWO_FUNCTIONS,
        "files.py": "\n".join(f"a{i} = {i}" for i in range(401)) + "\n",
        "stages/prune.py": "from yolo_slim.stages import export\n\n\ndef run(): ...\n",
        "stages/export.py": "def run(config: 'Mapping[str, Any]', *, seed=0):\n    return config\n",
    }.items():
        path = tmp_path / "yolo_slim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {figure.name: figure for figure in figures([tmp_path / "yolo_slim"])}


@pytest.mark.parametrize(
    ("name", "value", "is_met"),
    [
        ("functions", 4, True),
        ("function length in lines, median", 1, True),
        ("function length in lines, longest", 5, True),
        ("function length in all, 95 % of functions", 12, True),
        ("parameters, most", 3, True),
        ('docstrings that begin with "Return"', 2, True),
        ("modules of yolo_slim that one module imports", 3, True),
        ("files over 400 lines", 1, False),
        ("signatures with dict[str, Any] or Mapping[str, Any]", 2, True),
        ("imports of a later layer", 1, False),
        ("imports between stages", 1, False),
    ],
)
def test_figures(name: str, value: float, is_met: bool, found: dict[str, Figure]) -> None:
    """Each figure of the small tree is what one counts by hand."""
    assert (found[name].value, found[name].is_met) == (value, is_met)


def test_shares(found: dict[str, Figure]) -> None:
    """Comments to tools are no comments; docstrings and comments are no code."""
    code = 3 + 1 + 401 + 1 + 1 + 1 + 2 + 6
    assert found["comments, share of code lines"].value == pytest.approx(100 * 3 / code)
    docstrings = 1 + 1 + 3 + 1
    share = 100 * docstrings / (code + docstrings)
    assert found["docstrings, share of filled lines"].value == pytest.approx(share)


def test_percentile() -> None:
    """It is a value that occurs: the smallest that enough values don't exceed."""
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile(range(1, 101), 0.95) == 95
    assert percentile([7], 0.95) == 7
    assert percentile([], 0.5) == 0


def test_report(found: dict[str, Figure]) -> None:
    """A missed aim is said so; the worst places are listed where they are asked for."""
    missed = [found["files over 400 lines"]]
    assert report(missed, worst=0).split() == [
        "files",
        "over",
        "400",
        "lines",
        "1",
        "aim:",
        "at",
        "most",
        "0",
        "MISSED",
    ]
    assert "yolo_slim/files.py" in report(missed, worst=1).splitlines()[1]


def test_command() -> None:
    """The script runs from the repository's root on files and folders."""
    command = [
        sys.executable,
        "-m",
        "scripts.texture",
        "--worst",
        "1",
        "yolo_slim/runtime/nms.py",
        "yolo_slim/errors.py",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("functions ")
    assert "errors.py:" in done.stdout or "nms.py:" in done.stdout
