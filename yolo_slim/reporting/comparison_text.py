"""A comparison as plain text for the terminal, and as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_slim.reporting.facts import number
from yolo_slim.reporting.text import table, wrapped

HEAD = ("arm", "MACs", "px", "mAP50-95", "over seeds", "FPS", "p50 ms", "x control", "frontier", "ours")


def text(value: Mapping[str, Any]) -> str:
    """Return tables, notes and verdict of a ``compare.json``."""
    data = value["data"]
    parts = wrapped(
        f"{value['model']['file']} at {value['imgsz']} px; accuracy on {data['images']} {data['split']} images of "
        f"{data['yaml']}; speed end to end on {value['machine'].get('model', 'this machine')}"
    )
    for key in value["runtimes"]:
        parts += ["", key, table(list(HEAD), rows(value, key))]
        parts += [line for reason in reasons(value, key) for line in wrapped(reason, "  ")]
    parts += ["", *[line for note in value["notes"] for line in wrapped(note, "Note: ")], ""]
    parts += wrapped(f"VERDICT: {value['verdict']['status']}. {value['verdict']['text']}")
    return "\n".join(parts)


def markdown(value: Mapping[str, Any]) -> str:
    """Return the same as Markdown."""
    lines = [f"# {value['name']}: pruning {value['verdict']['status']}", "", value["verdict"]["text"], ""]
    for key in value["runtimes"]:
        lines += [f"## {key}", "", _line(HEAD), _line(["---"] * len(HEAD))]
        lines += [_line(row) for row in rows(value, key)]
        lines += ["", *[f"- {reason}" for reason in reasons(value, key)], ""]
    lines += [f"- {entry['arm']}: {entry['about']}. {entry['implementation']}" for entry in value["arms"]]
    lines += ["", *[f"- {note}" for note in value["notes"]], "", _made(value)]
    return "\n".join(lines) + "\n"


def rows(value: Mapping[str, Any], key: str) -> list[list[str]]:
    """Return the cells of one runtime's table."""
    judged = {(j["arm"], j["size"]): j["status"] for j in value["judgements"][key]["arms"]}
    return [_row(entry, key, _status(entry, judged)) for entry in value["arms"]]


def name_of(entry: Mapping[str, Any]) -> str:
    """Return an arm's name with its size."""
    return entry["arm"] if entry["removed"] is None else f"{entry['arm']} -{entry['removed'] * 100:g} %"


def _status(entry: Mapping[str, Any], judged: Mapping[tuple[str, str], str]) -> str:
    """Return how ours did against an arm; empty for ours itself."""
    name = (entry["arm"], "" if entry["removed"] is None else f"-{entry['removed'] * 100:g} %")
    return judged.get(name, judged.get((entry["arm"], ""), ""))


def _row(entry: Mapping[str, Any], key: str, status: str) -> list[str]:
    """Return one arm's cells."""
    found = entry["runtimes"].get(key)
    if found is None:
        return [name_of(entry), *["-"] * (len(HEAD) - 2), entry["status"]]
    bench, maps, gain = found["bench"], found["map50_95"], found["speedup"]
    several = bool(maps) and maps["seeds"] > 1
    return [
        name_of(entry),
        f"{1 - entry['macs_removed']:.1%}",
        str(entry["imgsz"]),
        number(maps["mean"] if maps else None, ".4f", "unproven"),
        f"{maps['lowest']:.4f} to {maps['highest']:.4f}" if several else "-",
        _timed(bench, "fps", ".1f"),
        _timed(bench, "p50_ms", ".2f"),
        _timed(gain, "ratio", ".2f"),
        "yes" if found["on_frontier"] else "no",
        status,
    ]


def _timed(found: Mapping[str, Any] | None, key: str, pattern: str) -> str:
    """Return a figure of a timing, marked where the timing doesn't count."""
    if found is None:
        return "unproven"
    return number(found[key], pattern) + ("" if found["valid"] else " (invalid)")


def reasons(value: Mapping[str, Any], key: str) -> list[str]:
    """Return why each arm was judged as it was."""
    return [
        f"{judged['arm']} {judged['size']}".strip() + f": {judged['status']}. {judged['reason']}"
        for judged in value["judgements"][key]["arms"]
    ]


def _line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _made(value: Mapping[str, Any]) -> str:
    """Return when and with what it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in value["versions"].items())
    machine = value["machine"]
    return f"{value['measured_at']}, {machine.get('model')}, {machine.get('cores')} cores; {versions}"
