"""A validation as one HTML file that opens offline: no script, no external resource."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from yolo_slim.errors import os_errors_explained
from yolo_slim.files import write_text
from yolo_slim.reporting import facts
from yolo_slim.reporting.plots import accuracy_vs_fps, latency_histogram

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("page.css")
COLLAPSE_ABOVE = 30
"""Longer tables start closed."""
JPEG_QUALITY = 85

GATES = {
    "min_fps": "frames per second, at least",
    "max_p99_ms": "99th percentile of latency, at most",
    "max_map50_95_drop": "mAP50-95 lost against the control, at most",
    "max_size_mb": "model file, at most",
    "max_memory_mb": "peak memory, at most",
}
"""Gate to what it means."""
STAGES = {"pre": "pre-processing", "infer": "inference", "post": "post-processing", "total": "end to end"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image as two models see it."""

    file: str
    truth: int
    """Labelled objects."""
    control: NDArray[np.uint8]
    """(H, W, 3) BGR with the control's boxes."""
    slim: NDArray[np.uint8]
    """The same with the slim model's."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure before and after."""

    name: str
    before: str
    after: str
    change: str
    """What became of it, in words or as a ratio."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class's average precision, before and after; None: not measured."""

    name: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    change: float | None


def environment() -> Environment:
    """Return what all pages are rendered with: their style, filters for numbers, and no undefined names."""
    found = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"number": facts.number, "signed": facts.signed}
    found.globals["style"] = stylesheet()
    return found


def render(result: dict[str, Any], examples: Sequence[Example]) -> str:
    """Return the page for a ``result.json`` value; equal input gives equal text."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        r=result,
        verdict_text=facts.verdict_text(result),
        gate_meaning=_gate_meaning,
        sign=facts.STATUS_SIGN,
        tiles=_tiles(result),
        missing_rungs=facts.missing_rungs(result),
        highest=max([rung["map50_95"] for rung in result["ladder"]], default=0.0) or 1.0,
        by_rung={rung["rung"]: rung for rung in result["ladder"]},
        on_target=facts.is_target(result),
        scatter=_scatter(result),
        stages=STAGES,
        remark=facts.timing_remark,
        histogram=_histogram(result["builds"]),
        sizes=[*_weights(result["size"]), *_files(result["builds"])],
        widest=max((row["before"] for row in result["widths"]), default=1),
        slim_rung=facts.slim_rung(result),
        classes=_classes(result),
        collapse_above=COLLAPSE_ABOVE,
        pictures=[(e.file, e.truth, _data_uri(e.control), _data_uri(e.slim)) for e in examples],
        machine=list(facts.flat(result["machine"])),
        bench_machine=lambda bench: ", ".join(f"{k} {v}" for k, v in facts.flat(bench["runtime"])),
        command=result["command"] or "not recorded",
    )


def write_report(path: Path, result: dict[str, Any], examples: Sequence[Example]) -> None:
    """Write the page, atomically."""
    with os_errors_explained(path):
        write_text(path, render(result, examples))


def stylesheet() -> Markup:
    """Return the style that all pages share."""
    return Markup(STYLE.read_text(encoding="utf-8"))


def _gate_meaning(name: str) -> str:
    """Return a gate's name in words."""
    if name.startswith("rung:"):
        return f"mAP50-95 lost at the rung {name.removeprefix('rung:')}, at most"
    return GATES.get(name, "")


def _tiles(result: Mapping[str, Any]) -> list[Change]:
    """Return the four figures at the top of the page."""
    best = facts.best_build(result["builds"])
    control = facts.partner(best, result["builds"])
    return [_speed(result, best, control), _accuracy(result), *_files_of(best, control), _macs(result["size"])]


def _speed(result: Mapping[str, Any], best: Mapping[str, Any] | None, control: Mapping[str, Any] | None) -> Change:
    """Return the winner's frames per second against its control's, unproven without a timing that counts."""
    after, before = facts.valid_bench(best), facts.valid_bench(control)
    note = "end to end: pre + infer + post, median"
    if after is None:
        why = "no build won" if best is None else facts.timing_remark(best)
        return Change(name="FPS", before=_fps(before), after="unproven", change="", note=why)
    if not facts.is_target(result):
        note = f"on {result['machine'].get('model', 'this machine')}; unproven on {result['target']['name']}"
    gain = facts.speedup(best, result) if best else None
    ratio = f"× {gain['ratio'] if gain else after['fps'] / before['fps']:.2f}" if before else ""
    return Change(name="FPS", before=_fps(before), after=_fps(after), change=ratio, note=note)


def _fps(bench: Mapping[str, Any] | None) -> str:
    return facts.number(bench["fps"] if bench else None, ".1f", "unproven")


def _accuracy(result: Mapping[str, Any]) -> Change:
    """Return mAP50-95 of the slim rung against the control."""
    before, after = facts.control_rung(result), facts.slim_rung(result)
    change = facts.signed(after["map50_95"] - before["map50_95"]) if before and after else ""
    return Change(
        name="mAP50-95",
        before=facts.number(before["map50_95"] if before else None),
        after=facts.number(after["map50_95"] if after else None),
        change=change,
        note=after["label"] if after else "",
    )


def _files_of(best: Mapping[str, Any] | None, control: Mapping[str, Any] | None) -> list[Change]:
    if best is None:
        return [Change(name="model file", before=facts.NOT_MEASURED, after="unproven", change="", note="no build won")]
    before = control["size_mb"] if control else None
    return [_ratio("model file", before, best["size_mb"], 1, "MB", f"{best['runtime']} {best['precision']}")]


def _macs(size: Mapping[str, Any]) -> Change:
    return _ratio("MACs", size["control"].get("macs"), size["slim"].get("macs"), 1e9, "G", "multiply-accumulates")


def _weights(size: Mapping[str, Any]) -> list[Change]:
    """Return parameters and MACs before and after."""
    before, after = size["control"], size["slim"]
    return [
        _ratio("parameters", before.get("params"), after.get("params"), 1e6, "M"),
        _ratio("MACs (multiply-accumulates per frame)", before.get("macs"), after.get("macs"), 1e9, "G"),
    ]


def _files(builds: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Return the size of the model files of every runtime, before and after."""
    rows = []
    for key in dict.fromkeys((b["runtime"], b["precision"]) for b in builds):
        sizes = {b["model"]: b["size_mb"] for b in builds if (b["runtime"], b["precision"]) == key}
        rows.append(_ratio(f"model file, {key[0]} {key[1]}", sizes.get("control"), sizes.get("slim"), 1, "MB"))
    return rows


def _ratio(name: str, before: float | None, after: float | None, unit: float, word: str, note: str = "") -> Change:
    """Return a figure before and after in a unit, with the relative change."""
    texts = [facts.number(None if v is None else v / unit, ".2f") for v in (before, after)]
    shown = [text if text == facts.NOT_MEASURED else f"{text} {word}" for text in texts]
    change = facts.signed((after / before - 1) * 100, "+.1f") + " %" if before and after is not None else ""
    return Change(name=name, before=shown[0], after=shown[1], change=change, note=note)


def _scatter(result: Mapping[str, Any]) -> Markup | None:
    """Return the scatter plot with the profile's limits; a limit of the target isn't drawn over another machine."""
    limits = {gate["name"]: gate["limit"] for gate in result["verdict"]["gates"]}
    control, drop = facts.control_rung(result), limits.get("max_map50_95_drop")
    return accuracy_vs_fps(
        result["builds"],
        min_fps=limits.get("min_fps") if facts.is_target(result) else None,
        min_map=control["map50_95"] - drop if control and drop is not None else None,
    )


def _histogram(builds: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return the histogram of the winner, or else the fastest slim build, and its control; None: none is timed."""
    timed = [b for b in builds if b["bench"] and b["bench"]["samples_ms"].get("total")]
    slim = max((b for b in timed if b["model"] == "slim"), key=lambda b: b["bench"]["fps"], default=None)
    chosen = facts.best_build(timed) or slim
    pair = [b for b in (facts.partner(chosen, timed), chosen) if b]
    if not pair:
        return None
    return latency_histogram({b["name"]: b["bench"]["samples_ms"]["total"] for b in pair}, [b["model"] for b in pair])


def _classes(result: Mapping[str, Any]) -> list[ClassRow]:
    """Return the classes that occur, with their AP in the control and in the slim model."""
    control, slim = facts.control_rung(result), facts.slim_rung(result)
    before, after = (control or {}).get("per_class", {}), (slim or {}).get("per_class", {})
    rows = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name, {}), after.get(name, {})
        change = new["ap50_95"] - old["ap50_95"] if old and new else None
        rows.append(ClassRow(name=name, before=old, after=new, change=change))
    return rows


def _data_uri(image: NDArray[np.uint8]) -> str:
    """Return a BGR image as an inline JPEG."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
