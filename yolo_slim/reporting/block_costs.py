"""A table of block costs for people: the terminal's table, a CSV file, a page with the plot."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from yolo_slim.measuring.block_costs import BlockCostTable, MeasuredBlock
from yolo_slim.reporting import facts
from yolo_slim.reporting.pages import environment
from yolo_slim.reporting.plots import cost_against_gain
from yolo_slim.reporting.text import table

TEMPLATE = Path(__file__).with_name("block_costs.html.j2")
COLUMNS = (
    "name", "map_cost", "ms_gain", "ms_gain_lowest", "ms_gain_highest", "ms_control", "ms_cut", "map50_95",
    "macs_saved", "params_saved", "channels", "channels_kept",
)  # fmt: skip
"""Columns of the CSV file: attributes of a row."""


def csv_text(costs: BlockCostTable) -> str:
    """Write the rows as CSV with a head."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, name) for name in COLUMNS] for row in costs.blocks)
    return stream.getvalue()


def text(costs: BlockCostTable) -> str:
    """Write the table for the terminal."""
    head = ["block", "channels", "mAP50-95", "points lost", "ms gained", "middle half", "MACs", "parameters"]
    return "\n".join([table(head, [_cells(row) for row in costs.blocks]), *remarks(costs)])


def _cells(row: MeasuredBlock) -> list[str]:
    return [
        row.name,
        f"{row.channels} -> {row.channels_kept}",
        facts.number(row.map50_95),
        facts.number(100 * row.map_cost, "+.2f"),
        facts.number(row.ms_gain, "+.3f"),
        "{:+.3f} .. {:+.3f}".format(*row.round_ms.middle_half),
        f"-{row.macs_saved:.1%}",
        f"-{row.params_saved:.1%}",
    ]


def remarks(costs: BlockCostTable) -> list[str]:
    """Say what a reader must know of the figures, one fact a line."""
    control, data = costs.control, costs.data
    threads = " or ".join(map(str, costs.threads))
    lines = [
        f"Each block alone lost {costs.removed:.0%} of its channels, the lowest by {costs.criterion}, untrained.",
        f"mAP50-95 on {data.images} {data.split} images of {data.yaml} at {costs.imgsz} px. The unpruned network has "
        f"{control.map50_95_trained:.4f}, with statistics re-estimated {control.map50_95:.4f}: costs are against "
        "the latter.",
        f"Milliseconds: {costs.ms_of}, in {costs.runtime} (inference threads: {threads}), on {costs.machine.model}, "
        f"{costs.measured_at}.",
    ]
    if not costs.is_measured_on_target:
        lines.append(f"{costs.machine.model} isn't the target {costs.target}: the gains there are unproven.")
    reasons = costs.invalid_reasons
    return [*lines, *([f"Timings that don't count: {', '.join(reasons)}."] if reasons else [])]


def render(costs: BlockCostTable) -> str:
    """Make the page; it loads nothing from elsewhere."""
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(costs=costs, plot=cost_against_gain(costs.blocks), remarks=remarks(costs))
