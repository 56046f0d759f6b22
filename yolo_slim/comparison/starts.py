"""How the network of each method is made, before all are trained, built and measured alike.

Every start is a native Ultralytics checkpoint, and the input side that it is trained and run at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.comparison import narrow, uniform_l2
from yolo_slim.comparison.equal_latency import AtBudget
from yolo_slim.comparison.folder import Work, once
from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import measure
from yolo_slim.preparation import Run
from yolo_slim.pruning.decisions import ROUND_TO
from yolo_slim.stages import prune
from yolo_slim.training.replacement import contains_training

START, FACTS = "start.pt", "start.json"
"""Files of a start that is kept: the weights, and what made them."""


class StartFailed(SlimError):
    """There may be such a network, but this call couldn't make it; another error of a start says that there is none."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a method begins with."""

    weights: Path
    imgsz: int
    """Input side in pixels, in training and use."""
    implementation: str
    """What really made it, for people."""


@dataclass(frozen=True)
class Setting:
    """What the starts of one comparison share."""

    run: Run
    """The checked configuration; its input side is the control's."""
    at_budget: AtBudget | None = None
    """Of a comparison whose budget is in milliseconds."""

    @cached_property
    def control(self) -> checkpoint.Checkpoint:
        """The user's checkpoint, loaded once."""
        return checkpoint.load(self.run.model)

    @cached_property
    def full_macs(self) -> int:
        """The control's MACs."""
        return self.macs_at(self.run.config.imgsz)

    @property
    def to_macs(self) -> PruneConfig:
        """Settings of every cut to a share of the MACs, without the share; where ours is cut to milliseconds, its
        budget isn't in them, and the widths are multiples of the target's ``channel_multiple``.
        """
        return self.at_budget.to_macs if self.at_budget else self.run.config.prune

    @property
    def end2end(self) -> bool:
        """Whether the one-to-one head is exported."""
        return self.run.config.export.end2end

    def macs_at(self, imgsz: int) -> int:
        """Count the MACs of the control at an input side."""
        return measure(self.control.model, imgsz, end2end=self.end2end).macs


@dataclass(frozen=True, kw_only=True)
class Place:
    """One start to make."""

    setting: Setting
    folder: Path
    removed: float
    """Share of the control's MACs to remove; 0 for a method without sizes."""
    seed: int

    @property
    def macs(self) -> float:
        """MACs to reach."""
        return self.setting.full_macs * (1 - self.removed)


def _trained_on(start: Path) -> Path | None:
    """Find a training that started from a start: beside it, or one folder a seed."""
    places = [start.parent / "recover", *sorted(start.parent.glob("*/recover"))]
    return next((place for place in places if contains_training(place)), None)


def _pruned(place: Place, changes: dict[str, Any], *, seed: int, folder: Path | None = None) -> Start:
    """Run our own prune stage on the control with changed settings."""
    run = place.setting.run
    config = place.setting.to_macs.model_copy(update={"macs_removed": place.removed, **changes})
    outputs = prune.run(
        prune.PruneInputs(model=run.model, training=run.config.recover),
        config,
        folder or place.folder,
        replace(run.context, seed=seed),
        recovery=_trained_on(folder or place.folder),
    )
    return Start(weights=outputs.weights, imgsz=run.config.imgsz, implementation=_described(config))


def to_macs(place: Place) -> Start:
    """Prune by the user's settings to the share of the MACs that takes as long as the cut to milliseconds."""
    at_budget = place.setting.at_budget
    assert at_budget is not None  # The request refuses this method without a budget in milliseconds.
    start = _pruned(place, {}, seed=place.setting.run.config.seed)
    return replace(start, implementation=f"{start.implementation}; {at_budget.of_macs}")


def _described(config: PruneConfig) -> str:
    """Describe a pruning's settings for people."""
    steps = 1 if config.criterion == "random" else config.steps
    many = "one step" if steps == 1 else f"{steps} steps"
    statistics = "statistics not re-estimated" if config.bn_images == 0 else "statistics re-estimated"
    return f"yolo_slim: criterion {config.criterion}, scope {config.scope}, {many}, {statistics}"


def ours(place: Place) -> Start:
    """Prune by the user's settings; a cut to milliseconds was made before its share of the MACs was known."""
    run, at_budget = place.setting.run, place.setting.at_budget
    if at_budget is not None:
        made = f"{_described(run.config.prune)}, {at_budget.of_ours}"
        return Start(weights=at_budget.weights, imgsz=run.config.imgsz, implementation=made)
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


def random_channels(place: Place) -> Start:
    """Remove channels at random, of layers of one kind in one order.

    Scope uniform narrows all layers at once, in blocks of ``round_to`` channels, and so often misses the MACs; under
    isomorphic, random scores give about the same share of every layer and reach them.
    """
    return _pruned(place, {**UNIFORM, "criterion": "random", "scope": "isomorphic"}, seed=place.seed)


def plain_l2(place: Place) -> Start:
    """Let torch-pruning remove the same share of every layer.

    Where it fails, our own l2 is used instead, and the implementation says so with torch-pruning's reason.
    """
    round_to = place.setting.to_macs.round_to or ROUND_TO

    def make(out: Path) -> str:
        run = place.setting.run
        task = uniform_l2.PlainTask(
            model=str(run.model.absolute()),
            out=str(out.absolute()),
            macs=place.macs,
            imgsz=run.config.imgsz,
            end2end=place.setting.end2end,
            round_to=round_to,
        )
        run.context.progress.say("compare: search the ratio for torch-pruning")
        try:
            ratio = uniform_l2.run_apart(task)
        except MachineError as error:
            # A later call may have the time and memory, so this row has failed for now and nothing replaces it.
            raise error.as_kind(StartFailed) from None
        except SlimError as error:
            own = _own_l2(place, error)
            out.write_bytes(own.weights.read_bytes())
            return f"{own.implementation}; {error.fact}"
        return f"torch-pruning: MagnitudePruner, GroupMagnitudeImportance p=2, ratio {ratio:.4f}"

    return _kept(place, {"round_to": round_to}, make)


def _own_l2(place: Place, why: SlimError) -> Start:
    """Prune by our own uniform L2.

    Raises:
        SlimError: it fails too; with both reasons.
        MachineError: the machine stopped it, which says nothing about the network.
    """
    try:
        return _pruned(place, {**UNIFORM, "criterion": "l2"}, seed=0, folder=place.folder / "own")
    except MachineError:
        raise
    except SlimError as error:
        raise SlimError(f"{why.fact} yolo_slim's own l2 can't replace it: {error.fact}") from None


def narrowed(place: Place) -> Start:
    """Copy the leading channels of the trained weights into a narrower network of the family."""

    def fill(model: nn.Module) -> str:
        control = place.setting.control
        narrow.take_leading(control.model, model, control.stride)
        return "the leading channels of the trained weights"

    return _stock(place, fill, {})


def scratch(place: Place) -> Start:
    """Leave a narrower network of the family as it was initialised."""
    return _stock(place, lambda _: "random weights", {"seed": place.seed})


def _stock(place: Place, fill: Callable[[nn.Module], str], decides: dict[str, Any]) -> Start:
    """Build a narrower stock network.

    Args:
        place: where, and how many MACs.
        fill: gives the network its weights, and says what they are.
        decides: what ``fill`` depends on, beside the place.
    """
    setting = place.setting

    def make(out: Path) -> str:
        imgsz = setting.run.config.imgsz
        setting.run.context.progress.say("compare: search the width of a stock network")
        width = narrow.find_width(setting.control, place.macs, imgsz=imgsz, end2end=setting.end2end)
        # Matters for random weights alone: where ``fill`` replaces them all, seeds share the start.
        torch.manual_seed(place.seed)
        model = narrow.stock_model(setting.control, width)
        weights = fill(model)
        checkpoint.save(out, setting.control, model)
        before = narrow.stock_yaml(setting.control.model)[1]
        return f"Ultralytics: its own yaml at width {width:.4f} (was {before:g}), {weights}"

    return _kept(place, decides, make)


def small_input(place: Place) -> Start:
    """Take the control at the largest input side whose MACs are few enough.

    Raises:
        SlimError: no multiple of the stride is small enough.
    """
    setting = place.setting
    # Sides below the full one, largest first: a network can only run at multiples of its stride.
    stride, full = setting.control.stride, setting.run.config.imgsz
    fitting = [side for side in range(full - stride, 0, -stride) if setting.macs_at(side) <= place.macs]
    if not fitting:
        raise SlimError(f"no input side below {full} px is a multiple of the stride {stride} at so few MACs.")
    return Start(
        weights=setting.run.model, imgsz=fitting[0], implementation=f"the control at {fitting[0]} px, not {full}"
    )


def as_given(place: Place) -> Start:
    """Take the control as it is."""
    run = place.setting.run
    return Start(weights=run.model, imgsz=run.config.imgsz, implementation="the checkpoint that was given")


def _kept(place: Place, settings: dict[str, Any], make: Callable[[Path], str]) -> Start:
    """Make a start once: ``make`` writes the weights to a file and says what made them."""
    run = place.setting.run
    folder, imgsz = place.folder, run.config.imgsz
    decides = {"removed": place.removed, "imgsz": imgsz, "end2end": place.setting.end2end, **settings}
    inputs = {"model": place.setting.control.sha256, "data": run.context.dataset.digest}

    def write() -> bool:
        write_json(folder / FACTS, {"implementation": make(folder / START)})
        return True

    work = Work(stage="compare-start", folder=folder, decides=decides, inputs=inputs, is_trained_on=True)
    once(work, [START, FACTS], write)
    implementation = read_json(folder / FACTS)["implementation"]
    return Start(weights=folder / START, imgsz=imgsz, implementation=implementation)
