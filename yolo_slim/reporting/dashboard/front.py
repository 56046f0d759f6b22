"""Accuracy against speed of all cells in the last night, with the Pareto front and where each cell came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup

from yolo_slim.reporting.charts.chart import Chart
from yolo_slim.reporting.charts.style import SERIES, SIGNS, SYMBOLS, Series, Symbol
from yolo_slim.reporting.dashboard.board import Board, CellHistory
from yolo_slim.reporting.dashboard.trends import tip

ONE_VALUE = 0.02
"""Half of the axis of mAP50-95 where all cells have the same."""


@dataclass(frozen=True)
class Place:
    """A cell in the chart."""

    history: CellHistory
    fps: float
    map50_95: float
    valid: bool
    before: tuple[float, float] | None
    """The reference's FPS in the same minutes, and its mAP50-95."""


def fronts(board: Board) -> dict[str, Markup]:
    """One chart a data set: accuracies on different data can't be compared."""
    found: dict[str, list[Place]] = {}
    for history in board.cells:
        if place := _place(history):
            found.setdefault(history.cell.data, []).append(place)
    return {data: _front(board, places) for data, places in found.items()}


def _place(history: CellHistory) -> Place | None:
    """Where the last measured run is; None: there is none, or its device is emulated."""
    if not history.measured:
        return None
    run = history.measured[-1]
    measurement, judgement = run.measurement, run.judgement
    speed = measurement.shown_speed if measurement else None
    if measurement is None or speed is None:
        return None
    found = measurement.accuracy.map50_95
    before = None
    if speed.reference_p50_ms and judgement and judgement.accuracy:
        before = (1000 / speed.reference_p50_ms, found - judgement.accuracy.change)
    return Place(history, speed.fps, found, not speed.invalid_reasons, before)


def symbols(board: Board) -> dict[str, Symbol]:
    """The marker of every build."""
    return dict(zip(dict.fromkeys(one.cell.build for one in board.cells), cycle(SYMBOLS), strict=False))


def legend(board: Board) -> str:
    """What the markers mean."""
    return ", ".join(f"{SIGNS[symbol]} {build}" for build, symbol in symbols(board).items())


def _front(board: Board, places: Sequence[Place]) -> Markup:
    chart = Chart(
        "mAP50-95 against frames per second of every cell in its last night; the table of cells has the figures",
        x="frames per second, end to end (FPS)", y="mAP50-95", height=440,
    )  # fmt: skip
    values = [place.map50_95 for place in places]
    if min(values) == max(values):
        # An axis of the library's own around one value reaches below zero.
        chart.show(y=(values[0] - ONE_VALUE, values[0] + ONE_VALUE))
    inks = dict(zip(board.devices, cycle(SERIES), strict=False))
    for target, ink in inks.items():
        own = [place for place in places if place.history.cell.target == target]
        front = pareto([(place.fps, place.map50_95) for place in own if place.valid])
        if len(front) > 1:
            chart.line(Series(name=f"{target}: Pareto front", ink=ink, symbol="line"), *zip(*front, strict=True),
                       dash="dashed", width=1.4)  # fmt: skip
        for place in own:
            _draw(board, chart, place, Series(name=target, ink=ink))
    return chart.markup()


def _draw(board: Board, chart: Chart, place: Place, series: Series) -> None:
    """One cell, and a line from where its baseline is tonight."""
    cell = place.history.cell
    if place.before:
        chart.line(series, [place.before[0], place.fps], [place.before[1], place.map50_95], width=1.2, tag=cell.name)
    own = Series(name=series.name, ink=series.ink, symbol=symbols(board)[cell.build], hollow=not place.valid)
    text = f"{cell.name}\n{tip(board, place.history.measured[-1])}"
    chart.points(own, [place.fps], [place.map50_95], [text], size=13, tag=cell.name)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one beats in both values, by the first value."""
    found: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found[::-1]
