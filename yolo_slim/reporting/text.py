"""A validation as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def summary(result: dict[str, Any]) -> str:
    """Return ladder, builds, gates and verdict of a ``result.json``, at most 90 columns wide."""
    data = result["data"]
    parts = [
        f"Accuracy on {data['images']} {data['split']} images of {data['yaml']} ({result['imgsz']} px)",
        table(["rung", "mAP50-95", "mAP50", "drop", "budget", ""], [_rung(rung) for rung in result["ladder"]]),
        "Speed, end to end (pre + infer + post), and size",
        table(["build", "FPS", "p50 ms", "p99 ms", "MB", "mAP50-95", ""], [_build(b) for b in result["builds"]]),
        "Gates",
        table(["gate", "limit", "measured", "", ""], [_gate(gate) for gate in result["verdict"]["gates"]]),
        *[f"Note: {note}" for note in result["notes"]],
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
        lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines)


def number(value: float | None, pattern: str = ".3f", missing: str = "-") -> str:
    """Return a formatted number, or what stands for a missing one."""
    return missing if value is None else format(value, pattern)


def _rung(rung: dict[str, Any]) -> list[str]:
    status = "" if rung["status"] == "info" else rung["status"]
    return [
        rung["rung"],
        number(rung["map50_95"]),
        number(rung["map50"]),
        number(rung["drop"], "+.4f"),
        number(rung["budget"]),
        status,
    ]


def _build(build: dict[str, Any]) -> list[str]:
    timing = build["bench"]
    total = timing["stages"]["total"] if timing else {}
    mark = "<- best" if build["winner"] else ""
    return [
        build["name"],
        number(timing and timing["fps"], ".1f", "unproven"),
        number(total.get("p50_ms"), ".2f"),
        number(total.get("p99_ms"), ".2f"),
        number(build["size_mb"], ".2f"),
        number(build["map50_95"]),
        mark if not timing or timing["valid"] else "invalid timing",
    ]


def _gate(gate: dict[str, Any]) -> list[str]:
    value = number(gate["value"], ".4g", "unproven")
    return [gate["name"], number(gate["limit"], ".4g"), value, gate["unit"], gate["status"]]
