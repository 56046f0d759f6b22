"""The charts of a page as their data: what its script would draw."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import numpy as np

FIGURE = re.compile(r'<figure class="chart".*?</figure>', re.DOTALL)


@dataclass(frozen=True)
class DrawnChart:
    """One chart of a page."""

    text: str
    """Its alternative text."""
    series: list[str]
    """Entries of the legend."""
    document: dict[str, Any]

    @property
    def root(self) -> dict[str, Any]:
        """The attributes of the chart itself."""
        return next(dict(one["attributes"]) for one in self.document["roots"] if one["name"] == "Figure")

    def glyph(self, series: str, kind: str) -> dict[str, list[Any]]:
        """The columns that one series is drawn from by one kind of glyph, such as ``Scatter``.

        Raises:
            StopIteration: there is none.
        """
        columns = self._drawn(series, kind)["data_source"]["attributes"]["data"]["entries"]
        return {key: _values(column) for key, column in columns}

    def is_hollow(self, series: str) -> bool:
        """Whether a series of markers are outlines."""
        # What a glyph has by default isn't written.
        alpha = self._drawn(series, "Scatter")["glyph"]["attributes"].get("fill_alpha", 1.0)
        return bool((alpha["value"] if isinstance(alpha, dict) else alpha) == 0)

    def _drawn(self, series: str, kind: str) -> dict[str, Any]:
        return next(
            dict(one["attributes"])
            for one in self.root["renderers"]
            if one["attributes"].get("name") == series and one["attributes"]["glyph"]["name"] == kind
        )

    def spans(self, series: str) -> list[dict[str, Any]]:
        """The lines across the chart of one series."""
        return [one for one in self.root["center"] if one["attributes"].get("name") == series]

    def points(self, series: str) -> dict[str, list[Any]]:
        """The columns of a series of markers."""
        return self.glyph(series, "Scatter")


def _values(column: Any) -> list[Any]:
    """A column as Bokeh writes it: a list, or an array's packed bytes."""
    if isinstance(column, list):
        return column
    raw = gzip.decompress(base64.b64decode(column["array"]["data"]))
    return list(np.frombuffer(raw, column["dtype"]).tolist())


def charts(page: str) -> list[DrawnChart]:
    """All charts of a page."""
    return [_chart(found) for found in FIGURE.findall(page)]


def _chart(html: str) -> DrawnChart:
    (text,) = re.findall(r'aria-label="([^"]*)"', html)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    series = [unescape(name) for name in re.findall(r'data-series="([^"]*)"', html)]
    return DrawnChart(text=unescape(text), series=series, document=json.loads(data))


def loads_nothing(page: str) -> bool:
    """Whether a page names no address of elsewhere outside the charts' script, and forbids that one to load any."""
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    return "http:" not in without_scripts and "https:" not in without_scripts and "default-src 'none'" in page
