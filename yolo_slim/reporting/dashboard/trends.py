"""The trends of one cell: latency beside its reference, accuracy, raw latency, accuracy of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from yolo_slim.history.rows import Compared, Measurement, Run, Speed
from yolo_slim.history.statistics import change_points
from yolo_slim.reporting.charts.chart import Chart, Interval
from yolo_slim.reporting.charts.style import SERIES, Ink, Series, Symbol
from yolo_slim.reporting.dashboard.board import Board, CellHistory, status_of
from yolo_slim.reporting.dashboard.events import KINDS, Event

MARKS: dict[str, tuple[Ink, Symbol]] = {
    "worse": ("fail", "inverted_triangle"),
    "better": ("pass", "triangle"),
    "same": ("control", "circle"),
    "unknown": ("unproven", "diamond"),
}
"""Answer to its marker; the others are hollow circles."""
EVENT_MARKS: tuple[tuple[Ink, Symbol], ...] = (
    ("rival", "square"), ("violet", "hex"), ("sky", "plus"), ("yellow", "diamond"), ("fg", "star"),
    ("fail", "inverted_triangle"),
)  # fmt: skip
CLASSES = 7
"""Classes in their chart: those that moved most."""


@dataclass(frozen=True)
class Row:
    """One night of a trend."""

    run: Run
    time: int
    answer: str
    """Of this quantity; where it has none, of the whole cell."""
    value: float
    band: Interval
    text: str
    """The value with its interval."""


@dataclass(frozen=True)
class Trends:
    """The charts of one cell."""

    speed: Markup | None
    accuracy: Markup | None
    latency: Markup | None
    classes: Markup | None


def trends(board: Board, history: CellHistory, events: Sequence[Event]) -> Trends:
    """Draw all trends; None where no night has the figures."""
    speed = [row for run in history.measured if (row := _speed(board, run))]
    accuracy = [row for run in history.measured if (row := _accuracy(board, run))]
    return Trends(
        speed=_trend(board, speed, events, "latency against baseline (%)", zero=True),
        accuracy=_trend(board, accuracy, events, "mAP50-95", zero=False),
        latency=_latency(board, history.measured),
        classes=_classes(board, history.measured),
    )


def _speed(board: Board, run: Run) -> Row | None:
    """A night's change of latency with its interval, percent."""
    compared = run.judgement.speed if run.judgement else None
    if compared is None:
        return None
    low, value, high = (100 * one for one in (compared.lowest, compared.change, compared.highest))
    text = f"latency {value:+.1f} % ({low:+.1f} to {high:+.1f})"
    return Row(run, board.times[run.night], _answer(run, compared), value, (low, high), text)


def _accuracy(board: Board, run: Run) -> Row | None:
    """A night's mAP50-95; its interval is that of the difference from the baseline."""
    if run.measurement is None:
        return None
    value, compared = run.measurement.accuracy.map50_95, run.judgement.accuracy if run.judgement else None
    low, high = (compared.lowest - compared.change, compared.highest - compared.change) if compared else (0.0, 0.0)
    text = f"mAP50-95 {value:.4f}{f' ({compared.change:+.4f})' if compared else ''}"
    return Row(run, board.times[run.night], _answer(run, compared), value, (value + low, value + high), text)


def _answer(run: Run, compared: Compared | None) -> str:
    """What a night says of one quantity."""
    excluded = run.judgement is not None and run.judgement.status not in MARKS
    return status_of(run) if compared is None or excluded else compared.answer


def _trend(board: Board, rows: Sequence[Row], events: Sequence[Event], unit: str, *, zero: bool) -> Markup | None:
    """One value over the nights: interval, line, answers, changes of level, events at the lower edge."""
    if not rows:
        return None
    text = f"{unit} over {len(rows)} nights; the table of nights has the figures"
    chart = Chart(text, x="night (UTC)", y=unit, height=360, time=True)
    times, values = [row.time for row in rows], [row.value for row in rows]
    low, high = around([edge for row in rows for edge in (*row.band, row.value)])
    chart.show(y=(low, high))
    chart.band(
        Series(name="95 % interval", ink="control", symbol="band"),
        times,
        *zip(*(row.band for row in rows), strict=True),
    )
    chart.line(Series(name="line", ink="control", symbol="line"), times, values, width=1.2)
    if zero:
        chart.limit(Series(name="baseline level", ink="soft", symbol="line"), y=0.0, dash="dotted")
    _draw_answers(board, chart, rows)
    draw_levels(chart, times, values)
    draw_events(board, chart, events, (low, high))
    return chart.markup()


LEVEL = Series(name="level changed", ink="fg", symbol="line")


def levels_are_dated() -> bool:
    """Whether the optional package that dates changes of level is installed."""
    try:
        change_points([])
    except ImportError:
        return False
    return True


def draw_levels(chart: Chart, times: Sequence[int], values: Sequence[float]) -> None:
    """Draw a line where each new level of the values begins, if that can be told."""
    for index in change_points(values) if levels_are_dated() else ():
        chart.limit(LEVEL, x=times[index])


def _draw_answers(board: Board, chart: Chart, rows: Sequence[Row]) -> None:
    """One series an answer."""
    for status in dict.fromkeys(row.answer for row in rows):
        ink, symbol = MARKS.get(status, ("rival", "circle"))
        series = Series(name=status, ink=ink, symbol=symbol, hollow=status not in MARKS)
        own = [row for row in rows if row.answer == status]
        size = 11 if status in ("worse", "better") else 5
        tips = [f"{_when(board, row.run)}: {row.answer}\n{row.text}" for row in own]
        chart.points(series, [row.time for row in own], [row.value for row in own], tips, size=size)


def draw_events(board: Board, chart: Chart, events: Sequence[Event], shown: Interval) -> None:
    """Put events at the lower edge of what the chart shows: one series a kind, one marker a night."""
    y = shown[0] + 0.03 * (shown[1] - shown[0])
    for kind, (ink, symbol) in zip(KINDS, EVENT_MARKS, strict=True):
        by_night: dict[int, list[str]] = {}
        for event in events:
            if event.kind == kind:
                by_night.setdefault(event.night, []).append(event.text)
        if by_night:
            tips = [f"night {number}, {kind}\n{chr(10).join(texts)}" for number, texts in by_night.items()]
            times = [board.times[number] for number in by_night]
            chart.points(Series(name=kind, ink=ink, symbol=symbol), times, [y] * len(times), tips, size=9)


def _when(board: Board, run: Run) -> str:
    return f"night {run.night}, {board.night[run.night].started_at[:10]}"


def tip(board: Board, run: Run) -> str:
    """Everything that a night says of a cell."""
    lines = [f"{_when(board, run)}: {status_of(run)}"]
    if run.measurement:
        lines.append(f"mAP50-95 {run.measurement.accuracy.map50_95:.4f}")
        if speed := run.measurement.shown_speed:
            lines.append(f"{speed.fps:.1f} FPS, p50 {speed.p50_ms:.2f} ms")
        lines += [f"invalid: {reason}" for reason in run.measurement.speed.invalid_reasons]
    if run.judgement and run.judgement.speed:
        lines.append(f"latency {run.judgement.speed.change:+.1%} against the baseline")
    if run.judgement and run.judgement.device_changed and run.judgement.device_change is not None:
        lines.append(f"the device itself changed: reference {run.judgement.device_change:+.1%}")
    return "\n".join(lines)


def _latency(board: Board, runs: Sequence[Run]) -> Markup | None:
    """Raw latency of the bundle and of its reference: it tells a slow device from a slow bundle."""
    measured = [(run, run.measurement.shown_speed) for run in runs if run.measurement]
    found = [(run, board.times[run.night], speed) for run, speed in measured if speed]
    if not found:
        return None
    text = "Raw latency of the bundle and of the reference, milliseconds, over all nights"
    chart = Chart(text, x="night (UTC)", y="end to end (ms)", height=320, time=True)
    times = [time for _, time, _ in found]
    chart.band(
        Series(name="p50 to p90", ink="slim", symbol="band"),
        times, [speed.p50_ms for *_, speed in found], [speed.p90_ms for *_, speed in found],
    )  # fmt: skip
    bundle = Series(name="bundle, p50", ink="slim", symbol="line")
    values = [speed.p50_ms for *_, speed in found]
    chart.line(bundle, times, values, width=1.4)
    tips = [f"{_when(board, run)}\n{_milliseconds(speed)}" for run, _, speed in found]
    chart.points(bundle, times, values, tips, size=4)
    timed = [(time, speed.reference_p50_ms) for _, time, speed in found if speed.reference_p50_ms]
    if timed:
        reference = Series(name="reference, p50", ink="control", symbol="line")
        when, medians = zip(*timed, strict=True)
        chart.line(reference, when, medians, width=1.4)
        # A single night is a point, and no line.
        tips = [f"{_when(board, run)}\n{_milliseconds(speed)}" for run, _, speed in found if speed.reference_p50_ms]
        chart.points(reference, when, medians, tips, size=4)
    return chart.markup()


def _milliseconds(speed: Speed) -> str:
    beside = "" if speed.reference_p50_ms is None else f", reference {speed.reference_p50_ms:.2f} ms"
    return "\n".join(
        [f"p50 {speed.p50_ms:.2f} ms{beside}", *(f"doesn't count: {reason}" for reason in speed.invalid_reasons)]
    )


def _classes(board: Board, runs: Sequence[Run]) -> Markup | None:
    """AP50-95 of the classes that moved most between the lowest and the highest night."""
    measured = [(board.times[run.night], run.measurement) for run in runs if run.measurement]
    names = measured[-1][1].accuracy.names if measured else {}
    series = {class_id: _class_rows(measured, class_id) for class_id in names}
    moved = sorted(
        (class_id for class_id, rows in series.items() if rows),
        key=lambda one: min(value for _, value in series[one]) - max(value for _, value in series[one]),
    )
    if not moved:
        return None
    chart = Chart(
        "AP50-95 of the classes that moved most, over all nights; the table has all classes",
        x="night (UTC)", y="AP50-95", height=320, time=True,
    )  # fmt: skip
    for class_id, ink in zip(moved[:CLASSES], SERIES, strict=False):
        times, values = zip(*series[class_id], strict=True)
        one = Series(name=names[class_id], ink=ink, symbol="line")
        chart.line(one, times, values, width=1.4)
        chart.points(one, times, values, [f"{names[class_id]} {value:.4f}" for value in values], size=3)
    return chart.markup()


def _class_rows(measured: Sequence[tuple[int, Measurement]], class_id: int) -> list[tuple[int, float]]:
    per_class = [(time, found.accuracy.per_class.get(class_id)) for time, found in measured]
    return [(time, found.ap50_95) for time, found in per_class if found]


def around(values: Sequence[float]) -> Interval:
    """An axis with space around all values, and room for the events at its lower edge."""
    low, high = min(values), max(values)
    pad = 0.12 * (high - low) or 0.01
    return low - 1.6 * pad, high + pad
