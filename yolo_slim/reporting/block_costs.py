"""A table of block costs for people: the terminal's table, a CSV file, a page with the plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_slim.reporting import facts
from yolo_slim.reporting.html import environment
from yolo_slim.reporting.plots import cost_against_gain
from yolo_slim.reporting.text import table

TEMPLATE = Path(__file__).with_name("block_costs.html.j2")
COLUMNS = (
    "name", "map_cost", "ms_gain", "ms_gain_lowest", "ms_gain_highest", "ms_control", "ms_cut", "map50_95",
    "macs_saved", "params_saved", "channels", "channels_kept",
)  # fmt: skip
"""Columns of the CSV file: keys of a row of the map."""

Json = Mapping[str, Any]


def csv_text(found: Json) -> str:
    """Return the rows of a ``block_costs.json`` value as CSV with a head."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found["blocks"])
    return stream.getvalue()


def text(found: Json) -> str:
    """Return a ``block_costs.json`` value for the terminal."""
    head = ["block", "channels", "mAP50-95", "points lost", "ms gained", "middle half", "MACs", "parameters"]
    rows = [
        [
            row["name"],
            f"{row['channels']} -> {row['channels_kept']}",
            facts.number(row["map50_95"]),
            facts.number(100 * row["map_cost"], "+.2f"),
            facts.number(row["ms_gain"], "+.3f"),
            "{:+.3f} .. {:+.3f}".format(*facts.middle_half(row)),
            f"-{row['macs_saved']:.1%}",
            f"-{row['params_saved']:.1%}",
        ]
        for row in found["blocks"]
    ]
    return "\n".join([table(head, rows), *remarks(found)])


def remarks(found: Json) -> list[str]:
    """Return what a reader must know of a map's figures, one fact a line."""
    control, data = found["control"], found["data"]
    lines = [
        f"Each block was narrowed alone: {found['removed']:.0%} of its channels, those with the lowest "
        f"{found['criterion']} scores, were removed without training.",
        f"mAP50-95 on {data['images']} {data['split']} images of {data['yaml']} at {found['imgsz']} px: "
        f"unpruned {control['map50_95_trained']:.4f}, with statistics re-estimated {control['map50_95']:.4f}. Costs "
        "are compared with the latter.",
        f"Milliseconds: {found['ms_of']}, in {found['runtime']}, {found['threads']} threads, on "
        f"{found['machine']['model']}, {found['measured_at']}.",
    ]
    if not found["target_is_this_machine"]:
        lines.append(f"This machine is not a {found['target']}: the gains there are unproven.")
    reasons = sorted({reason for row in found["blocks"] for reason in row["invalid_reasons"]})
    return [*lines, *([f"Timings that don't count: {', '.join(reasons)}."] if reasons else [])]


def render(found: Json) -> str:
    """Return the page for a ``block_costs.json`` value; it loads nothing from elsewhere."""
    pages = environment()
    pages.filters["middle_half"] = facts.middle_half
    template = pages.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(m=found, plot=cost_against_gain(found["blocks"]), remarks=remarks(found))
