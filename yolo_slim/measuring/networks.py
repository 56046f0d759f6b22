"""The networks of a validation, and what all of them are measured with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_slim.build_key import BuildKey
from yolo_slim.bundle import BundleSpec, read_spec
from yolo_slim.config.profile import Profile
from yolo_slim.devices.base import Device, can_run
from yolo_slim.errors import SlimError
from yolo_slim.measuring.images import ScoredImages
from yolo_slim.models.exported import layout_of
from yolo_slim.progress import Progress

if TYPE_CHECKING:
    from yolo_slim.models.checkpoint import Checkpoint

THIS_MACHINE = "this machine"
"""Where weights and graphs are scored."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Files of one model at every stage; a rung without its file is left out of the ladder."""

    control: Path
    """The unpruned checkpoint."""
    bundles: Mapping[BuildKey, Path]
    """Bundle folders of the control and the slim model."""
    pruned: Path | None = None
    """The checkpoint after the cut."""
    recovered: Path | None = None
    """The checkpoint after the recovery."""
    onnx: Path | None = None
    """The exported graph of the slim model."""

    # cached_property writes to __dict__, which a frozen dataclass doesn't prevent.
    @cached_property
    def weights(self) -> dict[str, Checkpoint]:
        """The checkpoints by the names of their rungs, each loaded once."""
        from yolo_slim.models import checkpoint

        paths = {"control": self.control, "pruned": self.pruned, "recovered": self.recovered}
        return {rung: checkpoint.load(path) for rung, path in paths.items() if path}

    @property
    def slim(self) -> Checkpoint:
        """The last checkpoint of the chain."""
        return list(self.weights.values())[-1]

    @cached_property
    def specs(self) -> dict[BuildKey, BundleSpec]:
        """What every bundle says of itself."""
        return {key: read_spec(folder) for key, folder in self.bundles.items()}

    @cached_property
    def end2end(self) -> bool:
        """Whether the one-to-one head is measured, as it was exported."""
        if self.onnx:
            return bool(layout_of(self.onnx).layout == "end2end")
        return any(spec.layout == "end2end" for spec in self.specs.values())

    def require_classes(self, expected: Mapping[int, str]) -> None:
        """Check that every network finds the data set's classes: another model's file would be scored as if it did.

        Raises:
            SlimError: weights, a graph or a bundle with other classes.
        """
        found = {f"weights ({rung})": one.names for rung, one in self.weights.items()}
        found |= {str(self.bundles[key]): spec.names for key, spec in self.specs.items()}
        found |= {str(self.onnx): layout_of(self.onnx).names} if self.onnx else {}
        wrong = {where: names for where, names in found.items() if names != expected}
        if wrong:
            raise SlimError(
                f"These networks have other classes than the data set ({', '.join(expected.values())}).",
                culprits=[f"{where}: {', '.join(names.values())}" for where, names in wrong.items()],
                remedy="Give bundles and weights that were made from the same model.",
            )

    def require_side(self, imgsz: int) -> None:
        """Check that every bundle and graph takes the input that all networks are measured with.

        Otherwise the drops would be those of another side, not of the pruning.

        Args:
            imgsz: input side in pixels.

        Raises:
            SlimError: bundles or a graph of another side.
        """
        found = {str(self.bundles[key]): spec.imgsz for key, spec in self.specs.items()}
        found |= {str(self.onnx): layout_of(self.onnx).imgsz} if self.onnx else {}
        wrong = {where: sides for where, sides in found.items() if sides != (imgsz, imgsz)}
        if wrong:
            raise SlimError(
                f"These networks have another input side than {imgsz}, with which all would be measured.",
                culprits=[f"{where}: {height}x{width}" for where, (height, width) in wrong.items()],
                remedy="Give bundles and a graph of one side; validate those of another side on their own.",
            )

    @property
    def layout(self) -> str:
        """Output layout of all networks."""
        return "end2end" if self.end2end else "one2many"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all networks are measured with."""

    images: ScoredImages
    device: Device
    """Runs the bundles; weights and graphs run on this machine."""
    profile: Profile
    """The target."""
    imgsz: int
    """Input side in pixels."""
    progress: Progress

    def can_run(self, spec: BundleSpec) -> bool:
        """Whether the device can run a bundle; where it can't, the bundle's graph is scored on this machine."""
        return can_run(self.device, spec, self.profile)
