"""What an emulated device proves of a target's bundles: that they work there, and find what they find here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yolo_slim.build_key import BuildKey
from yolo_slim.bundle import BundleSpec, read_spec
from yolo_slim.config.record import BuildKeyText, Record
from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.devices.base import Device
from yolo_slim.devices.emulated.device import EmulatedDevice, Inferred, open_emulated
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.measuring.agreement import agreement, allowed_map_difference, shown, threshold
from yolo_slim.measuring.images import ScoredImages, scored_images
from yolo_slim.progress import Progress
from yolo_slim.runtime.decode import VAL
from yolo_slim.runtime.infer import ImageDetections
from yolo_slim.runtime.tolerances import Tolerances, max_score_difference

NOTHING_FOUND = "neither side finds anything in these images"
ALL_SUPPRESSED = "in these images NMS chooses another box of every object on the two sides"


class EmulatedBuild(Record):
    """One bundle on the emulated device."""

    key: BuildKeyText
    """``control/`` or ``slim/``, then runtime and precision."""
    status: Literal["pass", "fail", "unproven"]
    """``unproven``: nothing could be compared."""
    problems: tuple[str, ...] = ()
    """Why it failed or is unproven."""
    self_check: bool | None = None
    """Whether the bundle's own check passed; null: it didn't run."""
    matched: int = 0
    """Detections that both sides have."""
    unmatched: int = 0
    """Detections that only one side has."""
    suppressed: int = 0
    """Detections that one side computed but doesn't show: its suppression (NMS) kept another box of the object."""
    largest_score_difference: float | None = None
    """Of the matched ones; null: there is none."""
    lowest_iou: float | None = None
    """Of the matched ones; null: there is none."""
    largest_shift_px: float | None = None
    """How far sides of matched boxes are apart at most, in pixels of the network's input; null: there is none."""
    map50_95: float | None = None
    """On the emulated device, on these images."""
    workstation_map50_95: float | None = None
    """The same bundle on the workstation, on the same images."""
    peak_memory_mb: float | None = None
    """Peak memory of the process. The emulator's own is in it, so the board needs less."""
    seconds: float
    """How long self-check and images took: the emulation's duration, not the board's."""


class Emulated(Record):
    """A target's bundles on an emulated processor."""

    device: str
    """Name of the emulated device."""
    model: str
    """What it is, with the emulator's version."""
    processor: str
    """The processor."""
    python: str
    """Version of Python there."""
    packages: tuple[str, ...]
    """Python packages there."""
    split: str
    """Split of the images."""
    images: tuple[str, ...]
    """File names of the images, spread over those that mAP is measured on."""
    builds: tuple[EmulatedBuild, ...]
    """Every slim bundle, and the control's fp32 one."""

    def build(self, key: BuildKey | None) -> EmulatedBuild | None:
        """Find one build."""
        return next((build for build in self.builds if build.key == key), None)


def emulated_keys(bundles: Mapping[BuildKey, Path]) -> list[BuildKey]:
    """The bundles that are emulated: all slim ones; of the control one, which shows that the device is in order."""
    return [key for key in bundles if key.is_slim or key.build.precision == "fp32"]


def emulated(
    name: str, bundles: Mapping[BuildKey, Path], dataset: Dataset, folder: Path, progress: Progress
) -> Emulated:
    """Run bundles on an emulated device and here.

    Args:
        name: of the emulated device.
        bundles: their folders.
        dataset: the images, of one split.
        folder: where links to the images are written.
        progress: listener.
    """
    images = scored_images(dataset, ValidateConfig(), folder)
    device = open_emulated(name)
    try:
        emulation = Emulation(
            device=device, workstation=LocalDevice(), images=images, names=dataset.names, progress=progress
        )
        builds = emulation.measure(bundles)
    finally:
        device.close()
    facts = device.shell.root.facts
    return Emulated(
        device=name, model=device.facts().model, processor=device.shell.processor.label, python=facts.python,
        packages=facts.wheels, split=images.split, images=tuple(path.name for path in images.paths),
        builds=tuple(builds),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What bundles are compared with."""

    device: EmulatedDevice
    workstation: Device
    images: ScoredImages
    names: dict[int, str]
    """Class id to name."""
    progress: Progress

    def measure(self, bundles: Mapping[BuildKey, Path]) -> list[EmulatedBuild]:
        """Run every bundle on both sides, one after the other."""
        found = []
        for number, (key, bundle) in enumerate(bundles.items()):
            self.progress.step(f"emulate: {key} on {self.device.name}", number, len(bundles))
            found.append(self._measured(key, bundle))
            self.progress.say(as_line(found[-1]))
        return found

    def _measured(self, key: BuildKey, bundle: Path) -> EmulatedBuild:
        """Run one bundle on both sides.

        Raises:
            MachineError: the emulation was ended from outside, or took too long: that says nothing of the bundle.
        """
        started = time.monotonic()
        try:
            placed = self.device.put(bundle)
            passed = self.device.check(placed).passed
            there = self.device.infer_measured(placed, self.images.folder)
        except MachineError:
            raise
        except SlimError as error:
            seconds = round(time.monotonic() - started, 1)
            return EmulatedBuild(key=key, status="fail", problems=(error.fact, *error.culprits[-2:]), seconds=seconds)
        seconds = round(time.monotonic() - started, 1)
        here = self.workstation.infer(self.workstation.put(bundle), self.images.folder, candidates=True)
        return self._compared(key, read_spec(bundle), passed, here, there, seconds)

    def _compared(
        self,
        key: BuildKey,
        spec: BundleSpec,
        passed: bool,
        here: Sequence[ImageDetections],
        there: Inferred,
        seconds: float,
    ) -> EmulatedBuild:
        from yolo_slim.measuring.accuracy import score

        own, other = (
            score(self.images.truths, [one.detections for one in side], self.names).map50_95
            for side in (here, there.images)
        )
        seen_here, seen_there = ([shown(one) for one in side] for side in (here, there.images))
        score_limit = max_score_difference(key.build.precision)
        tolerances = [
            # The images were detected as for mAP.
            Tolerances(score=score_limit, nms_iou=VAL.iou, image_hw=one.image_hw, imgsz=spec.imgsz)
            for one in here
        ]
        found = agreement(seen_here, seen_there, threshold(seen_here, spec.conf), tolerances)
        problems = [] if passed else ["the bundle's self-check failed"]
        problems += found.problems(score_limit)
        most = allowed_map_difference(len(there.images))
        if not abs(own - other) <= most:
            problems.append(f"mAP50-95 is {other:.4f} there and {own:.4f} here, at most {most:.4f} apart allowed")
        nothing = not problems and not found.matched
        return EmulatedBuild(
            key=key,
            status="fail" if problems else "unproven" if nothing else "pass",
            problems=(ALL_SUPPRESSED if found.suppressed else NOTHING_FOUND,) if nothing else tuple(problems),
            self_check=passed,
            matched=found.matched,
            unmatched=len(found.unmatched),
            suppressed=found.suppressed,
            largest_score_difference=found.largest_score_difference,
            lowest_iou=found.lowest_iou,
            largest_shift_px=found.largest_shift_px,
            map50_95=other,
            workstation_map50_95=own,
            peak_memory_mb=there.peak_memory_mb,
            seconds=seconds,
        )


def as_line(build: EmulatedBuild) -> str:
    """One line for people."""
    if build.problems:
        return f"emulate: {build.key}: {build.status}: {'; '.join(build.problems)}"
    return (
        f"emulate: {build.key}: {build.matched} detections agree, scores within {build.largest_score_difference:.4f}, "
        f"{build.seconds:.0f} s"
    )
