"""What a command prints, and its exit code."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
import yaml

# 2 is missing: it means bad input, as in click.
VERDICT_EXIT = {"pass": 0, "fail": 1, "unproven": 3}


def answer(values: Mapping[str, object], *, as_json: bool, text: str = "") -> None:
    """Print an answer as JSON, or as text (by default one ``key: value`` a line)."""
    if as_json:
        click.echo(json.dumps(values, indent=2, default=str))
    else:
        click.echo(text or "\n".join(f"{key}: {value}" for key, value in values.items() if value is not None))


def as_yaml(values: Mapping[str, object]) -> str:
    """Nested values for people: YAML, whose short lists and mappings take one line."""
    # safe_dump refuses paths and other objects; JSON turns them into text.
    plain = json.loads(json.dumps(values, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None).rstrip()


def in_columns(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what they mean, one a line."""
    lines = list(rows)
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def judged(verdict: str, result: Path, paths: Mapping[str, object], *, as_json: bool) -> None:
    """Print summary, paths and verdict; exit with the verdict's code."""
    from yolo_slim.reporting.text import summary
    from yolo_slim.verdict.result import Result

    bundle = paths["bundle"] or "none; no build is inside the accuracy budget"
    shown = "" if as_json else f"{summary(Result.load(result))}\nbundle: {bundle}\nreport: {paths['report']}"
    answer(paths, as_json=as_json, text=shown)
    sys.exit(VERDICT_EXIT[verdict])


def command_line() -> str:
    """The command as it was given, for the record."""
    return shlex.join(["yolo-slim", *sys.argv[1:]])
