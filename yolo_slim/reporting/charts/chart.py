"""A chart: points, lines, bands, bars, limits and events, with a legend of buttons and a text for who can't see it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from bokeh.document import Document
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    Glyph,
    HoverTool,
    Line,
    Quad,
    Range1d,
    Scatter,
    Segment,
    Span,
    Text,
    VArea,
)
from bokeh.plotting import figure
from bokeh.themes import Theme
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from yolo_slim.reporting.charts.style import FONT, INKS, SIGNS, THEME, Ink, Series

Values = Sequence[float]
Interval = tuple[float, float]
TIP = "<div class='tip' style='white-space:pre-line'>@tip</div>"
"""Bokeh escapes what stands for ``@tip``."""
TOOLS = "pan,box_zoom,wheel_zoom,zoom_in,zoom_out,reset,save"
FRAME = Markup(
    '<figure class="chart"{axis}><div class="legend">{legend}</div>'
    '<div class="canvas" role="img" aria-label="{text}" style="height:{height}px"></div>'
    '<script type="application/json">{data}</script></figure>'
)
ENTRY = Markup(
    '<button type="button" aria-pressed="true" data-series="{name}">'
    '<span class="sign" aria-hidden="true" style="color:var(--{ink})">{sign}</span>{name}</button>'
)


class Chart:
    """One chart, drawn by the page's script. Equal calls give equal text.

    Args:
        text: what it shows, for who can't see it.
        x: name and unit of the horizontal axis.
        y: name and unit of the vertical axis.
        height: pixels.
        time: the horizontal axis is of milliseconds since 1970, UTC.
    """

    def __init__(self, text: str, *, x: str, y: str, height: int = 380, time: bool = False) -> None:
        kind: Literal["datetime", "linear"] = "datetime" if time else "linear"
        self._text, self._height, self._is_time = text, height, time
        self._series: dict[str, Series] = {}
        self._hovered: list[Any] = []
        self._figure = figure(
            height=height, sizing_mode="stretch_width", tools=TOOLS, x_axis_type=kind, toolbar_location="above"
        )
        self._figure.xaxis.axis_label, self._figure.yaxis.axis_label = x, y
        self._figure.toolbar.logo = None
        self._figure.toolbar.stylesheets = ["@media print { :host { display:none; } }"]
        self._figure.toolbar.active_drag = self._figure.select_one(BoxZoomTool)

    def show(self, *, x: Interval | None = None, y: Interval | None = None) -> None:
        """Set the intervals that the axes begin with; zooming out never leaves them far behind."""
        if x:
            self._figure.x_range = Range1d(*x)
        if y:
            self._figure.y_range = Range1d(*y)

    def points(
        self, series: Series, xs: Values, ys: Values, tips: Sequence[str], *, size: int = 11, tag: str = ""
    ) -> None:
        """Draw markers; a tip's lines appear beside the one under the pointer. A page's filter knows a tag."""
        color = INKS[series.ink]
        glyph = Scatter(
            marker=series.symbol, size=size, line_width=1.8, line_color=color, fill_color=color,
            fill_alpha=0.0 if series.hollow else 1.0,
        )  # fmt: skip
        self._hovered.append(self._draw(series, glyph, _source(x=xs, y=ys, tip=tips), tag))

    def rings(self, series: Series, xs: Values, ys: Values) -> None:
        """Draw a ring around markers."""
        glyph = Scatter(marker="circle", size=22, line_width=1.5, fill_color=None, line_color=INKS[series.ink])
        self._draw(series, glyph, _source(x=xs, y=ys))

    def spread(self, series: Series, xs: Sequence[Interval], ys: Sequence[Interval]) -> None:
        """Draw error bars: lines from the first to the second of each."""
        data = _source(x0=[a for a, _ in xs], x1=[b for _, b in xs], y0=[a for a, _ in ys], y1=[b for _, b in ys])
        self._draw(series, Segment(line_color=INKS[series.ink], line_alpha=0.7), data)

    def line(
        self, series: Series, xs: Values, ys: Values, *, dash: str = "solid", width: float = 2.0, tag: str = ""
    ) -> None:
        """Join points by a line."""
        glyph = Line(line_color=INKS[series.ink], line_dash=dash, line_width=width)
        self._draw(series, glyph, _source(x=xs, y=ys), tag)

    def band(self, series: Series, xs: Values, lows: Values, highs: Values) -> None:
        """Fill the space between two lines."""
        glyph = VArea(x="x", y1="low", y2="high", fill_color=INKS[series.ink], fill_alpha=0.18)
        self._draw(series, glyph, _source(x=xs, low=lows, high=highs))

    def bars(self, series: Series, edges: Values, heights: Values, tips: Sequence[str]) -> None:
        """Draw the bars of a histogram; there is one more edge than bars."""
        glyph = Quad(bottom=0, fill_color=INKS[series.ink], line_color=None, fill_alpha=0.55)
        source = _source(left=edges[:-1], right=edges[1:], top=heights, tip=tips)
        self._hovered.append(self._draw(series, glyph, source))

    def limit(self, series: Series, *, x: float | None = None, y: float | None = None, dash: str = "dashed") -> None:
        """Draw a line across the chart at one value of an axis."""
        where, dimension = (x, "height") if x is not None else (y, "width")
        self._figure.add_layout(
            Span(location=where, dimension=dimension, line_color=INKS[series.ink], line_dash=dash, line_width=1.4,
                 line_alpha=0.8, name=self._known(series))
        )  # fmt: skip

    def labels(self, xs: Values, ys: Values, texts: Sequence[str], ink: Ink = "fg") -> None:
        """Write short texts to the right of points."""
        glyph = Text(
            x_offset=11, text_baseline="middle", text_font_size="12px", text_font={"value": FONT}, text_color=INKS[ink]
        )
        self._figure.add_glyph(_source(x=xs, y=ys, text=texts), glyph)

    def markup(self) -> Markup:
        """The chart's place in a page: legend, drawing area, data."""
        self._figure.add_tools(HoverTool(renderers=self._hovered, tooltips=TIP, point_policy="follow_mouse"))
        document = Document(theme=Theme(json=THEME))
        document.add_root(self._figure)
        content = _renumbered(document.to_json(deferred=False))
        entries = [
            ENTRY.format(name=one.name, ink=one.ink, sign=_sign(one)) for one in self._series.values()
        ]  # fmt: skip
        return FRAME.format(
            axis=Markup(' data-axis="time"') if self._is_time else "",
            legend=Markup("").join(entries),
            text=self._text,
            height=self._height,
            data=htmlsafe_json_dumps(content),
        )

    def _draw(self, series: Series, glyph: Glyph, source: ColumnDataSource, tag: str = "") -> Any:
        """Draw the rows of a source."""
        return self._figure.add_glyph(
            source, glyph, name=self._known(series), tags=[tag] if tag else [], selection_glyph=None,
            nonselection_glyph=None,
        )  # fmt: skip

    def _known(self, series: Series) -> str:
        """Put a series into the legend, once."""
        self._series.setdefault(series.name, series)
        return series.name


def _sign(series: Series) -> str:
    hollow = {"circle": "○", "square": "□", "triangle": "△", "diamond": "◇", "inverted_triangle": "▽", "star": "☆"}
    return hollow.get(series.symbol, SIGNS[series.symbol]) if series.hollow else SIGNS[series.symbol]


def _source(**columns: Sequence[object]) -> ColumnDataSource:
    """Numbers as arrays: their bytes are shorter than their digits. Only times need all of float64."""
    return ColumnDataSource({key: _column(values) for key, values in columns.items()})


def _column(values: Sequence[object]) -> object:
    found = np.asarray(values)
    if found.dtype.kind == "f":
        return found.astype(np.float32)
    return found.astype(np.float64) if found.dtype.kind in "iu" else list(values)


def _renumbered(document: Mapping[str, Any]) -> Any:
    """Number a document's models by their place: Bokeh counts over the whole life of the process."""
    numbers: dict[str, str] = {}
    counter = itertools.count(1)

    def walk(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: numbers.setdefault(item, f"p{next(counter)}") if key == "id" else walk(item)
                for key, item in value.items()
            }
        return [walk(item) for item in value] if isinstance(value, (list, tuple)) else value

    return walk(document)
