"""A validation as plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from yolo_slim.measuring.emulated import Emulated, EmulatedBuild
from yolo_slim.measuring.estimate import Estimate
from yolo_slim.reporting import estimates
from yolo_slim.reporting.closing import closing
from yolo_slim.reporting.facts import NOT_MEASURED, number, timing_remark
from yolo_slim.reporting.timings import sustained_of, sustained_text
from yolo_slim.verdict.result import Build, Gate, Result, Rung

COLUMNS = 90
LONGEST_CELL = 25
UNPROVEN = "unproven"


def summary(result: Result) -> str:
    """Show ladder, builds, gates, verdict and what to do next, at most :data:`COLUMNS` wide."""
    parts = [*_ladder(result), "", *_speed(result), "", *_emulated(result.emulated), *estimated(_of_winner(result))]
    parts += _gates(result.verdict.gates)
    parts += [line for note in result.notes for line in wrapped(note, "Note: ")]
    ends = [line for name, text in closing(result) for line in wrapped(text, f"{name}: ")]
    return "\n".join([*parts, "", f"VERDICT: {result.verdict.status}", *ends])


def _ladder(result: Result) -> list[str]:
    data = result.data
    head = ["rung", "mAP50-95", "mAP50", "against", "drop", "budget", ""]
    return [
        *wrapped(f"Accuracy on {data.images} {data.split} images of {data.yaml} ({result.imgsz} px)"),
        table(head, [_rung(rung) for rung in result.ladder]),
        *wrapped(", ".join(result.missing_rungs), f"  {NOT_MEASURED}: "),
    ]


def _speed(result: Result) -> list[str]:
    target = result.target
    head = ["build", "FPS", "x control", "p50 ms", "p99 ms", "MB", "mAP50-95", ""]
    elsewhere = "" if target.is_measured else f", not on {target.name}"
    return [
        *wrapped(f"Speed, end to end (pre + infer + post), on {speed_machine(result)}{elsewhere}"),
        table(head, [_build(build, result) for build in result.builds]),
        *_explained((str(build.key), timing_remark(build)) for build in result.builds),
        *(wrapped(result.latency.text(), "  cut before the training: ") if result.latency else []),
        *(wrapped(result.sides.why, "  input side: ") if result.sides else []),
        *_winner(result),
    ]


def estimated(found: Sequence[Estimate]) -> list[str]:
    """Show estimates, and a blank line behind them; nothing where there are none."""
    if not found:
        return []
    return [*wrapped(estimates.title(found)), table(estimates.HEAD, [estimates.cells(one) for one in found]), ""]


def _of_winner(result: Result) -> list[Estimate]:
    """The winner's estimate and its control's; the report has those of all builds."""
    build = result.winner.build if result.winner else None
    return [one for one in result.estimates if build in (None, one.build)]


def _winner(result: Result) -> list[str]:
    """The winner's first detection, and its run of minutes."""
    start = result.best.bench.cold_start if result.best and result.best.bench else None
    lines = [f"first detection {start.total_ms:.0f} ms after the start of its process"] if start else []
    found = sustained_of(result)
    lines += [sustained_text(found)] if found else []
    return [line for text in lines for line in wrapped(text, f"  {result.winner}: ")]


def _emulated(emulated: Emulated | None) -> list[str]:
    """What the bundles did on an emulated processor."""
    if emulated is None:
        return []
    images = f"{len(emulated.images)} {emulated.split} images"
    head = ["build", "agree", "differ", "score", "IoU", "px", "mAP there", "here", "MB", ""]
    return [
        *wrapped(f"Bundles on an {emulated.model}, {images}; detections compared with this machine's"),
        table(head, [_emulated_build(build) for build in emulated.builds if build.key.is_slim or build.problems]),
        *_explained((str(build.key), "; ".join(build.problems)) for build in emulated.builds),
        "",
    ]


def _gates(gates: Sequence[Gate]) -> list[str]:
    """How many passed; each of the others by name, those of one reason together."""
    passed = sum(gate.status == "pass" for gate in gates)
    reasons = dict.fromkeys((gate.status, gate.reason) for gate in gates if gate.status != "pass")
    head = f"Gates: {passed} of {len(gates)} passed"
    return [
        head,
        *_explained(
            (f"{status} {', '.join(one.name for one in gates if (one.status, one.reason) == (status, reason))}", reason)
            for status, reason in reasons
        ),
    ]


def speed_machine(result: Result) -> str:
    """Name the machine that the builds were timed on, or the one that measured accuracy where none was timed."""
    timed = [build.bench.machine.model for build in result.builds if build.bench]
    return next(iter(timed), result.machine.model)


def _explained(lines: Iterable[tuple[str, str]]) -> list[str]:
    """A line for every name that has something to say."""
    return [line for name, text in lines for line in wrapped(text, f"  {name}: ")]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns, the first to the left and the others to the right."""
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
    """Break a text into lines of the terminal's width; an empty text has none."""
    if not text:
        return []
    # Not at hyphens, so that names of builds, such as ncnn-fp16, stay whole.
    return textwrap.wrap(text, COLUMNS, initial_indent=prefix, subsequent_indent="    ", break_on_hyphens=False)


def _short(text: str) -> str:
    """Shorten a cell that would push its row beyond the width."""
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."


def _rung(rung: Rung) -> list[str]:
    return [
        _short(rung.rung),
        number(rung.map50_95),
        number(rung.map50),
        _short(rung.against or "-"),
        number(rung.drop, "+.4f", "-" if rung.against is None else UNPROVEN),
        number(rung.budget, ".4f", "-"),
        "" if rung.status == "info" else rung.status,
    ]


def _build(build: Build, result: Result) -> list[str]:
    bench, gain = build.bench, result.speedup(build)
    total = bench.stages.total if bench else None
    mark = "<- winner" if build.key == result.winner else ""
    return [
        _short(str(build.key)),
        number(bench.fps if bench else None, ".1f", UNPROVEN),
        number(gain.ratio if gain else None, ".2f", "-"),
        number(total.p50_ms if total else None, ".2f", UNPROVEN),
        number(total.p99_ms if total else None, ".2f", UNPROVEN),
        number(build.size_mb, ".2f", UNPROVEN),
        number(build.map50_95, ".4f", UNPROVEN),
        mark if not bench or bench.is_valid else "invalid",
    ]


def _emulated_build(build: EmulatedBuild) -> list[str]:
    return [
        _short(str(build.key)),
        str(build.matched),
        str(build.unmatched),
        number(build.largest_score_difference, ".4f", "-"),
        number(build.lowest_iou, ".3f", "-"),
        number(build.largest_shift_px, ".1f", "-"),
        number(build.map50_95, ".4f", UNPROVEN),
        number(build.workstation_map50_95, ".4f", UNPROVEN),
        number(build.peak_memory_mb, ".0f", "-"),
        build.status,
    ]
