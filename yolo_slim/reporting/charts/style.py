"""Colours, symbols and the theme of all charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Ink = Literal[
    "fg",
    "soft",
    "line",
    "card",
    "control",
    "slim",
    "rival",
    "green",
    "violet",
    "yellow",
    "sky",
    "pass",
    "fail",
    "unproven",
]
INKS: Mapping[Ink, str] = {
    "fg": "#1c2126",
    "soft": "#5a646e",
    "line": "#e1e5e9",
    "card": "#f6f7f9",
    "control": "#0072b2",
    "slim": "#d55e00",
    "rival": "#6b7780",
    "green": "#008060",
    "violet": "#a6559d",
    "yellow": "#8f6f00",
    "sky": "#2f8fc4",
    "pass": "#00694f",
    "fail": "#a8231c",
    "unproven": "#7d5200",
}
"""Colours in a light page, by the names of the CSS variables (page.css). A dark page's script puts its own in."""
SERIES: tuple[Ink, ...] = ("control", "slim", "green", "violet", "yellow", "sky", "rival")
"""Colours of series without a meaning of their own: Okabe and Ito's, which colour-blind people tell apart."""

Symbol = Literal["circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "plus", "line", "band"]
SIGNS: Mapping[Symbol, str] = {
    "circle": "●",
    "square": "■",
    "triangle": "▲",
    "diamond": "◆",
    "inverted_triangle": "▼",
    "hex": "⬢",
    "star": "★",
    "plus": "✚",
    "line": "━",
    "band": "▒",
}
"""A marker in the text of the legend."""
SYMBOLS: tuple[Symbol, ...] = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "plus")
"""Markers in the order in which they are given to series."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One entry of the legend; its button hides and shows what is drawn of it."""

    name: str
    ink: Ink
    symbol: Symbol = "circle"
    hollow: bool = False
    """The marker is an outline: its figure doesn't count."""


FONT = "system-ui, sans-serif"
_TEXT = {"text_color": INKS["soft"], "text_font": FONT, "text_font_size": "12px"}


def _named(part: str, **values: object) -> dict[str, object]:
    return {f"{part}_{key}": value for key, value in values.items()}


THEME = {
    "attrs": {
        "Plot": {
            "background_fill_color": None,
            "border_fill_color": None,
            "outline_line_color": None,
            "min_border_right": 16,
            "min_border_top": 8,
        },
        "Axis": {
            **_named("axis_line", color=INKS["soft"]),
            **_named("major_tick_line", color=INKS["soft"]),
            **_named("minor_tick_line", color=None),
            **_named("major_label", **_TEXT),
            **_named("axis_label", **{**_TEXT, "text_color": INKS["fg"], "text_font_style": "normal"}),
        },
        "Grid": {"grid_line_color": INKS["line"]},
    }
}
"""What all charts share."""
