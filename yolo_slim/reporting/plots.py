"""The report's drawings as inline SVG, styled by the page's own CSS variables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 56, 44


def accuracy_vs_fps(builds: Sequence[dict[str, Any]]) -> str:
    """Return the scatter plot of all timed builds: FPS to the right, mAP50-95 up; circles control, squares slim."""
    timed = [build for build in builds if build["bench"]]
    if not timed:
        return "<p>Speed is unproven: no build was timed.</p>"
    fps, maps = [b["bench"]["fps"] for b in timed], [b["map50_95"] for b in timed]
    x, y = _scale(0, max(fps) * 1.15), _scale(min(maps) - 0.02, max(maps) + 0.02)
    marks = []
    for build, f, m in zip(timed, fps, maps, strict=True):
        px, py = LEFT + x(f) * (WIDTH - LEFT - 16), (HEIGHT - BOTTOM) - y(m) * (HEIGHT - BOTTOM - 16)
        kind = build["model"]
        shape = (
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="7" class="{kind}"/>'
            if kind == "control"
            else f'<rect x="{px - 7:.1f}" y="{py - 7:.1f}" width="14" height="14" class="{kind}"/>'
        )
        ring = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="13" class="ring"/>' if build["winner"] else ""
        anchor, shift = ("end", -16) if px > WIDTH * 0.7 else ("start", 16)
        label = f'<text x="{px + shift:.1f}" y="{py + 4:.1f}" text-anchor="{anchor}">{escape(build["name"])}</text>'
        marks.append(f"{shape}{ring}{label}")
    axes = _axes("FPS, end to end (1000 / median ms)", "mAP50-95", max(fps) * 1.15, min(maps) - 0.02, max(maps) + 0.02)
    return _svg(axes + "".join(marks), "mAP50-95 against frames per second of every build")


def latency_histogram(series: dict[str, Sequence[float]]) -> str:
    """Return the histogram of raw end-to-end samples (milliseconds) of up to two builds, by name."""
    everything = np.concatenate([np.asarray(samples) for samples in series.values()])
    high = float(np.percentile(everything, 99.5)) * 1.05
    edges = np.linspace(float(everything.min()) * 0.95, high, 49)
    counts = {name: np.histogram(np.minimum(samples, high), edges)[0] for name, samples in series.items()}
    top = max(int(count.max()) for count in counts.values())
    step = (WIDTH - LEFT - 16) / (len(edges) - 1)
    bars = []
    for kind, (_, count) in zip(("control", "slim"), counts.items(), strict=False):
        for i, c in enumerate(count.tolist()):
            tall = (HEIGHT - BOTTOM - 16) * c / top
            where = f'x="{LEFT + i * step:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}"'
            bars.append(f'<rect {where} width="{step:.1f}" height="{tall:.1f}" class="{kind}" opacity=".65"/>')
    axes = _axes(
        "milliseconds, end to end (the last bar holds all slower frames)", "frames", edges[-1], 0, top, edges[0]
    )
    return _svg(axes + "".join(bars), "Latency histogram of raw samples")


def _scale(low: float, high: float) -> Any:
    """Return the function from [low, high] to [0, 1]."""
    return lambda value: (value - low) / (high - low)


def _axes(x_name: str, y_name: str, x_high: float, y_low: float, y_high: float, x_low: float = 0) -> str:
    """Return the axes with five ticks each and their names."""
    parts = []
    for i in range(6):
        px = LEFT + i / 5 * (WIDTH - LEFT - 16)
        py = (HEIGHT - BOTTOM) - i / 5 * (HEIGHT - BOTTOM - 16)
        x, y = x_low + i / 5 * (x_high - x_low), y_low + i / 5 * (y_high - y_low)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{py:.1f}" y2="{py:.1f}" class="grid"/>')
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:.3g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle" class="axis">{escape(x_name)}</text>')
    parts.append(f'<text x="{LEFT}" y="11" class="axis">{escape(y_name)}</text>')
    return "".join(parts)


def _svg(content: str, title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(title)}</title>{content}</svg>'
