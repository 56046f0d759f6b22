"""A comparison as plain text for the terminal, and as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolo_slim.comparison.result import CompareResult, Entry, Speedup, Timing
from yolo_slim.reporting.facts import number
from yolo_slim.reporting.text import table, wrapped

HEAD = ("method", "MACs", "px", "mAP50-95", "over seeds", "FPS", "p50 ms", "x control", "frontier", "ours")


def text(result: CompareResult) -> str:
    """Tables, notes and verdict of a comparison."""
    data = result.data
    parts = wrapped(
        f"{result.model.file} at {result.imgsz} px; accuracy on {data.images} {data.split} images of "
        f"{data.yaml}; speed end to end on {result.machine.get('model', 'this machine')}"
    )
    for key in result.runtimes:
        parts += ["", key, table(list(HEAD), rows(result, key))]
        parts += [line for reason in reasons(result, key) for line in wrapped(reason, "  ")]
    parts += ["", *[line for note in result.notes for line in wrapped(note, "Note: ")], ""]
    parts += wrapped(f"VERDICT: {result.verdict.status}. {result.verdict.text}")
    return "\n".join(parts)


def markdown(result: CompareResult) -> str:
    """The same as Markdown."""
    lines = [f"# {result.name}: pruning {result.verdict.status}", "", result.verdict.text, ""]
    for key in result.runtimes:
        lines += [f"## {key}", "", _line(HEAD), _line(["---"] * len(HEAD))]
        lines += [_line(row) for row in rows(result, key)]
        lines += ["", *[f"- {reason}" for reason in reasons(result, key)], ""]
    lines += [f"- {entry.method}: {entry.about}. {entry.implementation}" for entry in result.methods]
    lines += ["", *[f"- {note}" for note in result.notes], "", _origin(result)]
    return "\n".join(lines) + "\n"


def rows(result: CompareResult, key: str) -> list[list[str]]:
    """The cells of one runtime's table."""
    judged = {(judgement.method, judgement.size): judgement.status for judgement in result.judgements[key].methods}
    return [_row(entry, key, _status(entry, judged)) for entry in result.methods]


def _status(entry: Entry, judged: Mapping[tuple[str, str], str]) -> str:
    """How ours did against a method; empty for ours itself."""
    # Judgements name no size where there is only one.
    return judged.get((entry.method, entry.size), judged.get((entry.method, ""), ""))


def _row(entry: Entry, key: str, status: str) -> list[str]:
    """One method's cells."""
    found = entry.runtimes.get(key)
    if found is None or entry.macs_removed is None:
        return [entry.name, *["-"] * (len(HEAD) - 2), entry.status]
    maps, bench = found.map50_95, found.bench
    return [
        entry.name,
        f"{1 - entry.macs_removed:.1%}",
        str(entry.imgsz),
        number(maps.mean if maps else None, ".4f", "unproven"),
        f"{maps.lowest:.4f} to {maps.highest:.4f}" if maps and maps.seeds > 1 else "-",
        _timed(bench, bench.fps if bench else 0, ".1f"),
        _timed(bench, bench.p50_ms if bench else 0, ".2f"),
        _timed(found.speedup, found.speedup.ratio if found.speedup else 0, ".2f"),
        "yes" if found.on_frontier else "no",
        status,
    ]


def _timed(of: Timing | Speedup | None, value: float, pattern: str) -> str:
    """A figure of a timing, marked where the timing doesn't count."""
    if of is None:
        return "unproven"
    return number(value, pattern) + ("" if of.valid else " (invalid)")


def reasons(result: CompareResult, key: str) -> list[str]:
    """Why each method was judged as it was."""
    return [f"{judged.name}: {judged.status}. {judged.reason}" for judged in result.judgements[key].methods]


def _line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _origin(result: CompareResult) -> str:
    """When and with what it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    machine = result.machine
    return f"{result.measured_at}, {machine.get('model')}, {machine.get('cores')} cores; {versions}"
