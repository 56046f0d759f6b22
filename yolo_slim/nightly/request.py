"""What one call of ``yolo-slim nightly`` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.files import sha256_json
from yolo_slim.nightly.matrix import Matrix
from yolo_slim.workspace.job import content


@dataclass(frozen=True, kw_only=True)
class NightRequest:
    """One night."""

    matrix: Matrix
    against: str | None = None
    """Branch whose last night's bundles are the references; None: the baselines."""
    is_new: bool = False
    """Begin a new night even if the last one was interrupted."""
    command: str = ""
    """Command line, for the record."""

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the night: an interrupted one with the same digest may be resumed."""
        weights = {plan.model: content(Path(plan.config.model)) for plan in self.matrix.plans}
        return sha256_json([self.matrix.digest, weights, self.against])
