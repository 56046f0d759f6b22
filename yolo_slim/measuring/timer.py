"""One timing on a device, and what happens to it where other programs disturbed it (``validate.busy``)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from yolo_slim.config.profile import Profile
from yolo_slim.config.run import ValidateConfig
from yolo_slim.devices.answers import Bench
from yolo_slim.devices.base import BenchSettings, Device, Placed, celsius_limit
from yolo_slim.errors import SlimError
from yolo_slim.measuring.networks import Setup

Key = TypeVar("Key", bound=Hashable)


@dataclass(kw_only=True)
class Timer(Generic[Key]):
    """Times bundles that are on a device, for :func:`yolo_slim.measuring.rounds.time_in_rounds`."""

    device: Device
    placed: Mapping[Key, Placed]
    images: Path
    """Folder of the images to time with."""
    settings: BenchSettings
    refuses: bool
    """A disturbed timing is an error."""
    breakdown: bool = False
    """The first timing of every bundle is followed by a look at where its time goes."""
    divided: set[Key] = field(default_factory=set)
    """Bundles for which that is done."""
    tell: Callable[[str], None] = lambda _: None
    """Hears of a timing that was repeated in vain."""

    @classmethod
    def of(
        cls, config: ValidateConfig, device: Device, profile: Profile, placed: Mapping[Key, Placed], images: Path
    ) -> Timer[Key]:
        """Time as the settings of a run say."""
        settings = BenchSettings.of_round(config, celsius_limit(device, profile))
        return cls(device=device, placed=placed, images=images, settings=settings, refuses=config.busy == "refuse")

    def __call__(self, key: Key) -> Bench:
        """Time one bundle once.

        Raises:
            SlimError: other programs disturbed it, and ``validate.busy`` is ``refuse``.
        """
        settings = replace(self.settings, breakdown=self.breakdown and key not in self.divided)
        found = self.device.bench(self.placed[key], self.images, settings)
        if settings.breakdown:
            self.divided.add(key)
        if found.is_disturbed and self.refuses:
            raise SlimError(
                f"Other programs keep {self.device.name} busy, so it can't be timed.",
                culprits=found.invalid_reasons,
                remedy="Stop them, or set validate.busy to mark: the timings are then kept and marked invalid.",
                topic="the-machine-is-busy",
            )
        if found.is_disturbed:
            if self.settings.repeats:
                self.tell(
                    f"timing: {key}: {'; '.join(found.invalid_reasons)}. It was repeated, and still doesn't count"
                )
            # The pauses didn't help. Repeating every later timing would only cost minutes.
            self.settings = replace(self.settings, repeats=0)
        return found


def run_on(placed: Placed, config: ValidateConfig, setup: Setup) -> Bench:
    """Time one bundle for ``validate.sustained_minutes`` more; what disturbs it is treated as in any timing.

    Raises:
        SlimError: as :meth:`Timer.__call__`.
    """
    timer = Timer.of(config, setup.device, setup.profile, {"": placed}, setup.images.folder)
    timer.settings = replace(timer.settings, minutes=config.sustained_minutes)
    return timer("")


def is_kept(bench: Bench, config: ValidateConfig) -> bool:
    """Whether a timing that doesn't count is kept, because only other programs spoiled it and the user said so."""
    return config.busy == "mark" and bench.is_disturbed
