"""A validation as plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from yolo_slim.measuring.estimate import Estimate
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.reporting import estimates
from yolo_slim.reporting.closing import closing
from yolo_slim.reporting.facts import NOT_MEASURED, number, timing_remark
from yolo_slim.reporting.timings import sustained_of, sustained_text
from yolo_slim.verdict.result import CONTROL, PRUNED, RECOVERED, Build, Gate, Result, Rung

COLUMNS = 80
LINES = 21
"""Of a summary. A terminal has 24: two are for a run's bundle and report, one is for the next prompt."""
LONGEST_CELL = 16
UNPROVEN = "unproven"


def summary(result: Result) -> str:
    """Show accuracy, speed, gates, verdict and what to do next on one screen; the report has everything."""
    # A table is one text of several lines.
    parts = "\n".join([*_ladder(result), *_speed(result), *_gates(result.verdict.gates)]).split("\n")
    ends = [line for name, text in closing(result) for line in wrapped(text, f"{name}: ")]
    ends = [f"VERDICT: {result.verdict.status}", *ends]
    return "\n".join([*parts, *_notes(result.notes, LINES - len(parts) - len(ends)), *ends])


def _notes(notes: Sequence[str], room: int) -> list[str]:
    """The notes that there is room for, and how many are left."""
    shown: list[str] = []
    for index, note in enumerate(notes):
        left = len(notes) - index
        lines = wrapped(note, "Note: ")
        # The line that counts those left needs room too.
        if len(shown) + len(lines) > room - (left > 1):
            return [*shown, f"Notes: {left}{' more' if shown else ''} in the report"]
        shown += lines
    return shown


def _ladder(result: Result) -> list[str]:
    """The weights' rungs, and those that failed: the builds have their accuracy beside their speed."""
    data = result.data
    head = ["rung", "mAP50-95", "mAP50", "against", "drop", "budget", ""]
    shown = [rung for rung in result.ladder if rung.rung in (CONTROL, PRUNED, RECOVERED) or rung.status == "fail"]
    side = f"{result.imgsz} px" + (f", the best of {len(result.sides.candidates)} sides" if result.sides else "")
    return [
        *wrapped(f"Accuracy on {data.images} {data.split} images of {data.yaml} ({side})"),
        table(head, [_rung(rung) for rung in shown]),
        *wrapped(", ".join(result.missing_rungs), f"  {NOT_MEASURED}: "),
    ]


def _speed(result: Result) -> list[str]:
    target = result.target
    head = ["build", "FPS", "x control", "p50 ms", "p99 ms", "MB", "mAP50-95", ""]
    elsewhere = "" if target.is_measured else f", not on {target.name}"
    # The report has the control's rows; without a slim build there is nothing else.
    shown = [build for build in result.builds if build.key.is_slim] or result.builds
    return [
        *wrapped(f"Speed, end to end, on {speed_machine(result)}{elsewhere}"),
        table(head, [_build(build, result) for build in shown]),
        *_remarks(result.builds),
        *(wrapped(_cut(result.latency), "  cut before the training: ") if result.latency else []),
        *_winner(result),
    ]


def _remarks(builds: Sequence[Build]) -> list[str]:
    """Why timings don't count; builds of one reason share a line. A control that wasn't timed is no news."""
    shown = [build for build in builds if build.key.is_slim or build.bench]
    reasons = dict.fromkeys(remark for build in shown if (remark := timing_remark(build)))
    return [
        line
        for reason in reasons
        for line in wrapped(reason, f"  {', '.join(_name(one) for one in shown if timing_remark(one) == reason)}: ")
    ]


def _cut(cut: LatencyCut) -> str:
    """What a cut to milliseconds took."""
    invalid = cut.cuts[cut.kept].invalid_reasons
    doubt = f"; the timing doesn't count: {'; '.join(invalid)}" if invalid else ""
    return f"{cut.measured_ms:.2f} ms a frame in {cut.build}, {cut.budget_ms:.2f} asked{doubt}"


def estimated(found: Sequence[Estimate]) -> list[str]:
    """A table of estimates, below a line that says what they are."""
    return [*wrapped(estimates.title(found)), table(estimates.HEAD, [estimates.cells(one) for one in found])]


def _winner(result: Result) -> list[str]:
    """The winner's run of minutes, and the estimate of its speed on the target."""
    if result.winner is None:
        return []
    found, name = sustained_of(result), str(result.winner.build)
    lines = [f"{name}: {sustained_text(found)}"] if found else []
    ours = [one for one in result.estimates if one.name == str(result.winner)]
    lines += [f"{name} {estimates.sentence(one)}" for one in ours]
    return [line for text in lines for line in wrapped(text, "  ")]


def _gates(gates: Sequence[Gate]) -> list[str]:
    """How many passed; each of the others by name, those of one reason together."""
    passed = sum(gate.status == "pass" for gate in gates)
    reasons = dict.fromkeys((gate.status, gate.reason) for gate in gates if gate.status != "pass")
    texts = [
        f"{status} {', '.join(one.name for one in gates if (one.status, one.reason) == (status, reason))}: {reason}"
        for status, reason in reasons
    ]
    head = f"Gates: {passed} of {len(gates)} passed"
    if len(texts) == 1:
        return wrapped(f"{head}; {texts[0]}")
    return [head, *[line for text in texts for line in wrapped(text, "  ")]]


def speed_machine(result: Result) -> str:
    """Name the machine that the builds were timed on, or the one that measured accuracy where none was timed."""
    timed = [build.bench.machine.model for build in result.builds if build.bench]
    return next(iter(timed), result.machine.model)


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
    # The control has no row: where its timing doesn't count, no ratio does.
    ratio = number(gain.ratio, ".2f") if gain and gain.valid else "invalid" if gain else "-"
    return [
        _name(build),
        number(bench.fps if bench else None, ".1f", "-"),
        ratio,
        number(total.p50_ms if total else None, ".2f", "-"),
        number(total.p99_ms if total else None, ".2f", "-"),
        number(build.size_mb, ".2f", UNPROVEN),
        number(build.map50_95, ".4f", UNPROVEN),
        mark if not bench or bench.is_valid else "invalid",
    ]


def _name(build: Build) -> str:
    """Without ``slim/``: a control's name begins with ``control/``."""
    return str(build.key.build if build.key.is_slim else build.key)
