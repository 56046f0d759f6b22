"""One device through all nights: its own speed, its cells, what changed on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup

from yolo_slim.history.rows import Run, Speed
from yolo_slim.reporting.charts.chart import Chart
from yolo_slim.reporting.charts.style import SERIES, Ink, Series
from yolo_slim.reporting.dashboard.board import Board, CellHistory
from yolo_slim.reporting.dashboard.drift import device_latency
from yolo_slim.reporting.dashboard.events import Event
from yolo_slim.reporting.dashboard.trends import around, draw_events, draw_levels


@dataclass(frozen=True)
class Device:
    """What a device's page shows."""

    moved: Markup | None
    """The references' own latency: it moves where the device does."""
    fps: Markup | None
    events: list[Event]
    environment: Mapping[str, str]
    """In the last measured night."""


def device(board: Board, cells: Sequence[CellHistory], found: Mapping[str, Sequence[Event]]) -> Device:
    """Put a device's page together."""
    unique = dict.fromkeys(e for one in cells for e in found[one.cell.name] if e.kind == "device, SDKs")
    events = board.newest_first(unique, lambda event: event.night)
    runs = board.newest_first((run for one in cells for run in one.measured), lambda run: run.night)
    return Device(
        moved=_moved(board, cells, events),
        fps=_fps(board, cells, events),
        events=events,
        environment=runs[0].environment if runs else {},
    )


def _moved(board: Board, cells: Sequence[CellHistory], events: Sequence[Event]) -> Markup | None:
    """The change of the reference's latency against its earlier nights, a line a cell."""
    known = [(one, rows) for one in cells if (rows := _device_changes(one))]
    if not known:
        return None
    chart = Chart(
        "Change of the references' own latency against earlier nights: the device itself",
        x="night (UTC)", y="reference against earlier nights (%)", height=340, time=True,
    )  # fmt: skip
    shown = around([value for _, rows in known for _, value, _ in rows])
    chart.show(y=shown)
    for (one, rows), ink in zip(known, cycle(SERIES), strict=False):
        times, values = [board.times[night] for night, *_ in rows], [value for _, value, _ in rows]
        chart.line(Series(name=_short(one), ink=ink, symbol="line"), times, values, width=1.2)
        changed = [(night, value) for night, value, is_changed in rows if is_changed]
        chart.points(
            Series(name="device changed", ink="fail", symbol="diamond"),
            [board.times[night] for night, _ in changed], [value for _, value in changed],
            [f"night {night}\n{_short(one)}\nreference {value:+.1f} %" for night, value in changed], size=9,
        )  # fmt: skip
    nights, latency = device_latency((run for one in cells for run in one.measured), list(board.night))
    draw_levels(chart, [board.times[night] for night in nights], latency)
    draw_events(board, chart, events, shown)
    return chart.markup()


def _device_changes(one: CellHistory) -> list[tuple[int, float, bool]]:
    """Night, change of the reference's latency against earlier nights (%), and whether the night calls it a change."""
    found = [(run.night, run.judgement) for run in one.measured if run.judgement]
    return [
        (night, 100 * judged.device_change, judged.device_changed)
        for night, judged in found
        if judged.device_change is not None
    ]


def _fps(board: Board, cells: Sequence[CellHistory], events: Sequence[Event]) -> Markup | None:
    """Frames per second of every cell."""
    measured = [(one, [(run, run.measurement.shown_speed) for run in one.measured if run.measurement]) for one in cells]
    measured = [(one, [(run, speed) for run, speed in runs if speed]) for one, runs in measured]
    if not any(runs for _, runs in measured):
        return None
    chart = Chart(
        "Frames per second of every cell of the device, over all nights",
        x="night (UTC)", y="frames per second, end to end (FPS)", height=380, time=True,
    )  # fmt: skip
    low, high = around([speed.fps for _, runs in measured for _, speed in runs if speed])
    shown = max(0.0, low), high
    chart.show(y=shown)
    for (one, runs), ink in zip(measured, cycle(SERIES), strict=False):
        rows = [(run, speed) for run, speed in runs if speed]
        _draw_fps(board, chart, one, [row for row in rows if not row[1].invalid_reasons], _line(one, ink))
        _draw_fps(board, chart, one, [row for row in rows if row[1].invalid_reasons], INVALID)
    draw_events(board, chart, events, shown)
    return chart.markup()


INVALID = Series(name="doesn't count", ink="fail", symbol="circle", hollow=True)
"""Timings of a throttled or busy device: no line leads through them."""


def _line(one: CellHistory, ink: Ink) -> Series:
    return Series(name=_short(one), ink=ink, symbol="line")


def _draw_fps(board: Board, chart: Chart, one: CellHistory, rows: Sequence[tuple[Run, Speed]], series: Series) -> None:
    """Draw some nights of one cell, with a line if that is what its symbol says."""
    if not rows:
        return
    times, values = [board.times[run.night] for run, _ in rows], [speed.fps for _, speed in rows]
    tips = [
        "\n".join((f"night {run.night}", one.cell.name, f"{speed.fps:.1f} FPS", *speed.invalid_reasons))
        for run, speed in rows
    ]
    is_line = series.symbol == "line"
    if is_line:
        chart.line(series, times, values, width=1.2)
    chart.points(series, times, values, tips, size=3 if is_line else 7)


def _short(one: CellHistory) -> str:
    """A cell's name without its device."""
    cell = one.cell
    return "/".join((cell.model, cell.data, cell.settings, cell.build))
