r"""Draw accuracy against speed from the record of a comparison, as an SVG for the README and the docs.

    python scripts/draw_frontier.py docs/benchmarks/records/compare-hardhat-yolov8n-10ep-1000-methods.json \
        --out docs/images/frontier.svg

Speed is the median of the rounds' ratios to the control, end to end. The picture needs no package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 48, 56
LABELS = {
    "ours": "pruned by yolo_slim",
    "small-input": "smaller input",
    "narrow": "narrower network",
    "random": "random channels",
    "uniform-l2": "L2, torch-pruning",
    "scratch": "narrower, from scratch",
    "control": "control",
}
COLOURS = {
    "ours": "#0b5cad", "small-input": "#8a5a00", "narrow": "#2e7d32", "random": "#6d6d6d", "uniform-l2": "#a1227a",
    "scratch": "#b23b1e", "control": "#111111",
}  # fmt: skip
"""Each has a contrast of at least 4.5 to white, because the labels are in the same colour."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network of a comparison."""

    speedup: float
    map50_95: float


def lines_of(record: dict[str, Any], runtime: str) -> dict[str, list[Point]]:
    """The measured networks of every method, the slowest first."""
    found: dict[str, list[Point]] = {}
    # Records of before 0.2 call a method an arm.
    for row in record.get("methods") or record["arms"]:
        name, measured = row.get("method") or row["arm"], row.get("runtimes", {}).get(runtime)
        if measured and name in LABELS:
            ratio = (measured.get("speedup") or {"ratio": 1.0})["ratio"]
            found.setdefault(name, []).append(Point(speedup=ratio, map50_95=measured["map50_95"]["mean"]))
    return {name: sorted(points, key=lambda point: point.speedup) for name, points in found.items()}


def picture(record: dict[str, Any], runtime: str) -> str:
    """The whole SVG."""
    lines = lines_of(record, runtime)
    points = [point for line in lines.values() for point in line]
    most_x = max(point.speedup for point in points) * 1.05
    least_y, most_y = min(point.map50_95 for point in points) - 0.02, max(point.map50_95 for point in points) + 0.02
    axes = Axes(least_x=0.9, most_x=most_x, least_y=least_y, most_y=most_y)
    about = (
        f"{record['model']['file'].removesuffix('.pt')}, {record['imgsz']} px, {record['training']['epochs']} epochs"
    )
    about += f", {record['data']['images']} test images, {runtime} on {record['machine']['model']}"
    body = [*axes.draw(), *[part for name, line in lines.items() for part in _line(name, line, axes)]]
    body += _labels({name: line[-1] for name, line in lines.items()}, axes)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title about">',
            '<title id="title">Accuracy against speed</title>',
            f'<desc id="about">{escape(_description(lines))}</desc>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            '<text x="16" y="22" font-size="15" font-weight="600" fill="#111111">mAP50-95 and speed of the same model, '
            f"made smaller in {len(lines.keys() - {'control'})} ways</text>",
            f'<text x="16" y="39" fill="#555555" font-size="12">{escape(about)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Axes:
    """From figures to pixels."""

    least_x: float
    most_x: float
    least_y: float
    most_y: float

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = (value - self.least_x) / (self.most_x - self.least_x)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.least_y) / (self.most_y - self.least_y)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def draw(self) -> Iterator[str]:
        """Grid, numbers and names of the axes."""
        for hundredths in range(int(self.least_y * 100), int(self.most_y * 100) + 1):
            if hundredths % 5 == 0 and hundredths / 100 > self.least_y:
                y = self.y(hundredths / 100)
                yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#e3e3e3"/>'
                yield _text(LEFT - 8, y + 4, f".{hundredths}", "end")
        for quarters in range(4, int(self.most_x * 4) + 1):
            x = self.x(quarters / 4)
            yield f'<path d="M{x} {TOP}V{HEIGHT - BOTTOM}" stroke="#e3e3e3"/>'
            yield _text(x, HEIGHT - BOTTOM + 18, f"{quarters / 4:g}x")
        yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "times as fast as the control, end to end")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        yield f'<g transform="rotate(-90 18 {middle})">{_text(18, middle, "mAP50-95")}</g>'


def _line(name: str, line: list[Point], axes: Axes) -> Iterator[str]:
    """A method's networks, joined."""
    places = [(axes.x(point.speedup), axes.y(point.map50_95)) for point in line]
    colour, width = COLOURS[name], 3 if name == "ours" else 1.5
    if len(places) > 1:
        joined = " ".join(f"{x},{y}" for x, y in places)
        yield f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
    for x, y in places:
        yield f'<circle cx="{x}" cy="{y}" r="{width + 2.5}" fill="{colour}"/>'


def _labels(last: dict[str, Point], axes: Axes) -> Iterator[str]:
    """A method's name beside its last network; names that would overlap are moved down."""
    lowest = 0.0
    for name, point in sorted(last.items(), key=lambda item: axes.y(item[1].map50_95)):
        y = max(axes.y(point.map50_95) + 4, lowest + 15)
        lowest = y
        above = name == "control"
        x, height = axes.x(point.speedup) + (0 if above else 10), axes.y(point.map50_95) + 22 if above else y
        weight = ' font-weight="600"' if name == "ours" else ""
        yield f'<text x="{x}" y="{height}" fill="{COLOURS[name]}"{weight}>{escape(LABELS[name])}</text>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="#444444">{escape(text)}</text>'


def _description(lines: dict[str, list[Point]]) -> str:
    """The figures in words, for those who don't see the picture."""
    return ". ".join(
        f"{LABELS[name]}: " + ", ".join(f"{point.map50_95:.3f} at {point.speedup:.2f}x" for point in line)
        for name, line in lines.items()
    )


def main() -> None:
    """Draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="compare.json of a comparison")
    parser.add_argument("--runtime", default="onnxruntime-fp32", help="build that was timed")
    parser.add_argument("--out", type=Path, required=True, help="SVG to write")
    args = parser.parse_args()
    args.out.write_text(picture(json.loads(args.record.read_text(encoding="utf-8")), args.runtime), encoding="utf-8")


if __name__ == "__main__":
    main()
