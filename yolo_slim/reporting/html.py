"""A validation as one HTML file that opens offline: no script, no external resource."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import os_errors_explained
from yolo_slim.files import write_text
from yolo_slim.reporting.plots import accuracy_vs_fps, latency_histogram
from yolo_slim.reporting.text import number

TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image as two models see it."""

    file: str
    truth: int
    """Labelled objects."""
    control: NDArray[np.uint8]
    """(H, W, 3) BGR with the control's boxes."""
    slim: NDArray[np.uint8]
    """The same with the slim model's."""


def render(result: dict[str, Any], examples: Sequence[Example]) -> str:
    """Return the page for a ``result.json`` value."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["number"] = number
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    pictures = [(e.file, e.truth, _data_uri(e.control), _data_uri(e.slim)) for e in examples]
    best = next((b for b in result["builds"] if b["winner"]), None)
    pair = [b for b in result["builds"] if best and b["name"].split("/")[1] == best["name"].split("/")[1]]
    samples = {b["name"]: b["bench"]["samples_ms"]["total"] for b in pair if b["bench"]}
    return template.render(
        r=result,
        pictures=pictures,
        scatter=accuracy_vs_fps(result["builds"]),
        histogram=latency_histogram(samples) if samples else "",
        histogram_names=list(samples),
        widest=max((row["before"] for row in result["widths"]), default=1),
        classes=_classes(result["ladder"]),
    )


def write_report(path: Path, result: dict[str, Any], examples: Sequence[Example]) -> None:
    """Write the page, atomically."""
    with os_errors_explained(path):
        write_text(path, render(result, examples))


def _classes(ladder: Sequence[dict[str, Any]]) -> list[tuple[str, float, float | None]]:
    """Return class name, control's AP50-95 and that of the ladder's last rung."""
    first, last = ladder[0]["per_class"], ladder[-1]["per_class"]
    return [(name, ap["ap50_95"], last.get(name, {}).get("ap50_95")) for name, ap in first.items()]


def _data_uri(image: NDArray[np.uint8]) -> str:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
