"""A latency table for people: the terminal's summary, and a page with its charts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from markupsafe import Markup

from yolo_slim.backends.layers import LayerKind
from yolo_slim.measuring.latency import LatencyTable, unlike_network
from yolo_slim.measuring.layer_grids import LayerGrid
from yolo_slim.reporting.charts.chart import Chart
from yolo_slim.reporting.charts.style import SYMBOLS, Ink, Series
from yolo_slim.reporting.pages import environment
from yolo_slim.reporting.text import table

TEMPLATE = Path(__file__).with_name("latency.html.j2")
INKS: tuple[Ink, ...] = ("control", "slim", "rival", "fg", "soft")
SHOWN = 6
"""Kinds of convolution in the chart of widths: those with the most time."""


def text(tables: Sequence[LatencyTable]) -> str:
    """Write a line for every build, and what must be known of the figures."""
    head = ["build", "inference ms", "frame ms", "FPS", "layers timed", "networks", "error, median", "worst"]
    lines = [table(head, [_cells(one) for one in tables])]
    for one in tables:
        lines += remarks(one)
    return "\n".join(dict.fromkeys(lines))


def _cells(one: LatencyTable) -> list[str]:
    error, layers = one.error, str(sum(map(_timed, one.grids))) if one.times_layers else "counted"
    return [
        str(one.build), f"{one.control_ms:.2f}", f"{one.control_frame_ms:.2f}", f"{1000 / one.control_frame_ms:.1f}",
        layers, str(len(one.networks)), f"{error.median:.1%}", f"{error.worst:.1%}",
    ]  # fmt: skip


def _timed(grid: LayerGrid) -> int:
    return len(grid.inputs) * len(grid.outputs) + len(grid.fine_inputs) + len(grid.fine_outputs)


def remarks(one: LatencyTable) -> list[str]:
    """Say what a reader must know of the figures, one fact a line."""
    lines = [
        f"The unpruned network{one.exchanged} at {one.imgsz} px on {one.machine.model}, {one.threads} threads, "
        f"{one.measured_at}.",
        f"The error is that of {one.error.networks} cut networks that the table wasn't fitted to.",
    ]
    lines += unlike_network(one)
    if not one.is_measured_on_target:
        lines.append(f"{one.machine.model} isn't the target {one.target}: the milliseconds there are unproven.")
    if one.invalid_reasons:
        lines.append(f"{one.build}: timings that don't count: {'; '.join(one.invalid_reasons)}.")
    return lines


def render(tables: Sequence[LatencyTable]) -> str:
    """Make the page of all builds; it loads nothing from elsewhere."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    shown = [
        {"table": one, "error": one.error, "networks": _networks_chart(one),
         "widths": _widths_chart(one) if one.times_layers else None, "remarks": remarks(one)}
        for one in tables
    ]  # fmt: skip
    return template.render(tables=shown, first=tables[0])


def _networks_chart(one: LatencyTable) -> Markup:
    """Draw what whole networks were predicted and measured to take."""
    chart = Chart(
        "Predicted against measured milliseconds of whole networks", x="measured inference (ms)",
        y="predicted inference (ms)", height=380,
    )  # fmt: skip
    edge = [0.0, 1.05 * max(network.ms for network in one.networks)]
    chart.line(Series(name="equal", ink="soft", symbol="line"), edge, edge, dash="dotted")
    for role, name, ink in (("fit", "fitted to", "control"), ("check", "not seen", "slim")):
        found = [network for network in one.networks if network.role == role]
        predicted = [one.fit.ms(network.load) for network in found]
        tips = [
            f"{network.name}\nmeasured {network.ms:.2f} ms\npredicted {ms:.2f} ms ({ms / network.ms - 1:+.1%})"
            for network, ms in zip(found, predicted, strict=True)
        ]
        series = Series(name=name, ink=ink, symbol="circle" if role == "fit" else "diamond")  # type: ignore[arg-type]
        chart.points(series, [network.ms for network in found], predicted, tips)
    return chart.markup()


def _widths_chart(one: LatencyTable) -> Markup:
    """Draw the milliseconds of the dearest kinds over their output width."""
    chart = Chart(
        "Milliseconds of single convolutions over their output width, with as many inputs as the network has at most",
        x="output channels", y="milliseconds", height=420,
    )  # fmt: skip
    dearest = sorted(one.grids, key=lambda grid: -max(map(max, grid.ms)))[:SHOWN]
    for grid, symbol, ink in zip(dearest, cycle(SYMBOLS), cycle(INKS), strict=False):
        widths = np.array(sorted({*grid.outputs, *grid.fine_outputs}), dtype=float)
        ms = grid.ms_at(np.full_like(widths, grid.inputs[-1]), widths).tolist()
        series = Series(name=str(grid.kind), ink=ink, symbol=symbol)
        chart.line(series, widths.tolist(), ms, width=1.5)
        tips = [_tip(grid.kind, width, value) for width, value in zip(widths, ms, strict=True)]
        chart.points(series, widths.tolist(), ms, tips, size=8)
    return chart.markup()


def _tip(kind: LayerKind, width: float, ms: float) -> str:
    return f"{kind}\n{width:.0f} channels\n{ms:.3f} ms"
