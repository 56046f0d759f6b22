"""The content of ``result.json``. Page, terminal text and gates read these attributes.

docs/result.md is generated from the classes: the docstring under a field is its explanation there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from yolo_slim.build_key import BuildKey
from yolo_slim.config.record import BuildKeyText, BuildNameText, Record, read_record
from yolo_slim.devices.bench import Bench, DeviceFacts
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json

RESULT_SCHEMA = 2
"""Version of result.json. 2: builds have a ``key``, the winner stands beside them; ``target.is_measured``."""
MEASURE_AGAIN = "Run `yolo-slim run` or `yolo-slim validate` again."
OTHER_FILES = "Give the result.json of a run. `yolo-slim plan show` shows plans; a comparison's page is compare.html."
KEYS = ("ladder", "builds", "verdict")
"""Keys that a result of any version has; a file without them is something else."""

CONTROL, PRUNED, RECOVERED, ONNX = "control", "pruned", "recovered", "onnx"
"""Rungs of the ladder; a rung for every slim bundle follows."""
CHAIN = (CONTROL, PRUNED, RECOVERED, ONNX)
Status = Literal["pass", "fail", "unproven"]


class TargetFacts(Record):
    """The device profile."""

    name: str
    """Name of the profile, as in ``TARGET=``."""
    description: str
    """One line for people."""
    is_measured: bool
    """Whether the bundles ran on such a device. Where false, speed is unproven and the verdict can't be ``pass``."""


class DataFacts(Record):
    """What accuracy was measured on."""

    yaml: str
    """File name of the data set's description."""
    split: str
    """Its images that were used: ``val`` or ``test``."""
    images: int
    """Number of images."""
    boxes: int
    """Labelled objects in them."""
    names: dict[int, str]
    """Class number (as text) to class name."""


class Gate(Record):
    """One limit with what was measured."""

    name: str
    """``rung:`` and a rung of the ladder, or a key of the profile's budget, such as ``min_fps``."""
    rung: str | None
    """The rung that it judges; null: the winning bundle is judged."""
    limit: float
    """The limit; a value equal to it passes."""
    value: float | None
    """What was measured; null: nothing."""
    unit: str
    """Unit of both."""
    status: Status
    """Whether the value is inside the limit."""
    reason: str
    """Why it failed or wasn't measured; empty where it passed."""


class Verdict(Record):
    """The judgement."""

    status: Status
    """``fail`` where a gate failed; ``unproven`` where one wasn't measured, or not on the target; else ``pass``."""
    gates: tuple[Gate, ...]
    """Every limit that was set."""


class NetworkSize(Record):
    """Size of a network, independent of the runtime."""

    params: int
    """Parameters."""
    macs: int
    """Multiply-accumulates of one image through the fused network."""


class Sizes(Record):
    """The network before and after."""

    control: NetworkSize
    """The unpruned network."""
    slim: NetworkSize
    """The pruned network."""


class LayerWidth(Record):
    """Output channels of one convolution."""

    layer: str
    """Its name in the network."""
    before: int
    """Channels in the control."""
    after: int
    """Channels in the slim model."""


class ClassAccuracy(Record):
    """Average precision of one class."""

    ap50_95: float
    """Mean over IoU .50 to .95."""
    ap50: float
    """At IoU .50."""


class WorstClass(Record):
    """The class that lost most."""

    name: str
    """Its name."""
    drop: float
    """AP50-95 that it lost; negative: every class got better."""


class Rung(Record):
    """Accuracy of one step from the trained weights to the file on the device."""

    rung: str
    """``control``, ``pruned``, ``recovered``, ``onnx``, then one for every slim bundle: ``ncnn-fp16``."""
    build: BuildNameText | None
    """Runtime and precision of a bundle's rung; null: no bundle."""
    label: str
    """The same for people."""
    where: str
    """Which machine detected: ``this machine``, or the device's name."""
    map50_95: float
    """Mean average precision over IoU .50 to .95 and the classes that occur."""
    map50: float
    """The same at IoU .50."""
    against: str | None
    """The rung that it is compared with; null for the control."""
    drop: float | None
    """``map50_95`` of that rung minus this one's; negative: it got better; null for the control."""
    budget: float | None
    """Largest drop allowed; null: not judged."""
    status: Literal["pass", "fail", "info"]
    """``info``: not judged."""
    per_class: dict[str, ClassAccuracy]
    """Class name to its accuracy; classes without a label in the images are left out."""
    worst_class: WorstClass | None
    """The class that lost most against that rung; null for the control."""


class Build(Record):
    """Accuracy, size and speed of one bundle."""

    key: BuildKeyText
    """``control/`` or ``slim/``, then runtime and precision: ``slim/ncnn-fp16``."""
    map50_95: float | None
    """Mean average precision of the bundle's own detections, or of its graph's where it can't run; null: unknown."""
    map50: float | None
    """The same at IoU .50."""
    size_mb: float
    """Size of its model files, megabytes (10^6 bytes)."""
    bench: Bench | None
    """Timing; null: not timed."""

    @property
    def valid_bench(self) -> Bench | None:
        """Its timing, if there is one that counts."""
        return self.bench if self.bench and self.bench.is_valid else None


class SpeedUp(Record):
    """Speed of a slim build against its control.

    A ratio within a round isn't disturbed by a machine that is slower in one minute than in the next.
    """

    build: BuildNameText
    """Runtime and precision of both."""
    ratio: float
    """Median over the rounds of the control's median latency divided by the slim build's; above 1 slim is faster."""
    lowest: float
    """Smallest ratio of a round."""
    highest: float
    """Largest ratio of a round."""
    rounds: int
    """Number of rounds."""
    valid: bool
    """Whether both timings count."""


class PreflightCheck(Record):
    """One question about a build, and its answer."""

    name: str
    """What was asked."""
    status: Literal["pass", "fail", "unproven", "skipped"]
    """``unproven``: only the device can answer."""
    detail: str
    """What was found, or why there is no answer."""


class PreflightFacts(Record):
    """What was checked ahead of a build that only the device can finish."""

    onnx: str
    """File name of the graph."""
    target: str
    """The device profile."""
    precision: str
    """Precision of the engine."""
    layout: str
    """Output layout."""
    checks: tuple[PreflightCheck, ...]
    """All questions, in the order in which they were asked."""
    passed: bool
    """Whether none of them failed."""


class Result(Record):
    """Everything that one validation measured and judged."""

    name: str
    """Name of the run."""
    measured_at: str
    """When the measurement ended, ISO 8601 with time zone."""
    command: str
    """Command line that started it; empty where it was called from Python."""
    target: TargetFacts
    """The device profile."""
    imgsz: int
    """Input side in pixels."""
    data: DataFacts
    """What accuracy was measured on."""
    verdict: Verdict
    """The judgement."""
    winner: BuildKeyText | None
    """The fastest slim build inside the accuracy budget; where speed is unproven, the profile's first; null: none."""
    size: Sizes
    """Parameters and MACs before and after."""
    widths: tuple[LayerWidth, ...]
    """Channels of every convolution before and after."""
    ladder: tuple[Rung, ...]
    """Accuracy of every step."""
    builds: tuple[Build, ...]
    """Every bundle, the profile's first choice first."""
    speedups: tuple[SpeedUp, ...]
    """One for every slim build whose control was timed too."""
    preflight: dict[BuildNameText, PreflightFacts]
    """Build to what was checked ahead of it."""
    machine: DeviceFacts
    """The machine that measured the accuracy of weights and graphs."""
    versions: dict[str, str]
    """Package to version."""
    notes: tuple[str, ...]
    """What the reader must know, such as a build that wasn't possible and why."""

    def rung(self, name: str) -> Rung | None:
        """Find a rung of the ladder by name."""
        return next((rung for rung in self.ladder if rung.rung == name), None)

    @property
    def control_rung(self) -> Rung | None:
        """The unpruned network in PyTorch."""
        return self.rung(CONTROL)

    @property
    def slim_rung(self) -> Rung | None:
        """The rung that stands for the slim model: the winner's, else the last one after the control."""
        after = [rung for rung in self.ladder if rung.rung != CONTROL]
        winner = self.winner.build if self.winner else None
        return next((rung for rung in after if rung.build and rung.build == winner), after[-1] if after else None)

    @property
    def best(self) -> Build | None:
        """The winning build."""
        return next((build for build in self.builds if build.key == self.winner), None)

    def partner(self, build: Build | None) -> Build | None:
        """Find the control's build of the same runtime and precision."""
        if build is None:
            return None
        return next((b for b in self.builds if b.key == BuildKey("control", build.key.build)), None)

    def speedup(self, build: Build) -> SpeedUp | None:
        """Find how a slim build compares with its control in speed."""
        rows = self.speedups if build.key.is_slim else ()
        return next((row for row in rows if row.build == build.key.build), None)

    @property
    def missing_rungs(self) -> tuple[str, ...]:
        """The rungs that a complete ladder would have and this one hasn't."""
        slim = [str(build.key.build) for build in self.builds if build.key.is_slim]
        return tuple(rung for rung in dict.fromkeys([*CHAIN, *slim]) if self.rung(rung) is None)

    @property
    def all_timings_count(self) -> bool:
        """Whether nothing was measured on a hot or throttled machine."""
        return all(build.bench is None or build.bench.is_valid for build in self.builds)

    def to_json(self) -> dict[str, object]:
        """Convert everything to JSON values, with the version of the layout."""
        return {"schema": RESULT_SCHEMA, **super().to_json()}

    @classmethod
    def from_json(cls, value: object, source: str = "result.json") -> Result:
        """Read a JSON value.

        Raises:
            SlimError: no result, a damaged one, or one of another version.
        """
        if not isinstance(value, dict) or not set(KEYS) <= set(value):
            raise SlimError(f"{source} is no result of a validation.", remedy=OTHER_FILES)
        _require_schema(value.get("schema"), source)
        content = {key: item for key, item in value.items() if key != "schema"}
        return read_record(cls, content, source, MEASURE_AGAIN)

    def save(self, path: Path) -> None:
        """Write a ``result.json``."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read a ``result.json``.

        Raises:
            SlimError: see :meth:`from_json`; or no JSON.
        """
        try:
            return cls.from_json(read_json(path), str(path))
        except ValueError as error:
            raise SlimError(f"{path} is damaged: {error}", remedy=MEASURE_AGAIN) from None


def _require_schema(schema: object, source: str) -> None:
    """Refuse a result of another version."""
    if schema == RESULT_SCHEMA:
        return
    if isinstance(schema, int) and schema > RESULT_SCHEMA:
        raise SlimError(
            f"{source} has schema {schema}, this yolo_slim reads {RESULT_SCHEMA}: a newer version made it.",
            remedy="Update yolo_slim.",
        )
    raise SlimError(
        f"{source} was made by an earlier version of yolo_slim (schema {schema}, now {RESULT_SCHEMA}).",
        remedy=MEASURE_AGAIN,
    )
