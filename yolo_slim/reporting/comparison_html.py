"""A comparison as one HTML file that opens offline: no script, no external resource."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from yolo_slim.measuring.rounds import quartiles
from yolo_slim.reporting import comparison_text, facts
from yolo_slim.reporting.html import environment
from yolo_slim.reporting.plots import Mark, accuracy_vs_latency

TEMPLATE = Path(__file__).with_name("comparison.html.j2")
LOOK = {"won": "pass", "lost": "fail", "undecided": "unproven", "reference": "info", "": "info"}
"""Status to the class that colours it."""
SIGN = {"won": "✓", "lost": "✗", "undecided": "?", "reference": "·", "": ""}


def render(value: Mapping[str, Any]) -> str:
    """Return the page for a ``compare.json`` value; equal input gives equal text."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        r=value,
        look=LOOK,
        sign=SIGN,
        head=comparison_text.HEAD,
        rows={key: comparison_text.rows(value, key) for key in value["runtimes"]},
        plots={key: _plot(value, key) for key in value["runtimes"]},
        name_of=comparison_text.name_of,
        machine=list(facts.flat(value["machine"])),
    )


def _plot(value: Mapping[str, Any], key: str) -> Markup | None:
    """Return the scatter plot of one runtime."""
    return accuracy_vs_latency([mark for entry in value["arms"] if (mark := _mark(entry, key))])


def _mark(entry: Mapping[str, Any], key: str) -> Mark | None:
    """Return an arm's mark, None without both figures."""
    found = entry["runtimes"].get(key)
    if found is None or found["bench"] is None or found["map50_95"] is None:
        return None
    maps = found["map50_95"]
    low, _, high = quartiles(found["bench"]["round_p50_ms"])
    return Mark(
        name=comparison_text.name_of(entry),
        kind="slim" if entry["arm"] == "ours" else "control" if entry["reference"] else "rival",
        x=found["bench"]["p50_ms"],
        x_range=(low, high),
        y=maps["mean"],
        y_range=(maps["lowest"], maps["highest"]),
        ringed=found["on_frontier"],
        hollow=not found["bench"]["valid"],
    )
