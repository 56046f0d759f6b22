"""How a budget in milliseconds was reached: budget, prediction and measurement. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from yolo_slim.config.record import BuildNameText, Record

STEEPEST = 3.0
"""How many times as steep or flat as one cut alone says a line through two cuts may be: noise makes steeper ones."""


def table_ms_for(wanted_ms: float, found: Sequence[tuple[float, float]]) -> float:
    """What a table has to predict of a cut that takes so many milliseconds, by what earlier cuts took.

    Args:
        wanted_ms: milliseconds.
        found: predicted and measured milliseconds of every earlier cut, at least one.
    """
    (predicted, ms), *others = sorted(found, key=lambda one: abs(one[1] - wanted_ms))[:2]
    slope = predicted / ms
    for other_predicted, other_ms in others:
        line = (other_predicted - predicted) / (other_ms - ms) if other_ms != ms else 0.0
        between = predicted + (wanted_ms - ms) * line
        if slope / STEEPEST <= line <= slope * STEEPEST and between > 0:
            return between
    return wanted_ms * slope


def after_exchange(activation: str) -> str:
    """What follows the name of a network whose activation was exchanged; empty: it has its own."""
    return "" if activation == "none" else f" with {activation}"


class TimedCut(Record):
    """One cut that was timed."""

    predicted_ms: float
    """Milliseconds of a frame by the table, with the corrections so far."""
    measured_ms: float
    """Milliseconds of a frame: the unpruned network's by the table, times the ratio of both in the same rounds. So
    what slows the device for a while slows both."""
    unpruned_ms: float | None = None
    """Milliseconds of the unpruned network's inference in these rounds; null: not recorded."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count."""

    @property
    def error(self) -> float:
        """How far the prediction was off, as a fraction of what was measured."""
        return self.predicted_ms / self.measured_ms - 1


class BuildChoice(Record):
    """One build that the cut could have been made for."""

    build: BuildNameText
    """Runtime and precision."""
    smallest_ms: float
    """Milliseconds of the narrowest network's frame by the build's latency table."""
    loss: float | None
    """Score that a cut to the budget loses, in units of the chosen build's; null: no cut reaches the budget."""

    def __str__(self) -> str:
        """For people: ``ncnn-fp16 1.20 times as much``."""
        return f"{self.build} can't reach it" if self.loss is None else f"{self.build} {self.loss:.2f} times as much"


class LatencyCut(Record):
    """A cut to milliseconds: ``latency.json`` of the prune stage."""

    budget_ms: float
    """Milliseconds that a frame may take, end to end."""
    build: BuildNameText
    """Runtime and precision that was pruned for."""
    device: str
    """What was timed on."""
    unpruned_ms: float
    """Milliseconds of the unpruned network's frame."""
    overhead_ms: float
    """Pre- and post-processing of it."""
    table_error_median: float
    """The latency table's error on networks that it didn't see, as a fraction."""
    table_error_worst: float
    """The largest of these errors."""
    cuts: tuple[TimedCut, ...]
    """Every cut that was timed, in order."""
    kept: int
    """Which of them was kept, counted from 0."""
    activation: str = "none"
    """``recover.activation`` of the networks that were timed; none: their own."""
    choices: tuple[BuildChoice, ...] = ()
    """The builds that the cut could have been made for, the chosen one among them."""
    without_table: dict[str, str] = Field(default_factory=dict)
    """The target's builds that have no latency table, with the reason: no cut was made for them."""
    named: str | None = None
    """``latency.runtime``, which named the build or its runtime; null: the build that loses least was chosen."""

    @property
    def why_chosen(self) -> str:
        """Why the cut was made for its build, for people."""
        return "named by latency.runtime" if self.named == str(self.build) else "chosen: it loses least"

    @property
    def measured_ms(self) -> float:
        """Milliseconds of a frame of the cut that was kept."""
        return self.cuts[self.kept].measured_ms

    def text(self) -> str:
        """One line for people."""
        cut, speed = self.cuts[self.kept], self.unpruned_ms / self.measured_ms
        count = f"{len(self.cuts)} {'cut' if len(self.cuts) == 1 else 'cuts'}"
        doubt = f"; the timing doesn't count: {'; '.join(cut.invalid_reasons)}" if cut.invalid_reasons else ""
        fps = (
            f"{1000 / cut.measured_ms:.1f} FPS, {speed:.2f} times the unpruned network{after_exchange(self.activation)}"
        )
        table = f"the table's error on other networks: median {self.table_error_median:.1%}"
        return (
            f"budget {self.budget_ms:.2f} ms a frame in {self.build}: predicted {cut.predicted_ms:.2f} ({table}, "
            f"worst {self.table_error_worst:.1%}), measured {cut.measured_ms:.2f} ({fps}), {count}{doubt}"
        )
