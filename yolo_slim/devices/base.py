"""What the host asks of a device. It only infers and times; the host scores and judges.

A new kind of device is one module with a class that satisfies :class:`Device`; tests/devices checks any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from yolo_slim.backends import engine_builder
from yolo_slim.build_key import BuildName
from yolo_slim.bundle import BundleSpec
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import ValidateConfig
from yolo_slim.devices.answers import Bench, DeviceFacts, SelfCheck
from yolo_slim.files import JsonObject
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.runtime.infer import ImageDetections
from yolo_slim.runtime.layers import LayerTimes
from yolo_slim.runtime.paired import Paired


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A bundle that is on a device."""

    spec: BundleSpec
    """What bundle.json says."""
    path: str
    """Its folder on the device."""

    @property
    def build(self) -> BuildName:
        """The bundle's runtime and precision."""
        return BuildName.of(self.spec)


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How long one timing takes, and when it counts."""

    seconds: float
    """Least duration of the timed part."""
    queries: int
    """Least number of timed frames."""
    max_celsius: float | None = None
    """A timing that starts or ends hotter doesn't count; None: no limit."""
    repeats: int = 0
    """How often a timing is repeated that other programs on the device disturbed."""
    minutes: float = 0.0
    """Duration of a sustained run after the timing; 0: none."""
    breakdown: bool = False
    """Look after the timing where the time of a frame goes."""

    @classmethod
    def of_round(cls, config: ValidateConfig, max_celsius: float | None) -> BenchSettings:
        """Give one of ``config.rounds`` rounds its part of the frames and seconds."""
        return cls(
            seconds=config.min_seconds / config.rounds,
            queries=-(-config.min_queries // config.rounds),
            max_celsius=max_celsius,
            repeats=REPEATS if config.busy == "repeat" else 0,
        )


class Device(Protocol):
    """A machine that runs bundles. Images are files of the host; a device that is elsewhere copies them."""

    @property
    def name(self) -> str:
        """What people call it: ``this machine``, or its address."""

    @property
    def is_here(self) -> bool:
        """Whether it is the machine that runs this program."""

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""

    def is_target(self, profile: Profile) -> bool:
        """Whether it is the device that a profile describes."""

    def put(self, bundle: Path) -> Placed:
        """Bring a bundle's folder to the device.

        Raises:
            SlimError: no bundle, or a damaged one.
        """

    def build(self, placed: Placed) -> None:
        """Build what a bundle leaves to the device (TensorRT's engine); an engine that is up to date is used again.

        Raises:
            SlimError: the build failed.
        """

    def tune(self, placed: Placed, images: Path) -> str:
        """Find the threads and options that a bundle runs fastest with, and keep them there; say which.

        A bundle that was tuned on this device before stays as it is. Where the timings don't count, nothing is kept.

        Raises:
            SlimError: it can't run.
        """

    def check(self, placed: Placed) -> SelfCheck:
        """Compare a bundle's detections on its own images with those of the workstation.

        Raises:
            SlimError: it can't run.
        """

    def infer(self, placed: Placed, images: Path, *, candidates: bool = False) -> list[ImageDetections]:
        """Detect in every image of a folder, with every score above .001; the answers are sorted by file name.

        Args:
            placed: the bundle.
            images: the folder.
            candidates: add what NMS chose from.

        Raises:
            SlimError: it can't run.
        """

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Time a bundle on the images of a folder; a timing that doesn't count says why.

        Raises:
            SlimError: it can't run.
        """

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Time the inference of two bundles in the same rounds, both in one process.

        Args:
            before: the bundle that the other is compared with.
            after: the other.
            images: folder, or one image.
            rounds: how often both are timed.
            frames: timed frames of each bundle in a round.
            max_celsius: a timing that starts or ends hotter doesn't count; None: no limit.

        Raises:
            SlimError: one of them can't run.
        """

    def time_layers(self, layers: Path, *, max_celsius: float | None = None) -> LayerTimes:
        """Time single layers, see :func:`yolo_slim.runtime.layers.time_layers`.

        Args:
            layers: file of :func:`yolo_slim.measuring.layer_graphs.write`.
            max_celsius: as in :meth:`time_paired`.

        Raises:
            SlimError: they can't run.
        """

    def close(self) -> None:
        """End the connection and remove what was put there."""


def identity(device: Device) -> JsonObject:
    """Tell a device from others, for results that hold on it alone; boards of one model are told apart by name."""
    value: JsonObject = {"machine": device.facts().model}
    return value if device.is_here else {**value, "device": device.name}


def can_run(device: Device, spec: BundleSpec, profile: Profile) -> bool:
    """Whether a bundle can run on a device: an engine is built and run on its target only."""
    return not engine_builder(spec.runtime) or device.is_target(profile)


def celsius_limit(device: Device, profile: Profile) -> float | None:
    """The temperature above which a timing doesn't count; a target's limit says nothing of another machine."""
    return profile.thermal.max_celsius if device.is_target(profile) else None
