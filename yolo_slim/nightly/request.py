"""What one call of ``yolo-slim nightly`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
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
        profiles = {plan.target: plan.profile.model_dump(mode="json") for plan in self.matrix.plans}
        data = {path: str(digest) for path, digest in self.data.items()}
        return sha256_json([self.matrix.digest, profiles, weights, data, self.against])

    @cached_property
    def data(self) -> Mapping[str, str | SlimError]:
        """Path of every data.yaml to the digest of its content, read once; an error where it can't be read."""
        return {path: _digest(Path(path)) for path in {plan.config.data for plan in self.matrix.plans}}


def _digest(data: Path) -> str | SlimError:
    # Only the cells of this data set fail, each with this error.
    try:
        return load_dataset(data).digest
    except SlimError as error:
        return error
