"""The order of yolo_slim's parts: no import runs back, stages don't know each other, tests know public names alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT
from tests.helpers.layers import (
    LAYERS,
    imported_modules,
    imports_between_stages,
    module_name,
    upward_imports,
    without_layer,
)

SOURCES = sorted((ROOT / "yolo_slim").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
Tree = Callable[..., list[Path]]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a function that writes a small yolo_slim: names of files with ``/`` as ``__``, and their text."""

    def write(**files: str) -> list[Path]:
        paths = []
        for name, text in files.items():
            path = tmp_path / "yolo_slim" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            paths.append(path)
        return paths

    return write


def test_no_import_runs_back() -> None:
    """Every part imports only parts before it, inside functions and for type checkers too."""
    assert [str(one) for one in upward_imports(SOURCES)] == []


def test_stages_do_not_know_each_other() -> None:
    """The order of the stages is the pipeline's alone."""
    assert [str(one) for one in imports_between_stages(SOURCES)] == []


def test_every_part_has_a_place() -> None:
    """Each module and package is in the list of layers once."""
    assert without_layer(SOURCES) == []
    names = [name for layer in LAYERS for name in layer]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "text",
    [
        "from yolo_slim.stages import prune",
        "import yolo_slim.stages.prune",
        "from yolo_slim import stages",
        "from ..stages import prune",
        "def late():\n    from yolo_slim.stages.prune import run",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from yolo_slim.stages.prune import run",
    ],
)
def test_imports_that_run_back_are_found(text: str, tree: Tree) -> None:
    """Negative control: however it is written, and once for each statement."""
    found = upward_imports(tree(pruning__plan=text, stages__prune="from yolo_slim.pruning import plan"))
    assert [(one.importer, one.line) for one in found] == [("yolo_slim.pruning.plan", len(text.splitlines()))]


def test_package_itself_is_late(tree: Tree) -> None:
    """Negative control: the package's own names load the API."""
    (found,) = upward_imports(tree(runtime__nms="from yolo_slim import prune, run"))
    assert str(found) == "yolo_slim.runtime.nms:1 imports yolo_slim.prune"


def test_imports_between_stages_are_found(tree: Tree) -> None:
    """Negative control: what stages share, and what has no ``run``, may be imported."""
    stage, run = "from yolo_slim.stages import context, export", "\ndef run(): ..."
    found = imports_between_stages(
        tree(stages__build=stage + run, stages__export=run, stages__context="", stages__plan=stage)
    )
    assert [str(one) for one in found] == ["yolo_slim.stages.build:1 imports yolo_slim.stages.export"]


def test_unknown_parts_are_found(tree: Tree) -> None:
    """Negative control: a module without a place in the order is named."""
    assert without_layer(tree(errors="", attic="", cellar__box="")) == ["attic", "cellar"]


def test_modules_are_told_from_names(tree: Tree) -> None:
    """What ``from ... import`` names is a module where a file of that name exists, else a name of its module."""
    text = "from yolo_slim import files\nfrom yolo_slim.files import sha256\nfrom yolo_slim.stages import prune, build"
    paths = tree(pipeline=text, files="", stages__prune="", stages__build="", stages____init__="")
    known = {module_name(path) for path in paths}
    assert imported_modules(paths[0], known) == {"yolo_slim.files", "yolo_slim.stages.prune", "yolo_slim.stages.build"}


def foreign_imports(path: Path) -> list[str]:
    """Return what a test takes from other tests, and where it changes the search path of modules."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + ["."] * node.level
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            names = ["sys.path"]
        found += [
            f"{path.name}:{node.lineno} {name}"
            for name in names
            if name in ("sys.path", ".") or (name.startswith("tests.") and not name.startswith("tests.helpers."))
        ]
    return found


def test_tests_share_only_helpers() -> None:
    """What several tests need is in tests/helpers, which pyproject.toml makes importable."""
    assert [found for path in TESTS for found in foreign_imports(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "from tests.test_docs import edit",
        "from tests import conftest",
        "import sys\nsys.path.insert(0, 'x')",
        "from . import a",
    ],
)
def test_foreign_imports_are_found(text: str, tmp_path: Path) -> None:
    """Negative control."""
    path = tmp_path / "test_x.py"
    path.write_text(f"from tests.helpers import tiny_data\n{text}")
    assert len(foreign_imports(path)) == 1


# The test's own object, or torch, whose base class of all convolutions has no public name.
OWN = re.compile(r"(self|cls|super\(\))$|(torch|nn)\.")


def private_names(path: Path) -> list[str]:
    """Return where a test reads, imports or replaces a private name of something other than itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and not OWN.match(ast.unparse(node.value)):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yolo_slim"):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
        else:
            continue
        found += [f"{path.name}:{node.lineno} {name}" for name in names if re.match(r"_[a-zA-Z]", name)]
    return found


def test_tests_use_public_names() -> None:
    """What a test needs of the code has a public name. NVIDIA's stand-ins use their own."""
    assert [found for path in TESTS if "fakes" not in path.parts for found in private_names(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "from yolo_slim.pruning.allocation import _given_back",
        "pipeline._chain(this)",
        "monkeypatch.setattr(block_costs.Meter, '_block', count)",
        "monkeypatch.setattr('yolo_slim.runtime.bench._clock', clock)",
    ],
)
def test_private_names_are_found(text: str, tmp_path: Path) -> None:
    """Negative control; a class's own private attributes are its own business."""
    path = tmp_path / "test_x.py"
    path.write_text(f"class A:\n    def b(self):\n        self._c = self.__class__\n\n{text}")
    assert len(private_names(path)) == 1
