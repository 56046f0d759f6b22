"""What a budget in milliseconds that no cut reaches could be instead: how far cuts go, and what would help.

"Predicted" is what a latency table says of its own input side. "Estimated" is what it says of another side, for which
nothing was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolo_slim.build_key import BuildName
from yolo_slim.measuring.latency import Load
from yolo_slim.pruning.latency import LatencyModel
from yolo_slim.pruning.latency_budget import AIM, LatencyGoal, limit_of
from yolo_slim.pruning.slots import Slot
from yolo_slim.pruning.unreachable import Unreachable

SMALLER_SIDES = (0.75, 0.5)
"""Sides that are estimated, in units of the run's."""
LEAST_SIDE = 96
"""Smallest input side that is suggested or tried, pixels."""


@dataclass(frozen=True, kw_only=True)
class SmallestCut:
    """A network at its narrowest widths in one build."""

    goal: LatencyGoal
    load: Load
    """What its time is predicted from."""

    @classmethod
    def of(cls, goal: LatencyGoal, cost: LatencyModel, slots: list[Slot]) -> SmallestCut:
        """Look it up in a table."""
        return cls(goal=goal, load=cost.load(np.array([float(slot.floor) for slot in slots])))

    @property
    def frame_ms(self) -> float:
        """Predicted milliseconds of a frame at the table's own side."""
        return self.goal.frame_of(self.goal.table.fit.ms(self.load))

    @property
    def is_enough(self) -> bool:
        """Whether it reaches the budget."""
        return self.frame_ms <= AIM * self.goal.frame_ms

    def estimated_ms(self, imgsz: int) -> float:
        """Milliseconds of a frame at another input side, in proportion to its pixels.

        Weights are as many at every side. What a network takes whatever its size stays too, as do pre- and
        post-processing. How far such an estimate is off wasn't measured.
        """
        fit, pixels = self.goal.table.fit, (imgsz / self.goal.table.imgsz) ** 2
        constant = fit.constant_ms * (1.0 if fit.constant_ms > 0 else pixels)
        there = replace(self.load, layers_ms=pixels * self.load.layers_ms, moved_mb=pixels * self.load.moved_mb)
        return self.goal.frame_of(fit.layers(there) + constant)


@dataclass(frozen=True, kw_only=True)
class InFamily:
    """A smaller model of the network's family, by the network's own latency table."""

    name: str
    """Of the network: ``yolov8s``."""
    smaller: str = ""
    """Of the smaller model; empty: there is none."""
    unpruned_ms: float | None = None
    """Estimated milliseconds of its frame; None: the table has no layers like its own."""
    smallest_ms: float | None = None
    """The same of its narrowest network."""

    def is_enough(self, goal: LatencyGoal) -> bool:
        """Whether its narrowest network is estimated to reach a budget."""
        return self.smallest_ms is not None and self.smallest_ms <= AIM * goal.frame_ms

    def __str__(self) -> str:
        """For people, one line."""
        if not self.smaller:
            return f"{self.name} is the smallest of its family"
        if self.unpruned_ms is None or self.smallest_ms is None:
            return f"{self.smaller} is smaller than {self.name}; its time isn't estimated"
        return (
            f"{self.smaller}, which is smaller than {self.name}: estimated {_speed(self.unpruned_ms)} unpruned, "
            f"{_speed(self.smallest_ms)} pruned as far as possible"
        )

    def way(self, goal: LatencyGoal) -> list[str]:
        """What to do with it, if it is expected to reach a budget."""
        if self.unpruned_ms is not None and self.unpruned_ms <= AIM * goal.frame_ms:
            return [f"train {self.smaller} on these data, estimated {self.unpruned_ms:.2f} ms unpruned"]
        if self.is_enough(goal):
            return [f"train {self.smaller} on these data and prune it, estimated down to {self.smallest_ms:.2f} ms"]
        return []


def sides_at(imgsz: int, shares: Sequence[float], stride: int) -> set[int]:
    """Input sides at shares of another, as multiples of the network's largest stride."""
    return {round(imgsz * share / stride) * stride for share in shares}


def smaller_sides(imgsz: int, stride: int) -> list[int]:
    """The input sides that a message estimates, the largest first."""
    found = sides_at(imgsz, SMALLER_SIDES, stride)
    return sorted((side for side in found if LEAST_SIDE <= side < imgsz), reverse=True)


def unreachable_in_all(
    cuts: Mapping[BuildName, SmallestCut],
    others: Mapping[BuildName, SmallestCut],
    without_table: Mapping[BuildName, str],
    imgsz: int,
    family: Callable[[LatencyGoal], InFamily | None],
) -> Unreachable:
    """The error of a budget that no build reaches.

    Args:
        cuts: the narrowest network in every build that was asked for.
        others: the same in further builds of the target that have a table.
        without_table: builds of the target of which nothing is known, with the reason.
        imgsz: input side of the run.
        family: what a smaller model of the family is estimated to take in a build.
    """
    best = min(cuts.values(), key=lambda cut: cut.frame_ms)
    estimates = {side: best.estimated_ms(side) for side in smaller_sides(imgsz, best.goal.stride)}
    smaller = family(best.goal)
    return Unreachable(
        f"{best.goal.asked} can't be reached by pruning at {imgsz} px.",
        culprits=[
            *[_smallest(build, cuts[build]) for build in sorted(cuts, key=str)],
            *[f"{_smallest(build, others[build])}; {_why_left_out(build)}" for build in sorted(others, key=str)],
            *[f"{best.goal.build} at {side} px: estimated {_speed(ms)}" for side, ms in estimates.items()],
            *([str(smaller)] if smaller else []),
            *[f"{build}: not predicted; {why}" for build, why in without_table.items() if build not in others],
        ],
        remedy=f"{_ways(best, others, estimates, smaller)}.",
        topic="the-frame-rate-cant-be-reached",
        predicted_ms=best.frame_ms,
    )


def _why_left_out(build: BuildName) -> str:
    """Why a build with a table wasn't asked."""
    return "latency.runtime can name it" if build.precision == "int8" else "left out by latency.runtime"


def _smallest(build: BuildName, cut: SmallestCut) -> str:
    """How far cuts go in a build."""
    table = cut.goal.table
    return (
        f"{build}: pruned as far as possible it is predicted to take {_speed(cut.frame_ms)}, "
        f"{table.overhead_ms:.2f} ms of them before and after inference; unpruned {_speed(table.control_frame_ms)}"
    )


def _speed(frame_ms: float) -> str:
    return f"{frame_ms:.2f} ms a frame ({1000 / frame_ms:.1f} FPS)"


def _ways(
    best: SmallestCut,
    others: Mapping[BuildName, SmallestCut],
    estimates: Mapping[int, float],
    smaller: InFamily | None,
) -> str:
    """What to change: the budget, or what else is expected to reach it."""
    ways = [f"Set {best.goal.setting} {limit_of(best.goal.setting, best.frame_ms)}"]
    ways += [
        f"set latency.runtime to {build}, predicted {cut.frame_ms:.2f} ms"
        for build, cut in others.items() if cut.is_enough
    ]  # fmt: skip
    enough = [side for side, ms in estimates.items() if ms <= AIM * best.goal.frame_ms]
    ways += [f"try --imgsz {side}, estimated {estimates[side]:.2f} ms" for side in enough[:1]]
    ways += smaller.way(best.goal) if smaller else []
    if len(ways) > 1:
        return f"{', '.join(ways[:-1])}, or {ways[-1]}"
    return f"{ways[0]}; by these figures nothing else reaches it" if estimates or others or smaller else ways[0]
