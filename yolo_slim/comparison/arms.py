"""The arms of a comparison: how each one's network comes to be, before all go the same way.

Every arm gives a native Ultralytics checkpoint and the input side that it is trained and run at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.comparison import narrow, plain
from yolo_slim.comparison.frontier import OURS
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import MachineError, SlimError, did_you_mean
from yolo_slim.files import read_json, write_json
from yolo_slim.models import checkpoint
from yolo_slim.models.size import measure
from yolo_slim.pipeline import Run
from yolo_slim.pruning.decisions import ROUND_TO
from yolo_slim.stages import prune
from yolo_slim.workspace.job import Job

CONTROL = "control"


class AnotherTime(SlimError):
    """There may be such a network, but this call couldn't have it."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What an arm begins with."""

    weights: Path
    imgsz: int
    """Input side in pixels, in training and use."""
    implementation: str
    """What really made it."""


@dataclass(frozen=True)
class Setting:
    """What the starts of one comparison share."""

    run: Run
    """The checked configuration; its input side is the control's."""

    @cached_property
    def control(self) -> checkpoint.Checkpoint:
        """Return the user's checkpoint."""
        return checkpoint.load(self.run.model)

    @cached_property
    def full_macs(self) -> int:
        """Return the control's MACs."""
        return self.macs_at(self.run.config.imgsz)

    @property
    def end2end(self) -> bool:
        """Tell whether the one-to-one head is exported."""
        return self.run.config.export.end2end

    def macs_at(self, imgsz: int) -> int:
        """Return the MACs of the control at an input side."""
        return measure(self.control.model, imgsz, end2end=self.end2end).macs


@dataclass(frozen=True, kw_only=True)
class Place:
    """One start to make."""

    setting: Setting
    folder: Path
    removed: float
    """Share of the control's MACs that goes; 0 for what isn't at a size."""
    seed: int

    @property
    def macs(self) -> float:
        """Return the MACs to reach."""
        return self.setting.full_macs * (1 - self.removed)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to fewer MACs."""

    name: str
    about: str
    """One sentence for people."""
    make: Callable[[Place], Start]
    sized: bool = True
    """There is one for every share of the MACs."""
    seeded: bool = False
    """The seed decides its start too, not its training alone."""
    trained: bool = True
    distilled: bool = True
    """Its training has the control as teacher; a network that begins as the control would only be held where it is."""
    reference: bool = False
    """It isn't at the others' MACs and can't win."""


def _pruned(place: Place, changes: dict[str, Any], *, seed: int, folder: Path | None = None) -> Start:
    """Return what our own prune stage makes of the control with changed settings."""
    run = place.setting.run
    config = run.config.prune.model_copy(update={"macs_removed": place.removed, **changes})
    outputs = prune.run(
        prune.PruneInputs(model=run.model, data=run.data),
        config,
        folder or place.folder,
        imgsz=run.config.imgsz,
        seed=seed,
        end2end=place.setting.end2end,
        training=run.config.recover,
        data_digest=run.data_digest,
        progress=run.progress,
    )
    return Start(weights=outputs.weights, imgsz=run.config.imgsz, implementation=_described(config))


def _described(config: PruneConfig) -> str:
    """Return a prune's settings for people."""
    steps = 1 if config.criterion == "random" else config.steps
    many = "one step" if steps == 1 else f"{steps} steps"
    statistics = "statistics as they were" if config.bn_images == 0 else "statistics re-estimated"
    return f"yolo_slim: criterion {config.criterion}, scope {config.scope}, {many}, {statistics}"


def _ours(place: Place) -> Start:
    """Prune by the user's settings."""
    return _pruned(place, {}, seed=place.setting.run.config.seed)


UNIFORM: dict[str, Any] = {
    "scope": "uniform",
    "block_costs": None,
    "steps": 1,
    "normalize": "none",
    "head_rate": 1.0,
    "head_removed": None,
}
"""One share for every layer, the head included, in one step."""


def _random(place: Place) -> Start:
    """Remove channels at random, of layers of one kind in one order.

    Scope uniform narrows all layers at once, in blocks of ``round_to`` channels, and so often misses the MACs; under
    isomorphic, random scores give about the same share of every layer and reach them.
    """
    return _pruned(place, {**UNIFORM, "criterion": "random", "scope": "isomorphic"}, seed=place.seed)


def _uniform_l2(place: Place) -> Start:
    """Let torch-pruning remove the same share of every layer; our own l2 stands in, by name, where it can't."""

    def make(out: Path) -> str:
        run = place.setting.run
        task = plain.PlainTask(
            model=str(run.model.absolute()),
            out=str(out.absolute()),
            macs=place.macs,
            imgsz=run.config.imgsz,
            end2end=place.setting.end2end,
            round_to=run.config.prune.round_to or ROUND_TO,
        )
        run.progress.say("compare: torch-pruning searches its ratio")
        try:
            ratio = plain.run_apart(task)
        except MachineError as error:
            # Nothing stands in for what another call may have: the row isn't measured now, and isn't remembered.
            raise AnotherTime(error.fact, remedy=error.remedy) from None
        except SlimError as error:
            own = _own_l2(place, error)
            out.write_bytes(own.weights.read_bytes())
            return f"{own.implementation}; {error.fact}"
        return f"torch-pruning: MagnitudePruner, GroupMagnitudeImportance p=2, ratio {ratio:.4f}"

    return _kept(place, {"round_to": place.setting.run.config.prune.round_to}, make)


def _own_l2(place: Place, why: SlimError) -> Start:
    """Return our own uniform L2.

    Raises:
        SlimError: it can't be had either; with both reasons.
        MachineError: the machine stopped it, which says nothing of what can be had.
    """
    try:
        return _pruned(place, {**UNIFORM, "criterion": "l2"}, seed=0, folder=place.folder / "own")
    except MachineError:
        raise
    except SlimError as error:
        raise SlimError(f"{why.fact} yolo_slim's own l2 can't stand in: {error.fact}") from None


def _narrow(place: Place) -> Start:
    """Cut the leading channels of the trained weights into a narrower network of the family."""

    def fill(model: nn.Module) -> str:
        control = place.setting.control
        narrow.take_leading(control.model, model, control.stride)
        return "the leading channels of the trained weights"

    return _stock(place, fill, {})


def _scratch(place: Place) -> Start:
    """Leave a narrower network of the family as it was initialised."""
    return _stock(place, lambda _: "random weights", {"seed": place.seed})


def _stock(place: Place, fill: Callable[[nn.Module], str], decides: dict[str, Any]) -> Start:
    """Return a narrower stock network, weights by ``fill``, which says what they are; ``decides`` is what it reads."""
    setting = place.setting

    def make(out: Path) -> str:
        imgsz = setting.run.config.imgsz
        setting.run.progress.say("compare: search the width of a stock network")
        width = narrow.find_width(setting.control, place.macs, imgsz=imgsz, end2end=setting.end2end)
        torch.manual_seed(place.seed)
        model = narrow.stock_model(setting.control, width)
        weights = fill(model)
        checkpoint.save(out, setting.control, model)
        before = narrow.stock_yaml(setting.control.model)[1]
        return f"Ultralytics: its own yaml at width {width:.4f} (was {before:g}), {weights}"

    return _kept(place, decides, make)


def _small_input(place: Place) -> Start:
    """Take the control at the largest input side whose MACs are few enough.

    Raises:
        SlimError: no multiple of the stride is small enough.
    """
    setting = place.setting
    stride, full = setting.control.stride, setting.run.config.imgsz
    fitting = [side for side in range(full - stride, 0, -stride) if setting.macs_at(side) <= place.macs]
    if not fitting:
        raise SlimError(f"no input side below {full} px is a multiple of the stride {stride} at so few MACs.")
    return Start(
        weights=setting.run.model, imgsz=fitting[0], implementation=f"the control at {fitting[0]} px, not {full}"
    )


def _control(place: Place) -> Start:
    """Take the control as it is."""
    run = place.setting.run
    return Start(weights=run.model, imgsz=run.config.imgsz, implementation="the checkpoint that was given")


def _kept(place: Place, settings: dict[str, Any], make: Callable[[Path], str]) -> Start:
    """Return a start that ``make`` writes to a file and tells about; one that is finished is kept."""
    run = place.setting.run
    folder, imgsz = place.folder, run.config.imgsz
    about = {"removed": place.removed, "imgsz": imgsz, "end2end": place.setting.end2end, **settings}
    inputs = {"model": place.setting.control.sha256, "data": run.data_digest}
    job = Job(stage="compare-start", folder=folder, config=about, inputs=inputs)
    weights, facts = folder / "start.pt", folder / "start.json"
    if not job.is_done():
        job.begin()
        told = make(weights)
        write_json(facts, {"implementation": told})
        job.finish([weights, facts])
    return Start(weights=weights, imgsz=imgsz, implementation=read_json(facts)["implementation"])


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name=OURS, about="yolo_slim's pruning, by the settings given", make=_ours),
        Arm(
            name="uniform-l2",
            about="the common recipe: torch-pruning, L2 magnitude, the same share of every layer, one shot",
            make=_uniform_l2,
        ),
        Arm(name="random", about="random channels, about the same share of every layer", make=_random, seeded=True),
        Arm(
            name="narrow",
            about="a narrower stock network of the family, begun with the leading channels of the trained weights",
            make=_narrow,
        ),
        Arm(name="scratch", about="the same narrower stock network, from random weights", make=_scratch, seeded=True),
        Arm(
            name="small-input",
            about="the unpruned network at a smaller input side",
            make=_small_input,
            distilled=False,
        ),
        Arm(
            name="control-trained",
            about="the unpruned network, trained on for as many epochs",
            make=_control,
            sized=False,
            distilled=False,
            reference=True,
        ),
        Arm(
            name=CONTROL,
            about="the unpruned network as it was given",
            make=_control,
            sized=False,
            trained=False,
            reference=True,
        ),
    )
}
"""Every arm by name, in the order of the tables."""
DEFAULT_ARMS = tuple(name for name in ARMS if name != "control-trained")


def require_arms(names: Sequence[str]) -> list[str]:
    """Return the arms of a comparison in their order: those named, ours and the control.

    Raises:
        SlimError: names that no arm has.
    """
    unknown = [f"{name}: no such arm.{did_you_mean(name, list(ARMS))}" for name in names if name not in ARMS]
    if unknown:
        raise SlimError("Some arms aren't known.", culprits=unknown, remedy=f"Arms: {', '.join(ARMS)}.")
    return [name for name in ARMS if name in {*names, OURS, CONTROL}]
