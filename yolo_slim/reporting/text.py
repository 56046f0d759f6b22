"""A validation as plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from yolo_slim.reporting.facts import NOT_MEASURED, is_target, missing_rungs, number, speedup, timing_remark

COLUMNS = 90
LONGEST_CELL = 25


def summary(result: dict[str, Any]) -> str:
    """Return ladder, builds, gates and verdict of a ``result.json``, at most :data:`COLUMNS` wide."""
    data = result["data"]
    parts = [
        *wrapped(f"Accuracy on {data['images']} {data['split']} images of {data['yaml']} ({result['imgsz']} px)"),
        table(["rung", "mAP50-95", "mAP50", "against", "drop", "budget", ""], [_rung(r) for r in result["ladder"]]),
        *wrapped(", ".join(missing_rungs(result)), f"  {NOT_MEASURED}: "),
        "",
        *wrapped(f"Speed, end to end (pre + infer + post), on {result['machine'].get('model', 'this machine')}"),
        *wrapped("" if is_target(result) else f"this is not {result['target']['name']}: speed unproven there", "  "),
        table(
            ["build", "FPS", "x control", "p50 ms", "p99 ms", "MB", "mAP50-95", ""],
            [_build(b, result) for b in result["builds"]],
        ),
        *[line for b in result["builds"] for line in wrapped(timing_remark(b), f"  {b['name']}: ")],
        "",
        "Gates",
        table(["gate", "limit", "measured", "unit", ""], [_gate(gate) for gate in result["verdict"]["gates"]]),
        *[line for g in result["verdict"]["gates"] for line in wrapped(g["reason"], f"  {g['name']}: ")],
        *[line for note in result["notes"] for line in wrapped(note, "Note: ")],
        "",
        f"VERDICT: {result['verdict']['status']}",
    ]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns, the first to the left and the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = [
            row[0].ljust(widths[0]),
            *[cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)],
        ]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def wrapped(text: str, prefix: str = "") -> list[str]:
    """Return the lines of a text within the width, none for an empty one."""
    if not text:
        return []
    return textwrap.wrap(text, COLUMNS, initial_indent=prefix, subsequent_indent="    ", break_on_hyphens=False)


def _short(text: str) -> str:
    """Return a table cell that can't push its row beyond the width."""
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."


def _rung(rung: dict[str, Any]) -> list[str]:
    return [
        _short(rung["rung"]),
        number(rung["map50_95"]),
        number(rung["map50"]),
        _short(rung["against"] or "-"),
        number(rung["drop"], "+.4f", "-" if rung["against"] is None else "unproven"),
        number(rung["budget"], ".4f", "-"),
        "" if rung["status"] == "info" else rung["status"],
    ]


def _build(build: dict[str, Any], result: dict[str, Any]) -> list[str]:
    timing, gain = build["bench"], speedup(build, result)
    total = timing["stages"]["total"] if timing else {}
    mark = "<- best" if build["winner"] else ""
    return [
        _short(build["name"]),
        number(timing["fps"] if timing else None, ".1f", "unproven"),
        number(gain["ratio"] if gain else None, ".2f", "-"),
        number(total.get("p50_ms"), ".2f", "unproven"),
        number(total.get("p99_ms"), ".2f", "unproven"),
        number(build["size_mb"], ".2f", "unproven"),
        number(build["map50_95"], ".4f", "unproven"),
        mark if not timing or timing["valid"] else "invalid",
    ]


def _gate(gate: dict[str, Any]) -> list[str]:
    value = number(gate["value"], ".4g", "unproven")
    return [_short(gate["name"]), number(gate["limit"], ".4g"), value, gate["unit"], gate["status"]]
