"""Print how the code reads, in figures beside their aims: lengths, parameters, comments, imports, untyped signatures.

    python -m scripts.texture                                # yolo_slim
    python -m scripts.texture --worst 10 yolo_slim/runtime   # the ten worst places of each figure in these files

A function's length is that of its body in lines, without its docstring and its signature; "in all" counts these too.
A function inside another one counts on its own as well. Parameters are counted without ``self`` and ``cls``. Lines of
code are those that are neither empty nor comment nor docstring; comments to ruff and mypy don't count as comments.
"""

from __future__ import annotations

import argparse
import ast
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.constants import ROOT
from tests.helpers.layers import (
    imported_modules,
    imports_between_stages,
    module_name,
    upward_imports,
)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PRAGMA = re.compile(r"#\s*(noqa|type:|fmt:|ruff:|mypy:|pragma)")
UNTYPED = re.compile(r"\b(dict|Mapping)\[str, Any\]")
MAX_FILE = 400
MAX_IMPORTS = 12


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function or method."""

    where: str
    """``path:line name``."""
    length: int
    """Lines of its body, without the docstring."""
    in_all: int
    """Lines from its ``def`` to its end."""
    parameters: int
    untyped: bool
    """Whether the signature contains ``dict[str, Any]`` or ``Mapping[str, Any]``."""


@dataclass(frozen=True, kw_only=True)
class Module:
    """One file."""

    path: Path
    lines: int
    code: int
    comments: int
    docstring_lines: int
    docstrings: tuple[str, ...]
    functions: tuple[Function, ...]
    imports: int
    """How many other modules of yolo_slim it imports."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured property of all files."""

    name: str
    value: float
    low: float = 0
    high: float = float("inf")
    """The aim: ``low <= value <= high``."""
    unit: str = ""
    worst: Sequence[tuple[float, str]] = ()
    """Places with their own values, the worst first."""

    @property
    def is_met(self) -> bool:
        """Whether the aim is reached."""
        return self.low <= self.value <= self.high

    def row(self) -> str:
        """The figure as a line of text."""
        value = f"{self.value:.1f}" if self.unit else f"{self.value:g}"
        aim = f"{self.low:g} to {self.high:g}" if self.low else f"at most {self.high:g}"
        verdict = ("" if self.is_met else "  MISSED") if self.high < float("inf") else ""
        aim = f"{aim}{self.unit}" if self.high < float("inf") else "none"
        return f"{self.name:<52}{value + self.unit:>10}   aim: {aim}{verdict}"


def python_files(paths: Sequence[Path]) -> list[Path]:
    """All Python files among files and folders."""
    return sorted({file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))})


def measure(path: Path, known: set[str]) -> Module:
    """Measure one file; ``known`` are the modules that count as imported ones."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS) and ast.get_docstring(node)]
    inside = {line for node in documented for line in _lines_of(node.body[0])}
    comments = {line for line, comment in _comments(path) if not PRAGMA.match(comment)}
    alone = {line for line, _ in _comments(path) if text.splitlines()[line - 1].lstrip().startswith("#")}
    filled = {number for number, line in enumerate(text.splitlines(), start=1) if line.strip()}
    return Module(
        path=path,
        lines=len(text.splitlines()),
        code=len(filled - inside - alone),
        comments=len(comments),
        docstring_lines=len(filled & inside),
        docstrings=tuple(ast.get_docstring(node) or "" for node in documented),
        functions=tuple(_function(node, path) for node in ast.walk(tree) if isinstance(node, FunctionNode)),
        imports=len(imported_modules(path, known)),
    )


def _function(node: FunctionNode, path: Path) -> Function:
    """Measure one function."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    arguments = [*named, *(extra for extra in (given.vararg, given.kwarg) if extra)]
    annotations = [argument.annotation for argument in arguments] + [node.returns]
    return Function(
        where=f"{path}:{node.lineno} {node.name}",
        length=(body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0,
        in_all=(node.end_lineno or node.lineno) - node.lineno + 1,
        parameters=sum(argument.arg not in ("self", "cls") for argument in arguments),
        untyped=any(UNTYPED.search(ast.unparse(annotation)) for annotation in annotations if annotation),
    )


def _comments(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every comment."""
    with tokenize.open(path) as stream:
        for token in tokenize.generate_tokens(stream.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def _lines_of(node: ast.stmt) -> range:
    """The lines that a statement covers."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values doesn't exceed; 0 for no values."""
    ordered = sorted(values)
    return next((value for i, value in enumerate(ordered, start=1) if i >= share * len(ordered)), 0)


def figures(paths: Sequence[Path]) -> list[Figure]:
    """Measure the files of all paths; each figure has its aim."""
    files = python_files(paths)
    known = {module_name(path) for path in files + python_files([ROOT / "yolo_slim"])}
    modules = [measure(path, known) for path in files]
    functions = [function for module in modules for function in module.functions]
    return [
        *_lengths(functions),
        *_words(modules),
        *_modules(modules),
        Figure(
            name="signatures with dict[str, Any] or Mapping[str, Any]",
            value=sum(function.untyped for function in functions),
            high=40,
            worst=[(1, function.where) for function in functions if function.untyped],
        ),
        *_directions(files),
    ]


def _lengths(functions: Sequence[Function]) -> list[Figure]:
    """How long functions are, and how many parameters they have."""

    def worst(value: Callable[[Function], float]) -> list[tuple[float, str]]:
        return sorted(((value(function), function.where) for function in functions), key=lambda one: -one[0])

    lengths, counts = worst(lambda function: function.length), worst(lambda function: function.parameters)
    rows, parameters = [value for value, _ in lengths], [value for value, _ in counts]
    whole = [function.in_all for function in functions]
    return [
        Figure(name="functions", value=len(functions)),
        Figure(name="function length in lines, median", value=percentile(rows, 0.5), high=8),
        Figure(name="function length in lines, 95 % of functions", value=percentile(rows, 0.95), high=30),
        Figure(name="function length in lines, longest", value=max(rows, default=0), high=60, worst=lengths),
        Figure(name="function length in all, median", value=percentile(whole, 0.5)),
        Figure(name="function length in all, 95 % of functions", value=percentile(whole, 0.95)),
        Figure(name="parameters, 95 % of functions", value=percentile(parameters, 0.95), high=5),
        Figure(name="parameters, most", value=max(parameters, default=0), high=8, worst=counts),
    ]


def _words(modules: Sequence[Module]) -> list[Figure]:
    """How much is said in comments and docstrings."""
    code, comments = (sum(getattr(module, key) for module in modules) for key in ("code", "comments"))
    lines = sum(module.docstring_lines for module in modules)
    shares = [(100 * module.comments / module.code, str(module.path)) for module in modules if module.code]
    returning = [
        (1, f"{module.path}: {text.splitlines()[0]}")
        for module in modules
        for text in module.docstrings
        if text.startswith("Return")
    ]
    share = 100 * comments / max(code, 1)
    return [
        Figure(name="comments, share of code lines", value=share, low=3, high=6, unit=" %", worst=sorted(shares)),
        Figure(name="docstrings, share of filled lines", value=100 * lines / max(code + lines, 1), unit=" %"),
        Figure(name='docstrings that begin with "Return"', value=len(returning), worst=returning),
    ]


def _modules(modules: Sequence[Module]) -> list[Figure]:
    """How long files are, and how many others they import."""
    imports = sorted(((module.imports, str(module.path)) for module in modules), key=lambda one: -one[0])
    long = sorted(((m.lines, str(m.path)) for m in modules if m.lines > MAX_FILE), key=lambda one: -one[0])
    return [
        Figure(
            name="modules of yolo_slim that one module imports",
            value=max((value for value, _ in imports), default=0),
            high=MAX_IMPORTS,
            worst=imports,
        ),
        Figure(name=f"files over {MAX_FILE} lines", value=len(long), high=0, worst=long),
    ]


def _directions(files: list[Path]) -> list[Figure]:
    """Imports that run against the order of the layers."""
    upward, across = upward_imports(files), imports_between_stages(files)
    return [
        Figure(name="imports of a later layer", value=len(upward), high=0, worst=[(1, str(one)) for one in upward]),
        Figure(name="imports between stages", value=len(across), high=0, worst=[(1, str(one)) for one in across]),
    ]


def report(found: Sequence[Figure], worst: int) -> str:
    """All figures as text, each followed by its worst places."""
    lines = []
    for figure in found:
        lines.append(figure.row())
        # The five modules that import most are always of interest: the aim is about the largest one.
        shown = max(worst, 5) if figure.high == MAX_IMPORTS else worst
        lines += [f"    {value:g}  {place}" for value, place in figure.worst[:shown]]
    return "\n".join(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("yolo_slim")])
    parser.add_argument("--worst", type=int, default=0, help="places to list under each figure")
    options = parser.parse_args()
    print(report(figures(options.paths), options.worst))


if __name__ == "__main__":
    main()
