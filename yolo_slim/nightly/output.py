"""What a night leaves for people and for other programs: Markdown, JUnit XML, Prometheus text, JSON, a webhook."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from yolo_slim.errors import os_errors_explained
from yolo_slim.files import JsonObject, write_json, write_text
from yolo_slim.history.device_changes import DeviceChange
from yolo_slim.history.rows import NIGHT, WORST_FIRST, Judgement, Run
from yolo_slim.history.store import History
from yolo_slim.nightly.matrix import Matrix
from yolo_slim.nightly.mlflow_runs import log_night
from yolo_slim.nightly.outcome import ALARMS, UNANSWERED, NightOutcome
from yolo_slim.nightly.webhook import post
from yolo_slim.progress import Progress

SUMMARY, JUNIT, PROMETHEUS, JSON = "summary.md", "junit.xml", "metrics.prom", "night.json"
FILES = (SUMMARY, JUNIT, PROMETHEUS, JSON)
"""What the folder of every night that ended has."""
NOT_XML = re.compile(r"[^\t\n\r -\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
"""Characters that XML 1.0 doesn't allow, such as those that colour a terminal."""


def folder_of(matrix: Matrix, outcome: NightOutcome) -> Path:
    """Folder of a night's files."""
    return matrix.project / "nights" / f"{outcome.night.number:04d}"


def write_all(matrix: Matrix, history: History, outcome: NightOutcome, progress: Progress) -> None:
    """Write every file of a night, log it to MLflow, and tell the webhook."""
    folder = folder_of(matrix, outcome)
    with os_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / SUMMARY, markdown(outcome))
        write_text(folder / JUNIT, junit(outcome))
        write_text(folder / PROMETHEUS, prometheus(outcome))
        write_json(folder / JSON, as_json_value(outcome))
        if outcome.night.kind == NIGHT:
            # A collector reads one file, and no trial's: its figures are another branch's.
            write_text(matrix.project / PROMETHEUS, prometheus(outcome))
    progress.say(f"nightly: written to {folder}")
    if matrix.config.mlflow:
        progress.say(log_night(matrix.config.mlflow, history, outcome, markdown(outcome)))
    if matrix.config.webhook:
        problem = post(matrix.config.webhook, as_json_value(outcome))
        progress.say(problem or "nightly: the webhook was told")


def ordered(outcome: NightOutcome) -> list[tuple[Run, Judgement]]:
    """The judged runs, what needs attention first."""
    judged = [(run, run.judgement) for run in outcome.runs if run.judgement]
    return sorted(judged, key=lambda pair: (WORST_FIRST.index(pair[1].status), pair[0].cell.name))


def headline(outcome: NightOutcome) -> str:
    """One line: how many cells have which answer, and which devices changed."""
    counts: Counter[str] = Counter(found.status for _, found in ordered(outcome))
    shown = ", ".join(f"{counts[status]} {status}" for status in WORST_FIRST if counts[status])
    changed = [f"{one.target}, {one.text}" for one in outcome.devices]
    count = f"{len(changed)} device{'s' if len(changed) > 1 else ''} changed: "
    also = [count + "; ".join(changed)] if changed else []
    return f"Night {outcome.night.number}: {'; '.join([shown or 'no cells', *also])}"


def summary(outcome: NightOutcome) -> str:
    """The night for the terminal."""
    lines, since = [headline(outcome)], _since(outcome)
    lines += [f"  on {one.target} {since}: {'; '.join(one.moved)}" for one in outcome.devices if one.moved]
    for run, found in ordered(outcome):
        lines += [f"  {found.status:<12} {run.cell.name}{_figures(run)}", f"               {_first_line(found.reason)}"]
        if found.status in ALARMS and found.moved:
            lines.append(f"               {since}: {'; '.join(found.moved[:4])}")
    return "\n".join(lines)


def markdown(outcome: NightOutcome) -> str:
    """The night for a pull request or a chat."""
    source = outcome.night.source
    commit = f", commit `{source.commit[:12]}`{' with changes' if source.dirty else ''}" if source.commit else ""
    lines = [f"### {headline(outcome)}", "", f"Begun {outcome.night.started_at}{commit}.", ""]
    lines += ["| answer | cell | mAP50-95 | FPS | why |", "| --- | --- | --- | --- | --- |"]
    for run, found in ordered(outcome):
        figures = run.measurement
        accuracy = f"{figures.accuracy.map50_95:.4f}" if figures else ""
        fps = f"{figures.shown_speed.fps:.1f}" if figures and figures.shown_speed else ""
        mark = f"**{found.status}**" if found.status in ALARMS else found.status
        lines.append(f"| {mark} | {run.cell.name} | {accuracy} | {fps} | {_cell(found.reason)} |")
    moved = {line for _, found in ordered(outcome) if found.status in ALARMS for line in found.moved}
    if moved:
        lines += ["", f"{_since(outcome).capitalize()}:", "", *(f"- {line}" for line in sorted(moved))]
    if outcome.devices:
        lines += ["", "Devices that changed:", "", *(f"- {_device(outcome, one)}" for one in outcome.devices)]
    return "\n".join(lines) + "\n"


def _since(outcome: NightOutcome) -> str:
    """What the differences are counted from."""
    return "since the baseline" if outcome.night.kind == NIGHT else "since the branch's last night"


def _device(outcome: NightOutcome, one: DeviceChange) -> str:
    """A device that changed, and what else is different there."""
    moved = f"; {_since(outcome)}: {'; '.join(one.moved)}" if one.moved else ""
    return f"{one.target}: {one.text}{moved}"


def junit(outcome: NightOutcome) -> str:
    """The night as JUnit XML: a cell is a test case, worse is a failure, no answer is skipped.

    A device that changed is told in the output of its cells.
    """
    devices = {one.target: _device(outcome, one) for one in outcome.devices}
    suite = ElementTree.Element("testsuite", name=f"night {outcome.night.number}", timestamp=outcome.night.started_at)
    counts: Counter[str] = Counter()
    for run, found in ordered(outcome):
        folder, _, name = run.cell.name.rpartition("/")
        case = ElementTree.SubElement(suite, "testcase", classname=folder.replace("/", "."), name=name)
        kind = "error" if found.status == "failed" else "failure" if found.status in ALARMS else "skipped"
        if found.status in (*ALARMS, *UNANSWERED):
            counts[kind] += 1
            ElementTree.SubElement(
                case, kind, message=f"{found.status}: {_first_line(found.reason)}"
            ).text = found.reason
        if run.cell.target in devices:
            ElementTree.SubElement(case, "system-out").text = f"device changed: {devices[run.cell.target]}"
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(counts[kind]))
    suite.set("tests", str(len(outcome.runs)))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{NOT_XML.sub("", text)}\n'


GAUGES = {
    "map50_95": "mAP50-95 of the slim bundle on the device.",
    "fps": "Frames per second end to end.",
    "latency_p99_ms": "99th percentile of the end-to-end latency, milliseconds.",
    "latency_change": "Latency against the reference timed in turns, minus 1.",
    "worse": "1: the cell became worse or failed.",
    "device_change": "Latency of the reference against earlier nights, minus 1: above 0 the device became slower.",
    "device_changed": "1: the device itself changed, by more than it varies and than gates.device_change.",
}
OF_THE_NIGHT = {
    "night": "Number of the last night.",
    "end_timestamp_seconds": "When the last night ended, seconds since 1970.",
}
"""Gauges without a cell."""


def prometheus(outcome: NightOutcome) -> str:
    """The night as a text file for the node exporter's textfile collector."""
    lines = []
    for gauge, meaning in GAUGES.items():
        lines += _explained(gauge, meaning)
        for run, found in ordered(outcome):
            value = _gauges(run, found).get(gauge)
            if value is not None:
                labels = ",".join(f'{key}="{text}"' for key, text in run.cell.to_json().items())
                lines.append(f"yolo_slim_nightly_{gauge}{{{labels}}} {value:g}")
    ended = datetime.fromisoformat(outcome.night.ended_at).timestamp() if outcome.night.ended_at else 0
    for (gauge, meaning), value in zip(OF_THE_NIGHT.items(), (outcome.night.number, int(ended)), strict=True):
        lines += [*_explained(gauge, meaning), f"yolo_slim_nightly_{gauge} {value}"]
    return "\n".join(lines) + "\n"


def _explained(gauge: str, meaning: str) -> list[str]:
    return [f"# HELP yolo_slim_nightly_{gauge} {meaning}", f"# TYPE yolo_slim_nightly_{gauge} gauge"]


def _gauges(run: Run, found: Judgement) -> dict[str, float]:
    values: dict[str, float] = {"worse": float(found.status in ALARMS)}
    if run.measurement:
        values["map50_95"] = run.measurement.accuracy.map50_95
        if speed := run.measurement.shown_speed:
            values |= {"fps": speed.fps, "latency_p99_ms": speed.p99_ms}
    if found.speed:
        values["latency_change"] = found.speed.change
    if found.device_change is not None:
        values |= {"device_change": found.device_change, "device_changed": float(found.device_changed)}
    return values


def as_json_value(outcome: NightOutcome) -> JsonObject:
    """The night for programs."""
    return {
        "headline": headline(outcome),
        "exit_code": outcome.exit_code,
        "night": outcome.night.to_json(),
        "devices_changed": [{**asdict(one), "reason": one.text} for one in outcome.devices],
        "runs": [run.shown_json() for run, _ in ordered(outcome)],
    }


def _figures(run: Run) -> str:
    if run.measurement is None:
        return ""
    return f"  {run.measurement.figures_text}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _cell(text: str) -> str:
    """Text that stays inside a Markdown table's cell."""
    return _first_line(text).replace("|", "\\|")
