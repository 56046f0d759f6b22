"""The report's drawings as inline SVG, coloured by the page's own CSS variables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from yolo_slim.build_key import BuildKey
from yolo_slim.measuring.block_costs import MeasuredBlock
from yolo_slim.runtime.sustained import Point
from yolo_slim.verdict.result import Build

WIDTH, LEFT, RIGHT = 760, 64, 744
BINS = 96
CHARACTER_PX = 6.7
"""Mean width of a 12 px sans-serif character, to keep labels apart."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear scale from values to pixels."""

    low: float
    high: float
    start: float
    """Pixel of ``low``."""
    end: float
    """Pixel of ``high``."""

    def px(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values inside the axis: steps of 1, 2, 2.5 or 5 times a power of ten."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        # The tolerances keep ticks that float arithmetic puts just outside the axis.
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point of :func:`accuracy_vs_latency` with its spread."""

    name: str
    kind: str
    """``control``, ``slim`` or ``rival``, for the colour; controls are round."""
    x: float
    """Latency, milliseconds."""
    x_range: tuple[float, float]
    y: float
    """mAP50-95."""
    y_range: tuple[float, float]
    ringed: bool
    """It is on the frontier."""
    hollow: bool
    """Its timing doesn't count."""


def accuracy_vs_latency(marks: Sequence[Mark]) -> Markup | None:
    """Draw all marks with their spreads and the frontier's line; None without any."""
    if not marks:
        return None
    height = 420
    xs = [edge for mark in marks for edge in (*mark.x_range, mark.x)]
    ys = [edge for mark in marks for edge in mark.y_range]
    # Never 0: equal accuracies would give an axis without length.
    pad = max(0.12 * (max(ys) - min(ys)), 0.005)
    x = Axis(low=0, high=max(xs) * 1.08, start=LEFT, end=RIGHT)
    y = Axis(low=max(0.0, min(ys) - pad), high=max(ys) + pad, start=height - 52, end=30)
    points = [(x.px(mark.x), y.px(mark.y)) for mark in marks]
    best = sorted(point for mark, point in zip(marks, points, strict=True) if mark.ringed)
    parts = [_grid(x, y, "latency of one frame, end to end, median (ms)", "mAP50-95")]
    parts += [_line(a[0], b[0], a[1], b[1], "link") for a, b in pairwise(best)]
    parts += [_spread(mark, x, y) for mark in marks]
    parts += [_shape(mark.kind, *point, ringed=mark.ringed, hollow=mark.hollow)
              for mark, point in zip(marks, points, strict=True)]  # fmt: skip
    parts += _labels([mark.name for mark in marks], points)
    return _svg(Markup("").join(parts), height, "mAP50-95 against latency of every method")


def _spread(mark: Mark, x: Axis, y: Axis) -> Markup:
    """Draw a mark's error bars: accuracy over the seeds, latency over the middle half of the rounds."""
    px, py = x.px(mark.x), y.px(mark.y)
    across = _line(x.px(mark.x_range[0]), x.px(mark.x_range[1]), py, py, "spread")
    return across + _line(px, px, y.px(mark.y_range[0]), y.px(mark.y_range[1]), "spread")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the target; None: not drawn."""

    min_fps: float | None = None
    min_map: float | None = None
    """Least mAP50-95."""


def accuracy_vs_fps(builds: Sequence[Build], winner: BuildKey | None, limits: Limits) -> Markup | None:
    """Draw the scatter plot of all timed builds; None without any.

    Control is a circle, slim a square, an invalid timing is hollow, the winner has a ring. A dashed line joins the
    control to the slim build of the same runtime.
    """
    shown = [(build.key, build.bench, build.map50_95) for build in builds if build.bench and build.map50_95 is not None]
    if not shown:
        return None
    height = 380
    fps, maps = [bench.fps for _, bench, _ in shown], [found for _, _, found in shown]
    ys = [*maps, *([] if limits.min_map is None else [limits.min_map])]
    pad = max(0.25 * (max(ys) - min(ys)), 0.005)
    x = Axis(low=0, high=max([*fps, limits.min_fps or 0]) * 1.12, start=LEFT, end=RIGHT)
    y = Axis(low=max(0.0, min(ys) - pad), high=max(ys) + pad, start=height - 52, end=30)
    points = [(x.px(f), y.px(m)) for f, m in zip(fps, maps, strict=True)]
    parts = [_grid(x, y, "frames per second, end to end (FPS)", "mAP50-95"), *_limits(x, y, limits)]
    parts += _links({key: point for (key, _, _), point in zip(shown, points, strict=True)})
    parts += [
        _shape(key.model, *point, ringed=key == winner, hollow=not bench.is_valid)
        for (key, bench, _), point in zip(shown, points, strict=True)
    ]
    parts += _labels([str(key) for key, _, _ in shown], points)
    return _svg(Markup("").join(parts), height, "mAP50-95 against frames per second of every build")


def _limits(x: Axis, y: Axis, limits: Limits) -> list[Markup]:
    """Draw the target's limits."""
    parts = []
    if limits.min_map is not None:
        py = y.px(limits.min_map)
        parts.append(_limit(LEFT, RIGHT, py, py, "accuracy limit", RIGHT - 4, py + 15))
    if limits.min_fps is not None:
        px = x.px(limits.min_fps)
        parts.append(_limit(px, px, y.start, y.end, "FPS limit", px - 6, y.end + 12))
    return parts


def cost_against_gain(rows: Sequence[MeasuredBlock]) -> Markup:
    """Draw a table of block costs: mAP50-95 that each block costs against the milliseconds that it saves.

    A horizontal line spans the middle half of the rounds' gains.
    """
    height = 460
    gains = [value for row in rows for value in (row.ms_gain, *row.round_ms.middle_half)]
    x, y = _padded([0.0, *gains], LEFT, RIGHT), _padded([0.0, *(row.map_cost for row in rows)], height - 52, 30)
    points = [(x.px(row.ms_gain), y.px(row.map_cost)) for row in rows]
    parts = [_grid(x, y, "milliseconds gained per image", "mAP50-95 lost")]
    parts += [_line(x.px(0), x.px(0), y.start, y.end, "limit"), _line(LEFT, RIGHT, y.px(0), y.px(0), "limit")]
    for row, (_, py) in zip(rows, points, strict=True):
        low, high = row.round_ms.middle_half
        parts.append(_line(x.px(low), x.px(high), py, py, "link"))
    parts += [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="slim"/>').format(*point) for point in points]
    parts += _labels([row.name for row in rows], points)
    return _svg(Markup("").join(parts), height, "mAP50-95 lost against milliseconds gained by every block")


def _padded(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis with some space around all values."""
    pad = 0.08 * (max(values) - min(values)) or 0.01
    return Axis(low=min(values) - pad, high=max(values) + pad, start=start, end=end)


def latency_histogram(builds: Sequence[Build]) -> Markup:
    """Draw one panel per build with the histogram of its raw samples, all on one axis of milliseconds.

    Args:
        builds: timed builds.
    """
    series = [(build.key, np.asarray(build.bench.samples_ms.total)) for build in builds if build.bench]
    fastest = min(float(samples.min()) for _, samples in series)
    # Up to p99.5 only, because one slow frame would squeeze all other bars together.
    cut = max(float(np.percentile(samples, 99.5)) for _, samples in series) * 1.08
    panel, top = 132, 28
    bottom = top + panel * len(series)
    x = Axis(low=0, high=max(cut, fastest * 1.02 + 1e-6), start=LEFT, end=RIGHT)
    tallest = max(float(_shares(x, samples).max()) for _, samples in series)
    parts = []
    for i, (key, samples) in enumerate(series):
        base = top + panel * (i + 1)
        y = Axis(low=0, high=tallest * 1.05, start=base, end=base - 96)
        parts.append(_panel(x, y, samples, str(key), key.model))
    parts += [_text(x.px(tick), bottom + 18, f"{tick:g}", "middle") for tick in x.ticks(8)]
    parts.append(_text((LEFT + RIGHT) / 2, bottom + 40, "latency of one frame, end to end (ms)", "middle", "axis"))
    parts.append(_text(8, 14, "share of frames (%)", "start", "axis"))
    return _svg(Markup("").join(parts), bottom + 50, "Histograms of all timed frames")


def fps_over_time(points: Sequence[Point]) -> Markup:
    """Frames per second of a sustained run, minute by minute, from 0 up."""
    highest = max(point.fps for point in points)
    x = Axis(low=0, high=points[-1].seconds / 60, start=LEFT, end=RIGHT)
    y = Axis(low=0, high=1.08 * highest, start=200, end=20)
    places = [(x.px(point.seconds / 60), y.px(point.fps)) for point in points]
    curve = [_line(a[0], b[0], a[1], b[1], "p50") for a, b in pairwise(places)]
    marks = [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" class="slim"/>').format(*place) for place in places]
    ticks = [_text(LEFT - 8, y.px(tick) + 4, f"{tick:g}", "end") for tick in y.ticks(4)]
    ticks += [_text(x.px(tick), 218, f"{tick:g}", "middle") for tick in x.ticks(8)]
    names = [_text(8, 14, "FPS", "start", "axis"), _text((LEFT + RIGHT) / 2, 242, "minutes", "middle", "axis")]
    base = _line(LEFT, RIGHT, 200, 200, "base")
    return _svg(Markup("").join([base, *ticks, *names, *curve, *marks]), 250, "Frames per second over time")


def _shares(x: Axis, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each bar's share of the samples in percent; the last bar contains all slower ones too."""
    counts = np.histogram(np.minimum(samples, x.high), np.linspace(x.low, x.high, BINS + 1))[0]
    return 100.0 * counts / len(samples)


def _panel(x: Axis, y: Axis, samples: NDArray[np.float64], name: str, kind: str) -> Markup:
    """One histogram with its median and p99."""
    base, share, edges = y.start, _shares(x, samples), np.linspace(x.low, x.high, BINS + 1)
    bars = [
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>').format(
            x.px(left) + 0.5, y.px(value), (x.end - x.start) / BINS - 1, base - y.px(value), kind
        )
        for left, value in zip(edges.tolist(), share.tolist(), strict=False)
        if value
    ]
    p50, p99 = (float(v) for v in np.percentile(samples, [50, 99]))
    slower = int((samples > x.high).sum())
    more = f" ({slower} in the last bar)" if slower else ""
    text = f"{name}: {len(samples)} frames, p50 {p50:.2f} ms, p99 {p99:.2f} ms, slowest {samples.max():.2f} ms{more}"
    lines = [_line(LEFT, RIGHT, base, base, "base")]
    for tick in y.ticks(2)[1:]:
        lines.append(_line(LEFT, RIGHT, y.px(tick), y.px(tick), "grid"))
        lines.append(_text(LEFT - 8, y.px(tick) + 4, f"{tick:g}", "end"))
    marks = [_line(x.px(v), x.px(v), base, base - 100, css) for v, css in ((p50, "p50"), (p99, "p99")) if v <= x.high]
    return Markup("").join([*lines, *bars, *marks, _text(LEFT, base - 106, text, "start", "axis")])


def _links(points: Mapping[BuildKey, tuple[float, float]]) -> list[Markup]:
    """A dashed line from each control to the slim build of the same runtime and precision."""
    pairs = [(point, points.get(BuildKey("slim", key.build))) for key, point in points.items() if not key.is_slim]
    return [_line(a[0], b[0], a[1], b[1], "link") for a, b in pairs if b]


def _shape(kind: str, px: float, py: float, *, ringed: bool, hollow: bool) -> Markup:
    """A marker: round for a control, square for what was made of it."""
    css = kind + (" hollow" if hollow else "")
    if kind == "control":
        shape = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6.5" class="{}"/>').format(px, py, css)
    else:
        shape = Markup('<rect x="{:.1f}" y="{:.1f}" width="12" height="12" class="{}"/>').format(px - 6, py - 6, css)
    ring = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="12.5" class="ring"/>').format(px, py) if ringed else ""
    return shape + ring


def _labels(names: Sequence[str], points: Sequence[tuple[float, float]]) -> list[Markup]:
    """The markers' labels, each at the first of several places where it covers nothing; a far one has a line."""
    # The ring around a mark has a radius of 12.5 px.
    taken = [(px - 13, py - 13, px + 13, py + 13) for px, py in points]
    labels = []
    for name, (px, py) in sorted(zip(names, points, strict=True), key=lambda item: item[1][1]):
        wide = len(name) * CHARACTER_PX
        sides = [(px + 18, "start"), (px - 18 - wide, "end")]
        places = [(left, py + dy, side) for dy in (0, -18, 18, -34, 34) for left, side in sides]
        inside = [p for p in places if p[0] > LEFT and p[0] + wide < RIGHT] or places
        free = [p for p in inside if not any(_overlap((p[0], p[1] - 8, p[0] + wide, p[1] + 8), box) for box in taken)]
        left, middle, side = (free or inside)[0]
        taken.append((left, middle - 8, left + wide, middle + 8))
        if abs(middle - py) > 16:
            labels.append(_line(px, left - 2 if side == "start" else left + wide + 2, py, middle, "lead"))
        labels.append(_text(left if side == "start" else left + wide, middle + 4, name, side, "label"))
    return labels


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    """Whether two boxes (left, top, right, bottom) share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _grid(x: Axis, y: Axis, x_name: str, y_name: str) -> Markup:
    """Grid lines, tick labels and the names of both axes."""
    parts = [_line(x.start, x.end, y.start, y.start, "base")]
    for tick in y.ticks():
        parts.append(_line(x.start, x.end, y.px(tick), y.px(tick), "grid"))
        parts.append(_text(x.start - 8, y.px(tick) + 4, f"{tick:.3f}", "end"))
    for tick in x.ticks(8):
        parts.append(_text(x.px(tick), y.start + 18, f"{tick:g}", "middle"))
    parts.append(_text((x.start + x.end) / 2, y.start + 42, x_name, "middle", "axis"))
    parts.append(_text(8, 14, y_name, "start", "axis"))
    return Markup("").join(parts)


def _limit(x1: float, x2: float, y1: float, y2: float, text: str, text_x: float, text_y: float) -> Markup:
    return _line(x1, x2, y1, y2, "limit") + _text(text_x, text_y, text, "end", "limit")


def _line(x1: float, x2: float, y1: float, y2: float, css: str) -> Markup:
    line = Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}" class="{}"/>')
    return line.format(x1, x2, y1, y2, css)


def _text(x: float, y: float, text: str, anchor: str, css: str = "tick") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, css, text)


def _svg(content: Markup, height: float, title: str) -> Markup:
    frame = Markup('<svg viewBox="0 0 {} {:.0f}" role="img"><title>{}</title>{}</svg>')
    return frame.format(WIDTH, height, title, content)
