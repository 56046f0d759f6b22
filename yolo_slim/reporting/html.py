"""A validation as one HTML file that opens offline: everything is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from yolo_slim.devices.answers import Bench
from yolo_slim.errors import os_errors_explained
from yolo_slim.files import write_text
from yolo_slim.reporting import changes, estimates, facts, sides, timings
from yolo_slim.reporting.closing import closing
from yolo_slim.reporting.examples import Example
from yolo_slim.reporting.pages import data_uri, environment
from yolo_slim.reporting.plots import Limits, accuracy_vs_fps, fps_over_time, latency_histogram
from yolo_slim.reporting.text import speed_machine
from yolo_slim.verdict.control import CLASSES_GATE, CONTROL_GATE
from yolo_slim.verdict.emulated import EMULATED_GATE
from yolo_slim.verdict.result import Build, ClassAccuracy, Gate, Result

TEMPLATE = Path(__file__).with_name("report.html.j2")
COLLAPSE_ABOVE = 30
"""Longer tables start closed."""

GATES = {
    "min_fps": "frames per second, at least",
    "max_p99_ms": "99th percentile of latency, at most",
    "max_map50_95_drop": "mAP50-95 lost against the control, at most",
    "max_size_mb": "model file, at most",
    "max_memory_mb": "peak memory, at most",
    CONTROL_GATE: "mAP50-95 of the control, at least",
    CLASSES_GATE: "classes with labels, but not in the scored images",
}
"""Gate to its meaning."""
STAGES = {"pre": "pre-processing", "infer": "inference", "post": "post-processing", "total": "end to end"}


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class's average precision, before and after; None: not measured."""

    class_id: int
    name: str
    before: ClassAccuracy | None
    after: ClassAccuracy | None

    @property
    def change(self) -> float | None:
        """What it gained in AP50-95."""
        return self.after.ap50_95 - self.before.ap50_95 if self.before and self.after else None


def render(result: Result, examples: Sequence[Example]) -> str:
    """Make the page; equal input gives equal text."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        r=result,
        verdict_text=facts.verdict_text(result),
        closing=closing(result),
        gate_meaning=_gate_meaning,
        sign=facts.STATUS_SIGN,
        tiles=changes.tiles(result),
        # Never 0, because the template divides by it.
        highest=max([rung.map50_95 for rung in result.ladder], default=0.0) or 1.0,
        speed_machine=speed_machine(result),
        scatter=_scatter(result),
        estimates=estimates,
        sides=sides,
        sides_chart=sides.chart(result.sides) if result.sides else None,
        stages=STAGES,
        remark=facts.timing_remark,
        histogram=_histogram(result),
        timings=timings.rows(result.builds),
        parts=timings.parts(result.builds),
        sustained=timings.sustained_of(result),
        sustained_text=timings.sustained_text,
        fps_over_time=fps_over_time,
        sizes=changes.sizes(result),
        widest=max((row.before for row in result.widths), default=1),
        classes=_classes(result),
        collapse_above=COLLAPSE_ABOVE,
        pictures=[(e.file, e.truth, data_uri(e.control), data_uri(e.slim)) for e in examples],
        machine=list(facts.flat(result.machine.to_json())),
        ran=_ran,
    )


def write_report(path: Path, result: Result, examples: Sequence[Example]) -> None:
    """Write the page, atomically."""
    with os_errors_explained(path):
        write_text(path, render(result, examples))


def _ran(bench: Bench) -> str:
    """Everything that is known of what really ran."""
    return ", ".join(f"{key} {value}" for key, value in facts.flat(bench.runtime.to_json()))


def _gate_meaning(gate: Gate) -> str:
    """A gate's name in words."""
    if gate.name.startswith(EMULATED_GATE):
        return "problems of the bundle on the emulated processor, at most"
    return f"mAP50-95 lost at the rung {gate.rung}, at most" if gate.rung else GATES.get(gate.name, "")


def _scatter(result: Result) -> Markup | None:
    """The scatter plot with the profile's limits; a limit of the target isn't drawn over another machine."""
    limits = {gate.name: gate.limit for gate in result.verdict.gates}
    control, drop = result.control_rung, limits.get("max_map50_95_drop")
    min_fps = limits.get("min_fps") if result.target.is_measured else None
    min_map = control.map50_95 - drop if control and drop is not None else None
    return accuracy_vs_fps(result.builds, result.winner, Limits(min_fps=min_fps, min_map=min_map))


def _histogram(result: Result) -> Markup | None:
    """The histogram of the winner, else of the fastest slim build, and its control; None where neither is timed."""
    timed = [build for build in result.builds if build.bench and build.bench.samples_ms.total]
    slim = [build for build in timed if build.key.is_slim]
    chosen = result.best if result.best in timed else max(slim, key=_fps, default=None)
    shown = [build for build in (result.partner(chosen), chosen) if build and build in timed]
    return latency_histogram(shown) if shown else None


def _fps(build: Build) -> float:
    return build.bench.fps if build.bench else 0.0


def _classes(result: Result) -> list[ClassRow]:
    """The classes that occur, with their AP in the control and in the slim model."""
    control, slim = result.control_rung, result.slim_rung
    before, after = control.per_class if control else {}, slim.per_class if slim else {}
    return [
        ClassRow(class_id=key, name=result.data.names[key], before=before.get(key), after=after.get(key))
        for key in dict.fromkeys([*before, *after])
    ]
