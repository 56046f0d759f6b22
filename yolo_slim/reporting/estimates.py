"""What the terminal and the page say of estimates."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_slim.measuring.estimate import Estimate

HEAD = ("build", "FPS", "lowest", "highest", "ms", "rows", "published")


def title(estimates: Sequence[Estimate]) -> str:
    """Say what the figures are, and of what; empty: there are none."""
    if not estimates:
        return ""
    first = estimates[0]
    return (
        f"Estimated on a {first.device}, {first.imgsz} px, inference alone: not measured, from rows that others "
        "published; no gate reads it"
    )


def cells(estimate: Estimate) -> tuple[str, ...]:
    """One row below :data:`HEAD`."""
    fps = (estimate.infer_fps, 1000 / estimate.highest_ms, 1000 / estimate.lowest_ms)
    return estimate.name, *map(_rough, (*fps, estimate.infer_ms)), str(len(estimate.rows)), estimate.dates


def sentence(estimate: Estimate) -> str:
    """What may be expected of one build, behind its name."""
    fps, low, high = (_rough(1000 / ms) for ms in (estimate.infer_ms, estimate.highest_ms, estimate.lowest_ms))
    return f"on a {estimate.device}: {fps} FPS of inference ({low} to {high}), estimated"


def _rough(value: float) -> str:
    """Two digits: more would say more than an estimate knows."""
    return f"{float(f'{value:.2g}'):g}"


def sources(estimates: Sequence[Estimate]) -> list[str]:
    """Every source once, the newest first."""
    found = {row.source for estimate in estimates for row in estimate.rows}
    return sorted(found, key=lambda source: (source.rpartition(", ")[2], source), reverse=True)
