"""The typed rows of a history: nights, runs of cells, baselines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from yolo_slim.config.record import Record
from yolo_slim.devices.answers import NOT_ITS_SPEED, Bench
from yolo_slim.files import JsonObject
from yolo_slim.verdict.result import ClassAccuracy

Answer = Literal["worse", "same", "better", "unknown"]
Status = Literal["worse", "same", "better", "unknown", "first", "incomparable", "excluded", "failed", "missing"]
"""The answer for a whole cell. ``first``: there is no baseline yet. ``incomparable``: data or profile aren't the
baseline's, or its bundle can't be timed. ``excluded``: the timing doesn't count, or is another device's. ``failed``:
the cell has an error. ``missing``: the device doesn't answer."""
WORST_FIRST: tuple[Status, ...] = (
    "worse", "failed", "missing", "excluded", "incomparable", "unknown", "better", "first", "same",
)  # fmt: skip
"""The answers in the order in which people must see them."""
State = Literal["measured", "failed", "missing"]
NIGHT, TRIAL = "night", "trial"


class Cell(Record):
    """One model on one data set with one group of settings, as one build on one device."""

    model: str
    """Name of the model in the matrix."""
    data: str
    """Name of the data set in the matrix."""
    settings: str
    """Name of the settings in the matrix."""
    target: str
    """Name of the device in the matrix."""
    build: str
    """Runtime and precision, such as ``ncnn-fp16``."""

    @property
    def name(self) -> str:
        """What identifies the cell in every night: its five names, joined by slashes."""
        return "/".join((self.model, self.data, self.settings, self.target, self.build))


class Source(Record):
    """The source code that a night ran in: the git repository of the matrix, if it is in one."""

    commit: str | None = None
    """Hash of the commit; null: no repository."""
    branch: str | None = None
    """Branch; null: no repository, or a detached HEAD."""
    dirty: bool | None = None
    """Whether tracked files differed from the commit; null: no repository."""
    subject: str | None = None
    """First line of the commit's message."""


class Night(Record):
    """One call of ``yolo-slim nightly``."""

    number: int
    """Counts up by one a night, whatever the clock says."""
    uid: str
    """The same in every copy of a history."""
    kind: Literal["night", "trial"]
    """``trial``: a comparison with a branch (``--against``); no later night is compared with it."""
    started_at: str
    """ISO 8601, UTC, by this machine's clock."""
    ended_at: str | None
    """The same; null: it was interrupted, or runs now."""
    matrix: str
    """SHA-256 of the matrix, profiles, weights, data and what they are compared with: an interrupted night with the
    same one may be resumed. Empty: it was imported while it ran elsewhere."""
    source: Source
    """The code that it ran in."""
    imported: bool = False
    """Whether it was imported: then it is ordered by ``started_at``, and its bundles are elsewhere."""


class Digests(Record):
    """SHA-256 of what a run read and made."""

    weights: str
    """The trained checkpoint."""
    data: str
    """Images and labels of the data set."""
    bundle: str
    """``bundle.json`` of the slim bundle, which has the digests of its files."""
    network: str
    """The model files of the bundle alone."""
    calibration: str | None = None
    """The list of calibration images; null: the build needs none."""


class Accuracy(Record):
    """Accuracy of the slim bundle on the device."""

    map50_95: float
    """Mean over IoU .50 to .95 and the classes that occur."""
    map50: float
    """The same at IoU .50."""
    per_class: dict[int, ClassAccuracy]
    """Accuracy of every class by id."""
    names: dict[int, str]
    """Name of every class id."""
    images: int
    """Number of scored images."""
    boxes: int
    """Number of labelled objects in them."""


class Speed(Record):
    """Speed of the slim bundle on the device, over all rounds."""

    p50_ms: float
    """Median end-to-end latency."""
    p90_ms: float
    """90th percentile."""
    p99_ms: float
    """99th percentile."""
    fps: float
    """1000 divided by the median."""
    rounds: int
    """Rounds in which candidate and reference were timed in turns."""
    reference_p50_ms: float | None
    """Median latency of the reference in the same rounds; null: there was no reference."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count; empty: it counts."""


class Measurement(Record):
    """What was measured of a cell."""

    accuracy: Accuracy
    """On the device."""
    speed: Speed
    """On the device."""
    size_mb: float
    """Size of the model files, megabytes (10^6 bytes)."""
    peak_memory_mb: float | None
    """Peak memory of the process; null: unknown."""
    verdict: str
    """Verdict of the chain by the profile's budgets: ``pass``, ``fail`` or ``unproven``."""

    @property
    def shown_speed(self) -> Speed | None:
        """The speed for people and programs; None on an emulated device, whose timings say nothing of the device."""
        return None if NOT_ITS_SPEED in self.speed.invalid_reasons else self.speed

    @property
    def figures_text(self) -> str:
        """``mAP50-95 0.3720, 310.3 FPS``."""
        fps = f", {self.shown_speed.fps:.1f} FPS" if self.shown_speed else ""
        return f"mAP50-95 {self.accuracy.map50_95:.4f}{fps}"


class Compared(Record):
    """One quantity of tonight's bundle against the reference."""

    answer: Answer
    """``unknown``: neither a change nor its absence could be shown."""
    change: float
    """Speed: median ratio of latencies minus 1. Accuracy: mAP50-95 tonight minus the reference's."""
    lowest: float
    """Lower end of the confidence interval of the change."""
    highest: float
    """Upper end."""
    p_worse: float
    """P value against "not worse by more than the smallest effect", before the correction for many cells."""
    p_better: float
    """The same for better."""
    samples: int
    """Rounds, or images."""


class Judgement(Record):
    """What a night says of one cell."""

    status: Status
    """The worse of speed and accuracy; or why there is no answer."""
    reason: str
    """One sentence for people."""
    baseline: str | None
    """``uid`` of the run that it was compared with; null: none."""
    speed: Compared | None = None
    """Null: not compared."""
    accuracy: Compared | None = None
    """Null: not compared."""
    device_change: float | None = None
    """The reference's own latency tonight, divided by its median in earlier nights, minus 1; null: unknown."""
    device_changed: bool = False
    """Whether that is more than the earlier nights vary: then the device itself became slower or faster."""
    moved: tuple[str, ...] = ()
    """What differs from the baseline's night: commit, weights, data, settings, the workstation's SDKs, the device."""
    device_moved: tuple[str, ...] = ()
    """Of these the device's own: SDKs, system, clocks, power mode."""


class Run(Record):
    """One cell in one night."""

    uid: str
    """The same in every copy of a history."""
    night: int
    """Number of the night."""
    cell: Cell
    """What was run."""
    state: State
    """``measured``, or why not."""
    recorded_at: str
    """ISO 8601, UTC."""
    error: str | None = None
    """Why it failed, or why the device is missing; null: measured."""
    measurement: Measurement | None = None
    """Null: not measured."""
    digests: Digests | None = None
    """Null: not measured."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Device, clock limits, power mode, system and versions there, one fact a key, such as ``onnxruntime: 1.32.0``."""
    workstation: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that made and scored the bundle, such as ``torch: 2.9.0``; empty: not recorded."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Settings of the chain and the profile, one a key."""
    reference: str | None = None
    """``uid`` of the run that it is compared with. Its bundle, if it is still there, was timed in turns with this one;
    null: there was none."""
    judgement: Judgement | None = None
    """Null: the night isn't judged yet."""

    def shown_json(self) -> JsonObject:
        """The facts for other programs: without the speed of an emulated device."""
        value = self.to_json()
        if self.measurement and self.measurement.shown_speed is None:
            value["measurement"] = {**self.measurement.to_json(), "speed": None}
        return value


class Baseline(Record):
    """The run that a cell's later nights are compared with."""

    cell: str
    """Name of the cell."""
    run: str
    """``uid`` of the run."""
    night: int
    """The night that the run is of."""
    reason: str
    """Why it is the baseline, in the words of whoever said so."""
    at: str
    """When that was said, ISO 8601, UTC."""
    number: int
    """Counts up; a cell's baseline is the one with the largest number."""


class Timing(Record):
    """The raw timing of one cell: every frame of every round."""

    candidate: Bench
    """Tonight's bundle."""
    reference: Bench | None = None
    """The baseline's bundle, timed in turns with it; null: there is none, it is gone, or it can't be run any more."""
    reference_error: str | None = None
    """Why the reference couldn't be run; null: it could, or there was none."""
    left_out: tuple[Bench, ...] = ()
    """Both bundles' timings of rounds that don't count, because the device was throttled or busy in one of them."""
