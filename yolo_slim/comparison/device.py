"""Score and time the bundles of a comparison on the device. Only this module calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.comparison.folder import Work, once
from yolo_slim.comparison.images import ScoredImages, choose_images
from yolo_slim.comparison.networks import Network, representatives, timed_key
from yolo_slim.comparison.result import Bench, Score
from yolo_slim.devices import local
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring import rounds
from yolo_slim.measuring.accuracy import read_truth, score
from yolo_slim.pipeline import Run

TIMING_SCHEMA = 2
"""Of timing.json; one of another is measured again."""


@dataclass(frozen=True)
class Testbench:
    """The device, and the images that it scores and times with."""

    run: Run
    images: ScoredImages

    @classmethod
    def of(cls, run: Run) -> Testbench:
        """Make ready to measure in a run's folder."""
        return cls(run, choose_images(run))

    @property
    def is_target(self) -> bool:
        """Whether the device is the one of the profile."""
        return local.is_device(self.run.context.profile)

    def score_all(self, bundles: Mapping[str, Path], folder: Path) -> dict[str, Score]:
        """Measure the mAP of every runtime's bundle, by its own detections."""
        return {key: self._score(bundle, folder / "score" / key) for key, bundle in bundles.items()}

    def _score(self, bundle: Path, folder: Path) -> Score:
        """Measure the mAP of a bundle's own detections, once."""
        out = folder / "score.json"

        def make() -> bool:
            text = f"compare: detect with {bundle.name}"
            self.run.context.progress.step(text, 0, 1)
            answers = local.infer(bundle, self.images.folder, cores())
            truths = [read_truth(path) for path in self.images.paths]
            found = score(truths, [answer.detections for answer in answers], self.images.names)
            write_json(out, {"map50_95": found.map50_95, "map50": found.map50, "per_class": found.per_class})
            self.run.context.progress.step(text, 1, 1)
            return True

        decides = {"split": self.images.split, "images": len(self.images.paths)}
        inputs = {"bundle": sha256(bundle / "bundle.json"), "data": self.run.context.dataset.digest}
        once(Work(stage="compare-score", folder=folder, decides=decides, inputs=inputs), [out.name], make)
        found = read_json(out)
        return Score(map50_95=found["map50_95"], map50=found["map50"])

    def time_all(self, networks: Sequence[Network]) -> dict[str, Bench]:
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
            write_json(out, found)
            # Timings of a throttled machine are shown, but the next call measures again.
            return all(one["valid"] for one in found.values())

        digests = {key: sha256(bundle / "bundle.json") for key, bundle in bundles.items()}
        work = Work(stage="compare-timing", folder=out.parent, decides=self._timing_settings(), inputs=digests)
        once(work, [out.name], make)
        return {key: Bench.from_timing(timing) for key, timing in read_json(out).items()}

    def _timing_settings(self) -> dict[str, Any]:
        """What decides the timings; the machine and the versions too, because the figures are theirs."""
        how = self.run.config.validate_.model_dump(include={"min_seconds", "min_queries", "rounds"})
        here = {"machine": device_model(), "threads": cores()}
        return {**how, **here, "schema": TIMING_SCHEMA}

    def _time(self, bundles: Mapping[str, Path]) -> dict[str, Any]:
        """Time the bundles round by round; raw samples included."""
        config, celsius = self.run.config.validate_, local.most_celsius(self.run.context.profile)
        return rounds.in_turns(
            list(bundles),
            config.rounds,
            lambda key: local.bench_turn(bundles[key], self.images.folder, config, celsius),
            lambda done, total: self.run.context.progress.step("compare: time the bundles in rounds", done, total),
        )
