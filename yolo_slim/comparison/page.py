"""A comparison as one HTML file that opens offline: everything is in it."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from yolo_slim.comparison import text
from yolo_slim.comparison.frontier import OURS
from yolo_slim.comparison.result import NOT_POSSIBLE, CompareResult, Entry
from yolo_slim.measuring.rounds import quartiles
from yolo_slim.reporting import facts
from yolo_slim.reporting.pages import environment
from yolo_slim.reporting.plots import Mark, accuracy_vs_latency

TEMPLATE = Path(__file__).with_name("page.html.j2")
LOOK = {"won": "pass", "lost": "fail", "undecided": "unproven", "reference": "info", "": "info"}
"""Status to the class that colours it."""
SIGN = {"won": "✓", "lost": "✗", "undecided": "?", "reference": "·", "": ""}


def render(result: CompareResult) -> str:
    """The page of a comparison; equal results give equal text."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        r=result,
        look=LOOK,
        sign=SIGN,
        head=text.HEAD,
        rows={key: text.rows(result, key) for key in result.runtimes},
        plots={key: _plot(result, key) for key in result.runtimes},
        ours=OURS,
        not_possible=NOT_POSSIBLE,
        machine=list(facts.flat(result.machine)),
    )


def _plot(result: CompareResult, key: str) -> Markup | None:
    """The scatter plot of one runtime."""
    return accuracy_vs_latency([mark for entry in result.methods if (mark := _mark(entry, key))])


def _mark(entry: Entry, key: str) -> Mark | None:
    """A method's mark, None without both figures."""
    found = entry.runtimes.get(key)
    if found is None or found.bench is None or found.map50_95 is None:
        return None
    maps, bench = found.map50_95, found.bench
    low, _, high = quartiles(bench.round_p50_ms)
    return Mark(
        name=entry.name,
        kind="slim" if entry.method == OURS else "control" if entry.reference else "rival",
        x=bench.p50_ms,
        x_range=(low, high),
        y=maps.mean,
        y_range=(maps.lowest, maps.highest),
        ringed=found.on_frontier,
        hollow=not bench.valid,
    )
