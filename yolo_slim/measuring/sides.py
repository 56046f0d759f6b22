"""Which input sides were tried for a budget in milliseconds, and which one won. Imports no torch."""

from __future__ import annotations

from yolo_slim.config.record import Record


class Candidate(Record):
    """One input side."""

    imgsz: int
    """Input side, pixels."""
    build: str = ""
    """Runtime and precision that was pruned for, or in which the unpruned network is fast enough."""
    unpruned_ms: float | None = None
    """Milliseconds of the unpruned network's frame."""
    predicted_ms: float | None = None
    """Milliseconds of the cut network's frame by the latency table; of the narrowest one where none reaches the budget;
    null: nothing was cut."""
    measured_ms: float | None = None
    """The same on the device; null: no cut was timed."""
    macs_removed: float | None = None
    """Fraction of the MACs that went; 0: the unpruned network is fast enough."""
    map50_95_first: float | None = None
    """Validation mAP50-95 after the first epoch. In int8: of the float network, less what int8 lost on training images
    that weren't used for calibration."""
    map50_95: float | None = None
    """The same after the short training; null: it was stopped before."""
    reason: str = ""
    """Why it was dropped, or why it won."""


class Sides(Record):
    """All of them: ``sides.json``."""

    asked_ms: float
    """Milliseconds that a frame may take."""
    first_epochs: int
    """Epochs after which the worse half is stopped."""
    epochs: int
    """Epochs of the short training."""
    candidates: tuple[Candidate, ...]
    """Largest side first."""
    winner: int
    """Input side that won."""

    @property
    def why(self) -> str:
        """Which side won, and why."""
        reason = next(one.reason for one in self.candidates if one.imgsz == self.winner)
        return f"{self.winner} px: {reason}"
