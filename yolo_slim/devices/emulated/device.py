"""An emulated Raspberry Pi as a device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from yolo_slim.config.profile import Profile
from yolo_slim.config.record import read_record
from yolo_slim.devices.answers import NOT_ITS_SPEED, Bench, RuntimeRecord, SelfCheck
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.devices.commands import CommandDevice
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import require_root
from yolo_slim.devices.emulated.shell import EmulatedShell
from yolo_slim.runtime.infer import ImageDetections, detections_from_json
from yolo_slim.runtime.layers import LayerTimes
from yolo_slim.runtime.paired import Paired

FRAMES, SECONDS = 6, 0.05
"""More would cost minutes for a figure that doesn't count."""


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """What a bundle detected on an emulated device, and what it needed."""

    images: list[ImageDetections]
    runtime: RuntimeRecord
    peak_memory_mb: float | None
    """Peak memory of the process, the emulator's own part included."""


class EmulatedDevice(CommandDevice):
    """A processor that QEMU emulates."""

    shell: EmulatedShell

    def __init__(self, shell: EmulatedShell) -> None:
        super().__init__(shell)

    def is_target(self, profile: Profile) -> bool:
        """Never, not of a profile for any machine either: what is emulated proves no device."""
        del profile  # every device has this parameter
        return False

    def check(self, placed: Placed) -> SelfCheck:
        """Run the bundle's self-check, on no more threads than this machine has cores."""
        threads = self._threads(placed.spec.threads)
        return SelfCheck.from_device(self.shell.ask("check", placed.path, "--quiet", *threads))

    def tune(self, placed: Placed, images: Path) -> str:
        """Leave the bundle as it is: what is fast in an emulator says nothing of the processor."""
        del placed, images  # every device has these parameters
        return f"not tuned: {NOT_ITS_SPEED}"

    def infer_measured(self, placed: Placed, images: Path) -> Inferred:
        """Detect in a folder of images, candidates included, and say what ran and how much memory it took."""
        value = self._inferred(placed, images, candidates=True)
        return Inferred(
            images=detections_from_json(value, f"The answer of {self.name}"),
            runtime=read_record(RuntimeRecord, value["runtime"], self.name, ""),
            peak_memory_mb=value.get("peak_memory_mb"),
        )

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Time a few frames of a bundle; the timing never counts."""
        queries, seconds = min(settings.queries, FRAMES), min(settings.seconds, SECONDS)
        few = replace(settings, repeats=0, queries=queries, seconds=seconds, minutes=0.0, breakdown=False)
        found = super().bench(placed, images, few)
        return found.model_copy(update={"invalid_reasons": (NOT_ITS_SPEED, *found.invalid_reasons)})

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Time two bundles in turns; the timing never counts."""
        found = super().time_paired(before, after, images, rounds=rounds, frames=frames, max_celsius=max_celsius)
        return replace(found, invalid_reasons=(NOT_ITS_SPEED, *found.invalid_reasons))

    def time_layers(self, layers: Path, *, max_celsius: float | None = None) -> LayerTimes:
        """Time single layers; the timing never counts."""
        found = super().time_layers(layers, max_celsius=max_celsius)
        return replace(found, invalid_reasons=(NOT_ITS_SPEED, *found.invalid_reasons))


def open_emulated(name: str) -> EmulatedDevice:
    """Open an emulated device by its name.

    Raises:
        SlimError: it isn't prepared.
    """
    return EmulatedDevice(EmulatedShell(PROCESSORS[name], require_root(name)))
