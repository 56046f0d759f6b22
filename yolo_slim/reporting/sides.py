"""The input sides that were tried for a budget in milliseconds, for people: rows of a table, and a chart."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from yolo_slim.measuring.sides import Candidate, Sides
from yolo_slim.reporting.charts.chart import Chart
from yolo_slim.reporting.charts.style import Series
from yolo_slim.reporting.text import table


def text(sides: Sides) -> str:
    """A table for the terminal, and a line for every side that says why it was dropped or won."""
    reasons = [f"  {one.imgsz} px: {one.reason}" for one in sides.candidates]
    title = f"Input sides for {sides.asked_ms:.2f} ms a frame, mAP50-95 on val"
    return "\n".join([title, table(head(sides), [cells(one) for one in sides.candidates]), *reasons])


def head(sides: Sides) -> list[str]:
    """The names of the columns of :func:`cells`."""
    first = "1 epoch" if sides.first_epochs == 1 else f"{sides.first_epochs} epochs"
    return ["side", "build", "unpruned ms", "predicted ms", "measured ms", "MACs gone", first, f"{sides.epochs} epochs"]


def cells(one: Candidate) -> list[str]:
    """One side's figures."""
    times = (one.unpruned_ms, one.predicted_ms, one.measured_ms)
    return [
        f"{one.imgsz} px", one.build or "-", *[_shown(ms, "{:.2f}") for ms in times],
        _shown(one.macs_removed, "{:.0%}"), _shown(one.map50_95_first, "{:.4f}"), _shown(one.map50_95, "{:.4f}"),
    ]  # fmt: skip


def chart(sides: Sides) -> Markup | None:
    """Draw the accuracy of every side that was trained; the winner has a ring. None without any."""
    shown = [one for one in sides.candidates if one.map50_95_first is not None]
    if not shown:
        return None
    drawn = Chart(
        "mAP50-95 of every input side at the same frame rate; the table has the figures",
        x="input side (px)", y="mAP50-95 on val", height=320,
    )  # fmt: skip
    first = Series(name=f"after {head(sides)[-2]}", ink="control", symbol="circle", hollow=True)
    _draw(drawn, first, {one: one.map50_95_first for one in shown})
    last = Series(name=f"after {head(sides)[-1]}", ink="slim", symbol="diamond")
    _draw(drawn, last, {one: one.map50_95 for one in shown})
    best = next(one for one in sides.candidates if one.imgsz == sides.winner)
    if best.map50_95 is not None:
        drawn.rings(Series(name="winner", ink="fg", symbol="circle", hollow=True), [best.imgsz], [best.map50_95])
    return drawn.markup()


def _draw(drawn: Chart, series: Series, accuracies: Mapping[Candidate, float | None]) -> None:
    """Draw the sides that have an accuracy."""
    found = {one: value for one, value in accuracies.items() if value is not None}
    tips = [_tip(one, value) for one, value in found.items()]
    drawn.points(series, [one.imgsz for one in found], list(found.values()), tips)


def _tip(one: Candidate, map50_95: float) -> str:
    return f"{one.imgsz} px\nmAP50-95 {map50_95:.4f}\n{_shown(one.measured_ms, '{:.2f} ms')}\n{one.reason}"


def _shown(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)
