"""What a page needs to draw its charts: the library and our script, inside the page or beside it."""

from __future__ import annotations

import json
from pathlib import Path

import bokeh
from markupsafe import Markup

from yolo_slim.reporting.charts.style import INKS

SCRIPT = Path(__file__).with_name("charts.js")
LIBRARY = Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js"
"""It is part of Bokeh's wheel: nothing is fetched."""
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""The browser itself refuses whatever would leave the page."""


def head() -> Markup:
    """The part of a page's head that keeps the page to itself."""
    return Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(Markup(POLICY))


def scripts() -> Markup:
    """The scripts of a page that is one file; they stand at its end."""
    return Markup("<script>{}</script>\n<script>{}</script>").format(
        Markup(LIBRARY.read_text(encoding="utf-8")), Markup(drawing())
    )


def drawing() -> str:
    """Our own script, with the table of colours in it."""
    inks = json.dumps({color: f"--{name}" for name, color in INKS.items()}, sort_keys=True)
    return SCRIPT.read_text(encoding="utf-8").replace('"INKS"', inks)
