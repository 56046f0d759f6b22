"""What pruning writes, and what its plan records. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PRUNE_REVISION = 2
"""Raised when equal inputs are pruned otherwise; 2: labels are read as a training reads them."""


@dataclass(frozen=True, kw_only=True)
class PruneOutputs:
    """The files of a pruning."""

    weights: Path
    """``pruned.pt``."""
    plan: Path
    """``plan.json``: the channels that stay."""
    widths: Path
    """``widths.json``: width of every convolution before and after, MACs and parameters."""
    latency: Path
    """``latency.json``: budget, prediction and measurement, where the budget is in milliseconds."""


def outputs_in(folder: Path) -> PruneOutputs:
    """Say where pruning writes."""
    return PruneOutputs(
        weights=folder / "pruned.pt",
        plan=folder / "plan.json",
        widths=folder / "widths.json",
        latency=folder / "latency.json",
    )
