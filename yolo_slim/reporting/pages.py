"""What all pages share: the style, filters for numbers, images inside the page."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from yolo_slim.reporting import facts
from yolo_slim.reporting.charts import page

STYLE = Path(__file__).with_name("page.css")
JPEG_QUALITY = 85


def environment(templates: BaseLoader | None = None) -> Environment:
    """Make what pages are rendered with; an undefined name is an error."""
    found = Environment(
        loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"number": facts.number, "signed": facts.signed}
    found.globals |= {"style": stylesheet(), "chart_head": page.head, "chart_scripts": page.scripts}
    return found


def stylesheet() -> Markup:
    """The style that all pages share."""
    # Marked as safe: escaping would break the child selectors (>).
    return Markup(STYLE.read_text(encoding="utf-8"))


def data_uri(image: NDArray[np.uint8]) -> str:
    """Put a BGR image into the page as a JPEG."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
