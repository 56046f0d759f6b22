"""Score and time the bundles of a comparison on the device. Only this module calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_slim.comparison.folder import Work, once
from yolo_slim.comparison.networks import Network, representatives, timed_key
from yolo_slim.comparison.result import Score, Timing
from yolo_slim.config.record import read_record
from yolo_slim.devices.answers import Bench
from yolo_slim.devices.base import identity
from yolo_slim.files import JsonObject, read_json, sha256, write_json
from yolo_slim.measuring.accuracy import score
from yolo_slim.measuring.images import ScoredImages, scored_images
from yolo_slim.measuring.rounds import time_in_rounds
from yolo_slim.measuring.timer import Timer, is_kept
from yolo_slim.preparation import Run
from yolo_slim.runtime.decode import VAL

TIMING_SCHEMA = 4
"""Of timing.json; one of another is measured again."""


@dataclass(frozen=True)
class Meter:
    """The device, and the images that it scores and times with."""

    run: Run
    images: ScoredImages

    @classmethod
    def of(cls, run: Run) -> Meter:
        """Make ready to measure in a run's folder."""
        return cls(run, scored_images(run.context.dataset, run.config.validate_, run.folder / "data"))

    @property
    def is_target(self) -> bool:
        """Whether the device is the one of the profile."""
        return self.run.context.device.is_target(self.run.context.profile)

    def score_all(self, bundles: Mapping[str, Path], folder: Path) -> dict[str, Score]:
        """Measure the mAP of every runtime's bundle, by its own detections."""
        return {key: self._score(bundle, folder / "score" / key) for key, bundle in bundles.items()}

    def _score(self, bundle: Path, folder: Path) -> Score:
        """Measure the mAP of a bundle's own detections, once."""
        out = folder / "score.json"

        def make() -> bool:
            text = f"compare: detect with {bundle.name}"
            self.run.context.progress.step(text, 0, 1)
            device = self.run.context.device
            answers = device.infer(device.put(bundle), self.images.folder)
            names = self.run.context.dataset.names
            found = score(self.images.truths, [answer.detections for answer in answers], names)
            write_json(out, {"map50_95": found.map50_95, "map50": found.map50, "per_class": found.per_class})
            self.run.context.progress.step(text, 1, 1)
            return True

        device = self.run.context.device
        decides: dict[str, Any] = {"split": self.images.split, "images": len(self.images.paths), "detect": asdict(VAL)}
        decides |= {} if device.is_here else {"device": device.name}
        inputs = {"bundle": sha256(bundle / "bundle.json"), "data": self.run.context.dataset.digest}
        once(Work(stage="compare-score", folder=folder, decides=decides, inputs=inputs), [out.name], make)
        found = read_json(out)
        return Score(map50_95=found["map50_95"], map50=found["map50"])

    def time_all(self, networks: Sequence[Network]) -> dict[str, Timing]:
        """Time all networks that differ in shape, in the same rounds.

        Returns:
            By the names of :func:`~yolo_slim.comparison.networks.timed_key`.
        """
        bundles = {
            timed_key(one, key): bundle for one in representatives(networks) for key, bundle in one.bundles.items()
        }
        out = self.run.folder / "timing" / "timing.json"

        def make() -> bool:
            found = self._time(bundles)
            write_json(out, {key: one.to_json() for key, one in found.items()})
            # Timings of a throttled or busy machine are shown, but the next call measures again.
            return all(one.is_valid or is_kept(one, self.run.config.validate_) for one in found.values())

        digests = {key: sha256(bundle / "bundle.json") for key, bundle in bundles.items()}
        work = Work(stage="compare-timing", folder=out.parent, decides=self._timing_settings(), inputs=digests)
        once(work, [out.name], make)
        timings = {key: read_record(Bench, value, str(out), "Compare again.") for key, value in read_json(out).items()}
        return {key: Timing.of(bench) for key, bench in timings.items()}

    def _timing_settings(self) -> JsonObject:
        """What decides the timings; the device and the versions too, because the figures are theirs."""
        how = self.run.config.validate_.model_dump(include={"min_seconds", "min_queries", "rounds", "busy"})
        device = self.run.context.device
        return {**how, **identity(device), "threads": device.facts().cores, "schema": TIMING_SCHEMA}

    def _time(self, bundles: Mapping[str, Path]) -> dict[str, Bench]:
        """Time the bundles round by round; raw samples included."""
        config, context = self.run.config.validate_, self.run.context
        device = context.device
        placed = {key: device.put(bundle) for key, bundle in bundles.items()}
        return time_in_rounds(
            list(bundles),
            config.rounds,
            Timer.of(config, device, context.profile, placed, self.images.folder),
            lambda done, total: context.progress.step("compare: time the bundles in rounds", done, total),
        )
