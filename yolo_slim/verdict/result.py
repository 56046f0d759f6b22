"""The content of ``result.json``. Page, terminal text and gates read these attributes.

docs/result.md is generated from the classes: the docstring under a field is its explanation there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from yolo_slim.build_key import BuildKey
from yolo_slim.config.record import BuildKeyText, BuildNameText, Record, read_record
from yolo_slim.devices.answers import Bench, DeviceFacts
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.measuring.control_check import ControlCheck
from yolo_slim.measuring.emulated import Emulated
from yolo_slim.measuring.estimate import Estimate
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.measuring.sides import Sides
from yolo_slim.runtime.sustained import Sustained

RESULT_SCHEMA = 3
"""Version of result.json. 3: classes are keyed by id, and the check of the control is recorded."""
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
    """Name of the target, as in ``TARGET=``."""
    description: str
    """One line for people."""
    is_measured: bool
    """Whether the bundles ran on such a device. Where false, speed is unproven and the verdict can't be ``pass``."""


class DataFacts(Record):
    """What accuracy was measured on."""

    yaml: str
    """File name of the data set's description."""
    split: str
    """Split whose images were used: ``val`` or ``test``."""
    images: int
    """Number of images."""
    boxes: int
    """Number of labelled objects in them."""
    names: dict[int, str]
    """The name of every class id; JSON writes the id as text."""
    unlabelled_classes: tuple[int, ...] = ()
    """Ids of classes without a label in these images: their accuracy is unproven."""


class Gate(Record):
    """One limit, and what was measured."""

    name: str
    """``rung:`` and the name of a rung, or a key of the profile's budget, such as ``min_fps``."""
    rung: str | None
    """The rung that is judged; null: the winning build is judged."""
    limit: float
    """The limit; a value equal to it passes."""
    value: float | None
    """What was measured; null: not measured."""
    unit: str
    """Unit of both."""
    status: Status
    """``unproven``: not measured, or not on the target."""
    reason: str
    """Why it failed or wasn't measured; empty where it passed."""


class Verdict(Record):
    """The judgement."""

    status: Status
    """``fail``: a gate failed. ``unproven``: no gate failed, but not all was measured on the target. Else ``pass``."""
    gates: tuple[Gate, ...]
    """Every gate: the limits that are set."""


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

    class_id: int
    """Its id, a key of ``data.names``."""
    drop: float
    """How much AP50-95 it lost; negative: every class got better."""


class Rung(Record):
    """Accuracy after one stage, from the trained weights to the bundle on the device."""

    rung: str
    """``control``, ``pruned``, ``recovered``, ``onnx``, or the name of a slim build, such as ``ncnn-fp16``."""
    build: BuildNameText | None
    """The build of a bundle's rung; null: the rung isn't of a bundle."""
    label: str
    """Name of the rung for people."""
    where: str
    """Where the detections were made: ``this machine``, or the device's name."""
    map50_95: float
    """Mean average precision over IoU .50 to .95 and the classes that occur."""
    map50: float
    """The same at IoU .50."""
    against: str | None
    """The rung that it is compared with; null for the control."""
    drop: float | None
    """How much mAP50-95 was lost against that rung; negative: it got better; null for the control."""
    budget: float | None
    """Largest drop allowed; null: not judged."""
    status: Literal["pass", "fail", "info"]
    """``info``: there is no budget, so it isn't judged."""
    per_class: dict[int, ClassAccuracy]
    """Accuracy of every class by id; classes without a label in the images are left out."""
    worst_class: WorstClass | None
    """The class that lost most against that rung; null for the control."""


class Build(Record):
    """Accuracy, size and speed of one bundle."""

    key: BuildKeyText
    """``control/`` or ``slim/``, then runtime and precision, such as ``slim/ncnn-fp16``."""
    map50_95: float | None
    """mAP of the bundle's own detections, or of its graph's if the bundle can't run here; null: not measured."""
    map50: float | None
    """The same at IoU .50."""
    size_mb: float
    """Size of its model files, megabytes (10^6 bytes)."""
    bench: Bench | None
    """The timing; null: not timed."""

    @property
    def valid_bench(self) -> Bench | None:
        """Its timing, if there is one that counts."""
        return self.bench if self.bench and self.bench.is_valid else None


class SpeedUp(Record):
    """Speed of a slim build against its control.

    Both builds are timed in the same round, so a machine that becomes slower affects both.
    """

    build: BuildNameText
    """The build of both."""
    ratio: float
    """The control's median latency divided by the slim build's: the median of all rounds. Above 1: slim is faster."""
    lowest: float
    """Smallest ratio of a round."""
    highest: float
    """Largest ratio of a round."""
    rounds: int
    """Number of rounds."""
    valid: bool
    """Whether both timings count."""


class PreflightCheck(Record):
    """One check of a graph, and its answer."""

    name: str
    """What was asked."""
    status: Literal["pass", "fail", "unproven", "skipped"]
    """``unproven``: only the device can show it."""
    detail: str
    """What was found, or why it wasn't checked."""


class PreflightFacts(Record):
    """What was checked before the device builds the engine."""

    onnx: str
    """File name of the graph."""
    target: str
    """Name of the target."""
    precision: str
    """Precision of the engine."""
    layout: str
    """Layout of the output: ``one2many`` or ``end2end``."""
    checks: tuple[PreflightCheck, ...]
    """All checks, in the order in which they were made."""
    passed: bool
    """Whether no check failed."""


class Result(Record):
    """Everything that a validation measured and judged."""

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
    control_check: ControlCheck | None = None
    """How the control was checked before anything was made of it; null: it wasn't."""
    emulated: Emulated | None = None
    """What the bundles did on an emulated processor of the target; null: they weren't emulated."""
    latency: LatencyCut | None = None
    """How a budget in milliseconds was reached when the network was cut; null: the budget was of another kind."""
    sides: Sides | None = None
    """The input sides that ``--imgsz auto`` tried, and which one won; null: the side was given."""
    verdict: Verdict
    """The judgement."""
    winner: BuildKeyText | None
    """The winning build, see above; null: no build is inside the accuracy budget."""
    size: Sizes
    """Parameters and MACs before and after."""
    widths: tuple[LayerWidth, ...]
    """Channels of every convolution before and after."""
    ladder: tuple[Rung, ...]
    """Accuracy of every rung."""
    builds: tuple[Build, ...]
    """Every bundle, in the profile's order."""
    speedups: tuple[SpeedUp, ...]
    """One entry for every slim build that was timed together with its control."""
    estimates: tuple[Estimate, ...] = ()
    """How fast the builds may be on a target that isn't at hand (docs/estimate.md). Not measured: no gate reads it."""
    preflight: dict[BuildNameText, PreflightFacts]
    """What was checked for every TensorRT build."""
    machine: DeviceFacts
    """The machine that measured the accuracy of weights and graphs."""
    versions: dict[str, str]
    """Version of every package."""
    notes: tuple[str, ...]
    """What the reader must know, for example why a build wasn't possible."""

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

    def with_sustained(self, found: Sustained | None) -> Result:
        """Add a run of minutes to the winner's timing."""

        def run_on(build: Build) -> Build:
            if build.key != self.winner or build.bench is None:
                return build
            return build.model_copy(update={"bench": build.bench.model_copy(update={"sustained": found})})

        return self.model_copy(update={"builds": tuple(run_on(build) for build in self.builds)})

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
