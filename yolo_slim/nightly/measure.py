"""One cell on its device: accuracy of tonight's bundle, and its speed in turns with the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.backends import engine_builder
from yolo_slim.config.nightly import NightlyTiming
from yolo_slim.config.profile import Profile
from yolo_slim.devices.answers import NOT_ITS_SPEED, Bench
from yolo_slim.devices.base import BenchSettings, Device, Placed, can_run, celsius_limit
from yolo_slim.errors import DeviceGone, SlimError, StorageError
from yolo_slim.history.rows import Timing
from yolo_slim.measuring.accuracy import Accuracy, score
from yolo_slim.measuring.images import ScoredImages
from yolo_slim.measuring.matches import Matches
from yolo_slim.measuring.rounds import merged, time_in_rounds
from yolo_slim.measuring.timer import Timer
from yolo_slim.progress import Progress
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.runtime.decode import Detections

CANDIDATE, REFERENCE = "candidate", "reference"
Pair = Mapping[str, Bench]
"""One round: a timing of each bundle."""
IsDecided = Callable[[list[float], list[float]], bool]
"""From the reference's and the candidate's medians of the rounds: whether more rounds can't change the answer."""


class ReferenceFailed(SlimError):
    """The reference can't be run, which says nothing of tonight's bundle."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of one cell."""

    accuracy: Accuracy
    matches: Matches
    timing: Timing
    size_mb: float


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Measures bundles on one device."""

    device: Device
    profile: Profile
    images: ScoredImages
    names: Mapping[int, str]
    timing: NightlyTiming
    progress: Progress

    def measure(self, candidate: Path, reference: Path | None, is_decided: IsDecided, label: str) -> Measured:
        """Detect with tonight's bundle, then time it in turns with the reference.

        Args:
            candidate: tonight's bundle.
            reference: the baseline's bundle; None: there is none.
            is_decided: asked after each number of rounds of the settings but the last.
            label: what people call the cell.

        Raises:
            SlimError: the device can't run tonight's bundle.
        """
        placed = self.place(candidate)
        answers = self.detect(placed, label)
        files = placed.spec
        return Measured(
            accuracy=score(self.images.truths, answers, dict(self.names)),
            matches=self.matches(answers),
            timing=self._timing(placed, reference, is_decided, label),
            size_mb=sum(files.files[name]["size_bytes"] for name in files.model.values()) / 1e6,
        )

    def detect(self, placed: Placed, label: str) -> list[Detections]:
        """Detect in every image."""
        self.progress.step(f"nightly: detect: {label}", 0, 1)
        answers = [one.detections for one in self.device.infer(placed, self.images.folder)]
        self.progress.step(f"nightly: detect: {label}", 1, 1)
        return answers

    def matches(self, answers: list[Detections]) -> Matches:
        """Hold detections against the labels."""
        return Matches.of(self.images.paths, self.images.truths, answers)

    def _timing(self, candidate: Placed, reference: Path | None, is_decided: IsDecided, label: str) -> Timing:
        """Time in turns with the reference; without it where it can't be run any more."""
        if reference is None:
            return self.time({CANDIDATE: candidate}, is_decided, label)
        try:
            with _of_the_reference():
                both = {CANDIDATE: candidate, REFERENCE: self.place(reference)}
            return self.time(both, is_decided, label)
        except ReferenceFailed as error:
            self.progress.say(f"nightly: {label}: the reference can't be run any more: {error.fact}")
            alone = self.time({CANDIDATE: candidate}, is_decided, label)
            return alone.model_copy(update={"reference_error": str(error)})

    def time(self, placed: Mapping[str, Placed], is_decided: IsDecided, label: str) -> Timing:
        """Time the bundles in turns until the answer is clear, or to the limit.

        A bundle alone gets the first rounds, an emulated device a single one.

        Raises:
            ReferenceFailed: the device can't run the reference.
            SlimError: the device can't run the candidate.
        """
        timer = Timer(
            device=self.device, placed=placed, images=self.images.folder, settings=self._settings(), refuses=False
        )

        def bench(key: str) -> Bench:
            with _of_the_reference() if key == REFERENCE else nullcontext():
                return timer(key)

        looks = self.timing.rounds if REFERENCE in placed else self.timing.rounds[:1]
        pairs: list[Pair] = []
        for limit in looks:
            while len(pairs) < limit:
                # Every other round begins with the other bundle: a drift inside the rounds favours neither.
                keys = list(placed) if len(pairs) % 2 else list(reversed(list(placed)))
                pairs.append(time_in_rounds(keys, 1, bench, lambda *_: None))
                self.progress.step(f"nightly: time {label}", len(pairs), looks[-1])
                if NOT_ITS_SPEED in _lasting(pairs):
                    break
            counted = [pair for pair in pairs if _counts(pair)]
            if _lasting(pairs):
                break
            if len(counted) >= looks[0] and REFERENCE in placed and is_decided(*medians(counted)):
                break
        self.progress.step(f"nightly: time {label}", looks[-1], looks[-1])
        return _timing(pairs, fewest=looks[0])

    def place(self, bundle: Path) -> Placed:
        """Bring a bundle to the device, and build its engine there.

        Raises:
            SlimError: the device can't run it.
        """
        placed = self.device.put(bundle)
        if not can_run(self.device, placed.spec, self.profile):
            raise SlimError(
                f"{self.device.name} can't run {placed.build}: its engine is built on a {self.profile.name}.",
                remedy="Give the target a host in the matrix, or leave the build out with `only`.",
            )
        if engine_builder(placed.build.runtime):
            self.device.build(placed)
        return placed

    def _settings(self) -> BenchSettings:
        return BenchSettings(
            seconds=self.timing.seconds,
            queries=self.timing.frames,
            max_celsius=celsius_limit(self.device, self.profile),
            repeats=REPEATS,
        )


@contextmanager
def _of_the_reference() -> Iterator[None]:
    """Tell errors of the reference from those of its device and of this machine."""
    try:
        yield
    except (StorageError, DeviceGone):
        raise
    except SlimError as error:
        raise error.as_kind(ReferenceFailed) from error


def medians(pairs: list[Pair]) -> tuple[list[float], list[float]]:
    """The reference's and the candidate's median latencies of the rounds, milliseconds."""
    reference, candidate = ([pair[key].stages.total.p50_ms for pair in pairs] for key in (REFERENCE, CANDIDATE))
    return reference, candidate


def _counts(pair: Pair) -> bool:
    """Whether both timings of a round count."""
    return all(bench.is_valid for bench in pair.values())


def _lasting(pairs: list[Pair]) -> set[str]:
    """Why no timing counts, word for word the same in all of them: more rounds wouldn't change that."""
    return set.intersection(*(set(bench.invalid_reasons) for pair in pairs for bench in pair.values()))


def _timing(pairs: list[Pair], *, fewest: int) -> Timing:
    """Put the rounds that count together; with too few of them all rounds, with the reasons why they don't count."""
    counted = [pair for pair in pairs if _counts(pair)]
    left_out = [pair for pair in pairs if not _counts(pair)]
    used, others = (counted, left_out) if len(counted) >= fewest else (pairs, [])
    return Timing(
        candidate=merged([pair[CANDIDATE] for pair in used]),
        reference=merged([pair[REFERENCE] for pair in used]) if REFERENCE in pairs[0] else None,
        left_out=tuple(bench for pair in others for bench in pair.values()),
    )
