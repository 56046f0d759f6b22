"""The charts of the report, of a comparison and of block costs; a table beside each has the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from yolo_slim.build_key import BuildKey
from yolo_slim.devices.answers import Bench
from yolo_slim.measuring.block_costs import MeasuredBlock
from yolo_slim.reporting.charts.chart import Chart, Interval
from yolo_slim.reporting.charts.style import SYMBOLS, Ink, Series
from yolo_slim.runtime.sustained import Point
from yolo_slim.verdict.result import Build

BINS = 96
MAP, FPS = "mAP50-95", "frames per second, end to end (FPS)"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point of :func:`accuracy_vs_latency` with its spread."""

    name: str
    kind: Literal["control", "slim", "rival"]
    """For the colour."""
    x: float
    """Latency, milliseconds."""
    x_range: Interval
    y: float
    """mAP50-95."""
    y_range: Interval
    ringed: bool
    """It is on the frontier."""
    hollow: bool
    """Its timing doesn't count."""


def accuracy_vs_latency(marks: Sequence[Mark]) -> Markup | None:
    """Draw all marks with their spreads and the frontier's line; None without any."""
    if not marks:
        return None
    chart = Chart(
        f"{MAP} against latency of every method; the table below has the figures",
        x="latency of one frame, end to end, median (ms)",
        y=MAP,
        height=440,
    )
    chart.show(
        x=_from_zero([edge for mark in marks for edge in (*mark.x_range, mark.x)]),
        y=_padded([edge for mark in marks for edge in mark.y_range]),
    )
    front = sorted((mark.x, mark.y) for mark in marks if mark.ringed)
    frontier = Series(name="on the frontier", ink="soft", symbol="line")
    if front:
        chart.line(frontier, *zip(*front, strict=True), dash="dotted")
    for mark, symbol in zip(marks, cycle(SYMBOLS), strict=False):
        series = Series(name=mark.name, ink=mark.kind, symbol=symbol, hollow=mark.hollow)
        chart.spread(series, [mark.x_range, (mark.x, mark.x)], [(mark.y, mark.y), mark.y_range])
        chart.points(series, [mark.x], [mark.y], [_mark_tip(mark)], size=13)
    return chart.markup()


def _mark_tip(mark: Mark) -> str:
    lines = [
        mark.name,
        f"{MAP} {mark.y:.4f} ({mark.y_range[0]:.4f} to {mark.y_range[1]:.4f} over the seeds)",
        f"{mark.x:.2f} ms ({mark.x_range[0]:.2f} to {mark.x_range[1]:.2f}: middle half of the rounds)",
    ]
    lines += ["on the frontier"] if mark.ringed else []
    return "\n".join([*lines, *(["the timing is invalid"] if mark.hollow else [])])


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the target; None: not drawn."""

    min_fps: float | None = None
    min_map: float | None = None
    """Least mAP50-95."""


def accuracy_vs_fps(builds: Sequence[Build], winner: BuildKey | None, limits: Limits) -> Markup | None:
    """Draw all timed builds; None without any.

    Builds of one runtime and precision have one symbol, joined by a line from the control to the slim build. The winner
    has a ring, an invalid timing is hollow.
    """
    shown = [(build.key, build.bench, build.map50_95) for build in builds if build.bench and build.map50_95 is not None]
    if not shown:
        return None
    chart = Chart(f"{MAP} against frames per second of every build; the table below has the figures", x=FPS, y=MAP)
    chart.show(
        x=_from_zero([*(bench.fps for _, bench, _ in shown), limits.min_fps or 0.0]),
        y=_padded([*(found for _, _, found in shown), *([] if limits.min_map is None else [limits.min_map])]),
    )
    symbols = dict(zip(dict.fromkeys(key.build for key, _, _ in shown), cycle(SYMBOLS), strict=False))
    _draw_limits(chart, limits)
    for key, bench, found in shown:
        series = Series(name=str(key), ink="slim" if key.is_slim else "control", symbol=symbols[key.build],
                        hollow=not bench.is_valid)  # fmt: skip
        pairs = [(b.fps, m) for k, b, m in shown if key.is_slim and k == BuildKey("control", key.build)]
        for x, y in pairs:
            chart.line(series, [x, bench.fps], [y, found], dash="dotted", width=1.5)
        chart.points(series, [bench.fps], [found], [_build_tip(key, bench, found)], size=14)
        if key == winner:
            chart.rings(replace(series, name="winner", ink="fg", symbol="circle", hollow=True), [bench.fps], [found])
    return chart.markup()


def _build_tip(key: BuildKey, bench: Bench, map50_95: float) -> str:
    lines = [str(key), f"{MAP} {map50_95:.4f}", f"{bench.fps:.1f} FPS ({1000 / bench.fps:.2f} ms)"]
    return "\n".join([*lines, *(["the timing is invalid"] if not bench.is_valid else [])])


def _draw_limits(chart: Chart, limits: Limits) -> None:
    if limits.min_map is not None:
        chart.limit(Series(name="accuracy limit", ink="fg", symbol="line"), y=limits.min_map)
    if limits.min_fps is not None:
        chart.limit(Series(name="FPS limit", ink="fg", symbol="line"), x=limits.min_fps)


def cost_against_gain(rows: Sequence[MeasuredBlock]) -> Markup:
    """Draw the mAP50-95 that each block costs against the milliseconds that it saves.

    A horizontal line spans the middle half of the rounds' gains.
    """
    chart = Chart(
        f"{MAP} lost against milliseconds gained by every block; the table below has the figures",
        x="milliseconds gained per image",
        y=f"{MAP} lost",
        height=460,
    )
    blocks, zero = Series(name="blocks", ink="slim"), Series(name="no gain, no loss", ink="fg", symbol="line")
    xs, ys = [row.ms_gain for row in rows], [row.map_cost for row in rows]
    chart.limit(zero, x=0.0)
    chart.limit(zero, y=0.0)
    chart.spread(blocks, [row.round_ms.middle_half for row in rows], [(y, y) for y in ys])
    chart.points(blocks, xs, ys, [f"{row.name}\n{row.map_cost:+.4f} {MAP} lost\n{row.ms_gain:+.3f} ms" for row in rows])
    kept = _cheapest(rows)
    chart.labels([row.ms_gain for row in kept], [row.map_cost for row in kept], [row.name for row in kept])
    return chart.markup()


def _cheapest(rows: Sequence[MeasuredBlock]) -> list[MeasuredBlock]:
    """The blocks that no other one beats in both figures."""
    found: list[MeasuredBlock] = []
    for row in sorted(rows, key=lambda one: (-one.ms_gain, one.map_cost)):
        if not found or row.map_cost < found[-1].map_cost:
            found.append(row)
    return found


def latency_histogram(builds: Sequence[Build]) -> Markup:
    """Draw one histogram per build with all raw samples, all on one axis of milliseconds.

    Args:
        builds: timed builds.
    """
    series = [(build.key, np.asarray(build.bench.samples_ms.total)) for build in builds if build.bench]
    # Up to p99.5 only, because one slow frame would squeeze all other bars together.
    end = max(float(np.percentile(samples, 99.5)) for _, samples in series) * 1.08 + 1e-6
    edges = np.linspace(0, end, BINS + 1)
    tallest = max(float(_shares(edges, samples).max()) for _, samples in series)
    return Markup("").join(_histogram(key, samples, edges, tallest * 1.05) for key, samples in series)


def fps_over_time(points: Sequence[Point]) -> Markup:
    """Frames per second of a sustained run, minute by minute, from 0 up."""
    minutes, fps = [point.seconds / 60 for point in points], [point.fps for point in points]
    chart = Chart("Frames per second over time, from 0 up", x="minutes", y="FPS", height=260)
    chart.show(y=(0.0, 1.08 * max(fps)))
    series = Series(name="frames per second", ink="slim", symbol="line")
    tips = [f"{at:.1f} minutes\n{value:.1f} FPS" for at, value in zip(minutes, fps, strict=True)]
    chart.line(series, minutes, fps)
    chart.points(series, minutes, fps, tips, size=5)
    return chart.markup()


def _histogram(key: BuildKey, samples: NDArray[np.float64], edges: NDArray[np.float64], top: float) -> Markup:
    """One build's histogram with its median and p99."""
    ink: Ink = "slim" if key.is_slim else "control"
    text, shares = _frames(key, samples, float(edges[-1])), _shares(edges, samples)
    chart = Chart(text, x="latency of one frame, end to end (ms)", y="share of frames (%)", height=210)
    chart.show(x=(0.0, float(edges[-1])), y=(0.0, top))
    tips = [
        f"{a:.2f} to {b:.2f} ms\n{share:.1f} % of the frames"
        for (a, b), share in zip(pairwise(edges), shares, strict=True)
    ]
    chart.bars(Series(name=str(key), ink=ink, symbol="square"), edges.tolist(), shares.tolist(), tips)
    for name, value, dash in zip(("p50", "p99"), np.percentile(samples, [50, 99]), ("solid", "dotted"), strict=True):
        if value <= edges[-1]:
            chart.limit(Series(name=f"{name} {value:.2f} ms", ink="fg", symbol="line"), x=float(value), dash=dash)
    return Markup("<p class='axis'>{}</p>").format(text) + chart.markup()


def _frames(key: BuildKey, samples: NDArray[np.float64], end: float) -> str:
    """What a histogram shows, in words."""
    p50, p99 = (float(v) for v in np.percentile(samples, [50, 99]))
    slower = int((samples > end).sum())
    more = f" ({slower} in the last bar)" if slower else ""
    return f"{key}: {len(samples)} frames, p50 {p50:.2f} ms, p99 {p99:.2f} ms, slowest {samples.max():.2f} ms{more}"


def _shares(edges: NDArray[np.float64], samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each bar's share of the samples in percent; the last bar contains all slower ones too."""
    counts = np.histogram(np.minimum(samples, edges[-1]), edges)[0]
    return 100.0 * counts / len(samples)


def _from_zero(values: Sequence[float]) -> Interval:
    """An axis from 0 with some space at its end."""
    return 0.0, max(values) * 1.12


def _padded(values: Sequence[float]) -> Interval:
    """An axis of accuracies with some space around them."""
    # Never 0: equal accuracies would give an axis without length.
    pad = max(0.25 * (max(values) - min(values)), 0.005)
    return max(0.0, min(values) - pad), max(values) + pad
