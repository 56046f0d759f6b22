"""Which part of yolo_slim may import which: the order of its layers, and the imports that a tree's sources contain."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "yolo_slim"
LAYERS = (
    (
        "child_process",
        "commit",
        "errors",
        "files",
        "progress",
        "requirements",
        "sensors",
        "system_libraries",
        "version",
    ),
    ("prerequisites",),
    ("machine", "bundle", "build_key"),
    ("backends",),
    ("runtime",),
    ("config",),
    ("models",),
    ("datasets",),
    ("workspace",),
    ("devices",),
    ("measuring",),
    ("verdict",),
    ("history",),
    ("reporting",),
    ("pruning", "training", "export", "quantization"),
    ("stages",),
    ("preparation",),
    ("input_check",),
    ("latency_tables",),
    ("uncut",),
    ("pipeline",),
    ("exploration",),
    ("single_stage",),
    ("sweep",),
    ("comparison", "nightly"),
    ("api",),
    ("example_bundle",),
    ("__init__",),
    ("cli",),
)
"""Modules and packages of yolo_slim, lowest first: a layer imports only itself and layers before it.

docs/adr/0006-order-of-imports.md has the reasons.
"""


@dataclass(frozen=True, kw_only=True)
class Import:
    """One module that another one imports, at the top, in a function or for type checkers alone."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    """Dotted name below the last folder that is called yolo_slim; elsewhere the path itself."""
    parts = path.with_suffix("").parts
    if PACKAGE in parts:
        parts = parts[len(parts) - 1 - parts[::-1].index(PACKAGE) :]
    return ".".join(parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of yolo_slim in one file, those inside functions included."""
    importer, is_package = module_name(path), path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, importer, is_package)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield Import(importer=importer, imported=name, line=node.lineno)


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """Modules among ``known`` that a file imports; ``from yolo_slim.files import sha256`` is yolo_slim.files."""
    found = {_module_in(one.imported, known) for one in imports_of(path)}
    return found - {module_name(path)}


def upward_imports(paths: list[Path]) -> list[Import]:
    """Imports of a later layer, one for each statement."""
    found = [one for path in paths for one in imports_of(path) if _layer(one.imported) > _layer(one.importer)]
    return list({(one.importer, one.line): one for one in reversed(found)}.values())[::-1]


def imports_between_stages(paths: list[Path]) -> list[Import]:
    """Imports of one stage by another; a stage is a module of ``stages/`` that has a function ``run``."""
    stages = {module_name(path) for path in paths if path.parent.name == "stages" and _has_run(path)}
    return [
        one
        for path in paths
        if module_name(path) in stages
        for one in imports_of(path)
        if (imported := _module_in(one.imported, stages)) in stages and imported != one.importer
    ]


def without_layer(paths: list[Path]) -> list[str]:
    """Modules that the list of layers doesn't mention."""
    known = {name for layer in LAYERS for name in layer}
    return sorted({_top(module_name(path)) for path in paths} - known)


def _absolute(node: ast.ImportFrom, importer: str, is_package: bool) -> str:
    """Name of the module that a ``from ... import`` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    parts = importer.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def _module_in(name: str, known: set[str]) -> str:
    """A module of ``known`` by the longest beginning of a dotted name; the package itself if there is none."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def _top(name: str) -> str:
    """The part of yolo_slim that a module belongs to; ``__init__`` for the package itself."""
    return name.split(".")[1] if "." in name else "__init__"


def _layer(name: str) -> int:
    """Position of a module's layer. A name of the package itself (``yolo_slim.prune``) is the package's."""
    top = _top(name)
    positions = {part: index for index, layer in enumerate(LAYERS) for part in layer}
    return positions.get(top, positions["__init__"])


def _has_run(path: Path) -> bool:
    """Whether a file defines a function ``run`` at its top."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in body)
