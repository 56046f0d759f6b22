"""A comparison at equal latency: our cut to milliseconds, and our cut to the share of the MACs that takes as long.

The share is searched: the latency table predicts what a share takes, the cut is timed in turns with the cut to
milliseconds, and what it took corrects the prediction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from torch import nn

from yolo_slim import latency_tables
from yolo_slim.build_key import BuildName
from yolo_slim.comparison.folder import Work, forget, once
from yolo_slim.comparison.frontier import OURS
from yolo_slim.comparison.networks import size_name
from yolo_slim.config.profile import Profile
from yolo_slim.config.record import Record, read_record
from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.devices.base import identity
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.measuring.latency import LatencyOutputs
from yolo_slim.measuring.latency_cut import LatencyCut, table_ms_for
from yolo_slim.measuring.validation_images import ValidationImages
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import with_activation
from yolo_slim.preparation import Run, width_multiple
from yolo_slim.pruning.allocation import Problem, allocate_global
from yolo_slim.pruning.goal import Goal, make_cost_model
from yolo_slim.pruning.latency_budget import LatencyGoal
from yolo_slim.pruning.outputs import PruneOutputs, outputs_in
from yolo_slim.pruning.pruner import Pruner
from yolo_slim.pruning.scope import PER_MAC
from yolo_slim.pruning.slots import widths_of
from yolo_slim.pruning.unreachable import Unreachable
from yolo_slim.pruning.work import PruneWork
from yolo_slim.runtime.paired import IMAGES
from yolo_slim.stages import prune
from yolo_slim.stages.latency_choice import goals_of
from yolo_slim.stages.network_meter import NetworkMeter, scratch_folder
from yolo_slim.stages.prune_source import source_of
from yolo_slim.training.replacement import contains_training

EQUAL = 0.015
"""Largest difference between the frames of the two cuts, as a share; half a point below what counts as equally fast."""
MOST_TRIES = 6
"""Cuts to MACs that are timed."""
FEWEST, MOST = 0.01, 0.95
"""Shares of the MACs that are tried."""
STEP = 0.0005
"""Distance of two shares below which they are the same cut."""
SHARE = "share.json"


class Try(Record):
    """One cut to a share of the MACs that was timed."""

    removed: float
    """Share of the MACs that was to go."""
    ms: float
    """Milliseconds of its frame."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count; empty: it does."""


class EqualShare(Record):
    """The share of the MACs at which a cut takes as long as the cut to milliseconds: ``share.json``."""

    ours_ms: float
    """Milliseconds of a frame of the cut to milliseconds."""
    tries: tuple[Try, ...]
    """Every cut to MACs that was timed, in order."""

    @property
    def best(self) -> Try:
        """The one whose frame takes most nearly as long."""
        return min(self.tries, key=lambda one: abs(one.ms / self.ours_ms - 1))

    @property
    def is_equal(self) -> bool:
        """Whether it takes as long, within :data:`EQUAL`."""
        return abs(self.best.ms / self.ours_ms - 1) <= EQUAL


@dataclass(frozen=True, kw_only=True)
class AtBudget:
    """Both cuts of a comparison at equal latency."""

    weights: Path
    """Our cut to milliseconds."""
    cut: LatencyCut
    """How it was reached."""
    share: EqualShare
    to_macs: PruneConfig
    """Settings of the cut to MACs, without its share."""

    @property
    def removed(self) -> float:
        """Share of the MACs that goes from the network that takes as long."""
        return self.share.best.removed

    @property
    def of_ours(self) -> str:
        """What made the cut to milliseconds, for people."""
        return f"cut to {self.cut.budget_ms:.2f} ms a frame in {self.cut.build} (measured {self.cut.measured_ms:.2f})"

    @property
    def of_macs(self) -> str:
        """What made the cut to MACs, for people."""
        best, ours = self.share.best, self.share.ours_ms
        nearest = "" if self.share.is_equal else f"; the nearest of {len(self.share.tries)} cuts"
        doubt = f"; the timing doesn't count: {', '.join(best.invalid_reasons)}" if best.invalid_reasons else ""
        text = f"{best.removed:.1%} of the MACs removed: {best.ms:.2f} ms a frame, {best.ms / ours - 1:+.1%}"
        return f"{text}{nearest}{doubt}"


def searched(
    predicted: Callable[[float], float], timed: Callable[[float], Try], ours_ms: float, most: float = MOST
) -> EqualShare:
    """Search the share of the MACs whose cut takes ``ours_ms``.

    Args:
        predicted: from a share to milliseconds by the table; it falls as the share grows.
        timed: cuts to a share and times the cut.
        ours_ms: milliseconds of our cut's frame.
        most: the largest share that a cut reaches.
    """
    found: list[Try] = []
    for _ in range(MOST_TRIES):
        pairs = [(predicted(one.removed), one.ms) for one in found]
        wanted = table_ms_for(ours_ms, pairs) if pairs else ours_ms
        removed = _share_of(predicted, wanted, found, ours_ms, most)
        if any(abs(one.removed - removed) < STEP for one in found):
            break
        found.append(timed(removed))
        if abs(found[-1].ms / ours_ms - 1) <= EQUAL:
            break
    return EqualShare(ours_ms=ours_ms, tries=tuple(found))


def _share_of(
    predicted: Callable[[float], float], wanted: float, found: Sequence[Try], ours_ms: float, most: float
) -> float:
    """The share that is predicted to take ``wanted``, between the nearest ones that were too slow and too fast."""
    low = max([one.removed for one in found if one.ms > ours_ms], default=FEWEST)
    high = min([one.removed for one in found if one.ms < ours_ms], default=most)
    # A cut with more MACs gone that took longer, by noise or by the runtime's steps, leaves nothing between them.
    if low >= high:
        low, high = FEWEST, most
    middle = round((low + high) / 2, 4)
    while high - low > STEP:
        half = (low + high) / 2
        low, high = (half, high) if predicted(half) > wanted else (low, half)
    share = round((low + high) / 2, 4)
    # Where the prediction leads back to a cut that was timed, what is left is halved.
    return middle if any(abs(one.removed - share) < 2 * STEP for one in found) else share


def to_macs_of(given: PruneConfig, profile: Profile) -> PruneConfig:
    """What `yolo-slim run --prune` would do with the settings of a cut to milliseconds: only the budget differs."""
    round_to = width_multiple(given, profile, in_ms=False)
    return given.model_copy(update={"target_fps": None, "latency_ms": None, "round_to": round_to})


def at_budget(this: Run, build: BuildName, to_macs: PruneConfig) -> AtBudget:
    """Cut to the budget, and search the share of the MACs whose cut is as fast.

    Args:
        this: the comparison's run, whose budget is in milliseconds.
        build: runtime and precision that decide the verdict: the budget is in its milliseconds.
        to_macs: settings of the cut to MACs.

    Raises:
        SlimError: a budget that can't be reached or measured, or that the unpruned network reaches.
    """
    timing = this.config.latency.model_copy(update={"runtime": str(build)})
    this = replace(this, config=this.config.model_copy(update={"latency": timing}))
    tables = latency_tables.measured(this, this.folder / "latency" / "tables")
    training = RecoverConfig(activation=this.config.recover.activation)
    inputs = prune.PruneInputs(model=this.model, training=training, latency=tables, timing=timing)
    trainings = sorted((this.folder / OURS).glob("*/*/recover"))
    ours = prune.run(
        inputs, this.config.prune, this.folder / "latency" / OURS, this.context,
        recovery=next((one for one in trainings if contains_training(one)), None),
    )  # fmt: skip
    cut = read_record(LatencyCut, read_json(ours.latency), str(ours.latency), "Compare again.")
    share = _share(this, build, to_macs, tables, ours, cut)
    return AtBudget(weights=ours.weights, cut=cut, share=share, to_macs=to_macs)


def _share(
    this: Run, build: BuildName, to_macs: PruneConfig, tables: LatencyOutputs, ours: PruneOutputs, cut: LatencyCut
) -> EqualShare:
    """Search the share, or read what an earlier call found."""
    folder = this.folder / "latency" / "macs"
    path = folder / SHARE

    def make() -> bool:
        with scratch_folder() as scratch:
            search = _Search.of(this, to_macs, goal_of(this, tables, build), scratch)
            found = search.run(ours.weights, cut)
        write_json(path, found.to_json())
        return True

    timing = this.config.latency
    decides = {"prune": to_macs.recorded(), "imgsz": this.context.imgsz, "build": str(build)}
    decides |= {"rounds": timing.rounds, "frames": timing.frames}
    decides |= identity(this.context.device)
    inputs = {"ours": sha256(ours.weights), "latency": tables.request, "data": this.context.dataset.digest}
    work = Work(stage="compare-share", folder=folder, decides=decides, inputs=inputs, is_trained_on=True)
    if path.is_file() and is_open(_read(path).best, this.folder):
        forget(folder)
    once(work, [SHARE], make)
    return _read(path)


def _read(path: Path) -> EqualShare:
    return read_record(EqualShare, read_json(path), str(path), "Compare again.")


def is_open(best: Try, comparison: Path) -> bool:
    """Whether a share was found by a timing that doesn't count, and nothing is trained at it: it is searched again.

    Once something is, the share stays. Another one would throw the trainings away.

    Args:
        best: the share.
        comparison: folder of the comparison.
    """
    trainings = comparison.glob(f"*/{size_name(best.removed)}/*/recover")
    return bool(best.invalid_reasons) and not any(map(contains_training, trainings))


def goal_of(this: Run, tables: LatencyOutputs, build: BuildName) -> LatencyGoal:
    """What a frame may take in one build."""
    loaded = checkpoint.load(this.model)
    activation = this.config.recover.activation
    return goals_of(loaded, this.config.prune, {build: tables.tables[build]}, this.context, activation)[build]


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Cuts one network to shares of its MACs, and times them."""

    this: Run
    work: PruneWork
    goal: LatencyGoal
    meter: NetworkMeter
    scratch: Path

    @classmethod
    def of(cls, this: Run, to_macs: PruneConfig, goal: LatencyGoal, scratch: Path) -> _Search:
        """Load what is cut."""
        loaded = checkpoint.load(this.model)
        config = to_macs.model_copy(update={"macs_removed": FEWEST})
        source = source_of(loaded, config, scratch, this.context)
        files = outputs_in(scratch)
        meter = NetworkMeter(
            loaded=loaded, rounds=this.config.latency.rounds, frames=this.config.latency.frames, context=this.context,
            images=ValidationImages.of(this.context.dataset, IMAGES).link_timed(scratch / "images"),
            log=scratch / "export.log",
        )  # fmt: skip
        work = PruneWork.of(source, files, this.context.progress)
        return cls(this=this, work=work, goal=goal, meter=meter, scratch=scratch)

    def run(self, ours: Path, cut: LatencyCut) -> EqualShare:
        """Search the share whose cut takes as long as ``ours``."""
        build, overhead = self.goal.build, cut.overhead_ms
        onnx = self._exported(checkpoint.load(ours).model, "ours")
        placed = self.meter.place(onnx, build)

        def timed(removed: float) -> Try:
            onnx = self._exported(self._cut(removed), f"macs-{removed * 1e4:.0f}")
            pair = self.meter.compare(placed, self.meter.place(onnx, build))
            ms = (cut.measured_ms - overhead) * pair.ratio + overhead
            self.this.context.progress.say(
                f"compare: {removed:.1%} of the MACs removed: {ms:.2f} ms a frame; ours takes {cut.measured_ms:.2f}"
            )
            return Try(removed=removed, ms=ms, invalid_reasons=pair.invalid_reasons)

        predicted, most = self._prediction()
        return searched(predicted, timed, cut.measured_ms, most)

    def _exported(self, model: nn.Module, name: str) -> Path:
        """Export a cut with the activation that it will be trained with."""
        trained = with_activation(model, self.this.config.recover.activation)
        return self.meter.export(trained, self.scratch / f"{name}.onnx")

    def _cut(self, removed: float) -> nn.Module:
        """Cut a copy of the network to a share of its MACs, as the prune stage does."""
        model = copy.deepcopy(self.work.source.loaded.model)
        pruner = self._pruner(removed)
        pruner.cut(model)
        return model

    def _pruner(self, removed: float) -> Pruner:
        work = self.work
        config = work.source.config.model_copy(update={"macs_removed": removed})
        work = replace(work, source=replace(work.source, config=config), goal=Goal(removed=removed))
        return work.begun()[0]

    def _prediction(self) -> tuple[Callable[[float], float], float]:
        """What the table says of a share, by the channels as they are scored first; and the largest share of a cut."""
        pruner, model = self._pruner(FEWEST), self.work.source.loaded.model
        ranked = pruner.rank(model, 0)
        cost = self.goal.model(ranked.graph, ranked.slots)
        macs = make_cost_model(
            ranked.graph, ranked.slots, pruner.allocation.exported.__contains__, Goal(removed=FEWEST)
        )  # fmt: skip
        full, floors = macs.total(widths_of(ranked.slots)), np.array([float(slot.floor) for slot in ranked.slots])

        @cache
        def predicted(removed: float) -> float:
            problem = Problem(
                slots=ranked.slots, cost=macs, target=full * (1 - removed), round_to=ranked.terms.round_to
            )  # fmt: skip
            try:
                keep = allocate_global(problem, per_mac=PER_MAC)
            except Unreachable:
                keep = floors
            return self.goal.frame_of(cost.total(keep))

        # A step less, for what rounding leaves.
        return predicted, min(MOST, 1 - macs.total(floors) / full - STEP)
