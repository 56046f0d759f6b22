"""How many channels each layer keeps, so that the network reaches a budget at the least loss of score.

``allocate_global``, ``allocate_uniform`` and ``allocate_isomorphic`` are the scopes of ``prune.scope``. Everything here
is arithmetic on arrays: no model, no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import merge

import numpy as np

from yolo_slim.pruning.goal import Cost
from yolo_slim.pruning.slots import Slot, round_up, widths_of
from yolo_slim.pruning.unreachable import unreachable


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What an allocation has to reach, and what it may change."""

    slots: list[Slot]
    cost: Cost
    """What the target is about."""
    target: float
    """Cost that may remain."""
    round_to: int
    """Channels that go at once; widths stay multiples of it."""
    start: np.ndarray | None = None
    """Kept channels to begin with, shape (slots,); None: all."""
    free: np.ndarray | None = None
    """Slots that may give channels up, shape (slots,) bool; None: all."""

    def begin(self) -> np.ndarray:
        """A copy of the widths to begin with."""
        return widths_of(self.slots) if self.start is None else self.start.copy()

    def is_met(self, keep: np.ndarray) -> bool:
        """Whether widths cost no more than the target."""
        return self.cost.total(keep) <= self.target


Allocate = Callable[[Problem], np.ndarray]
"""From a problem to the kept channels of every slot, shape (slots,)."""
Share = Callable[[Slot], float]
"""From a slot to how readily it gives up channels, as a factor of the common share."""
WidthsAt = Callable[[float], np.ndarray]
"""From a common share to the kept channels of every slot."""


def allocate_global(problem: Problem, *, per_mac: float, value: Cost | None = None, reach: int = 1) -> np.ndarray:
    """Remove the cheapest block of channels of the whole network, again and again.

    Args:
        problem: what to reach.
        per_mac: exponent of what is saved in the ranking; 0 ranks by score alone, 1 by score per MAC.
        value: what the ranking divides by where that isn't the cost.
        reach: how many multiples of ``round_to`` may go from a layer at once. Milliseconds fall in steps: one multiple
            may save nothing where two do.

    Raises:
        SlimError: every layer is at its floor and the target isn't met.
    """
    slots, keep = problem.slots, problem.begin()
    free = np.ones(len(slots), dtype=bool) if problem.free is None else problem.free
    cumulated = [_cumulated(slot) for slot in slots]
    taken: list[tuple[int, float]] = []
    while not problem.is_met(keep):
        steps = _next_steps(slots, keep, problem.round_to, reach) * free
        gone = [slot.width - int(k) for slot, k in zip(slots, keep, strict=True)]
        rank = np.full(steps.shape, np.inf)
        for row, step in enumerate(steps):
            saved = (value or problem.cost).saved(keep, step)
            loss = np.array([_loss(c, g, int(d)) for c, g, d in zip(cumulated, gone, step, strict=True)])
            # Steps that save nothing are never taken: they would cost score and bring the target no closer.
            useful = (step > 0) & (saved > 0)
            rank[row, useful] = loss[useful] / saved[useful] ** per_mac
        row, best = divmod(int(rank.argmin()), len(slots))
        if not np.isfinite(rank[row, best]):
            raise unreachable(slots, problem.cost, keep, problem.target)
        keep[best] -= steps[row, best]
        taken.append((best, steps[row, best]))
    return undo_needless_steps(problem, keep, taken)


def _next_steps(slots: list[Slot], keep: np.ndarray, round_to: int, reach: int) -> np.ndarray:
    """How many channels go with the next 1, 2, ... ``reach`` steps of every slot, shape (reach, slots).

    A row has 0 where a floor allows no further step.
    """
    found, left = np.zeros((reach, len(slots))), keep.astype(float)
    for row in range(reach):
        step = np.array([slot.next_step(int(k), round_to) for slot, k in zip(slots, left, strict=True)], dtype=float)
        left -= step
        found[row] = (keep - left) * (step > 0)
    return found


def undo_needless_steps(problem: Problem, keep: np.ndarray, taken: list[tuple[int, float]]) -> np.ndarray:
    """Undo steps that the target doesn't need, from the last, which cost the most score, to the first.

    The last step of a search often removes more than was still needed. Then an earlier one may be needless.

    Args:
        problem: what must still be reached.
        keep: kept channels after all steps, shape (slots,).
        taken: slot and removed channels of every step, in order.
    """
    settled = set()
    for slot, step in reversed(taken):
        wider = keep.copy()
        wider[slot] += step
        # Only the last steps of a slot: its first may be an odd one, which alone made the width a multiple.
        if slot not in settled and problem.is_met(wider):
            keep = wider
        else:
            settled.add(slot)
    return keep


def allocate_uniform(problem: Problem, share: Share) -> np.ndarray:
    """Remove the same share of every slot, times ``share`` of the slot.

    Raises:
        SlimError: the target isn't met though every layer is at its floor.
    """

    def widths_at(ratio: float) -> np.ndarray:
        wanted = [slot.width * (1 - ratio * share(slot)) for slot in problem.slots]
        return np.array(
            [
                max(slot.floor, min(slot.width, round_up(int(w), slot.multiple(problem.round_to))))
                for slot, w in zip(problem.slots, wanted, strict=True)
            ],
            dtype=float,
        )

    widths = _with_fixed(problem, widths_at)
    low, high = _bracket(problem, widths)
    keep, before = widths(high), widths(low)
    # Slots of equal width all take their next step at one share; those whose step isn't needed stay before it.
    for slot in np.flatnonzero(before > keep):
        wider = keep.copy()
        wider[slot] = before[slot]
        if problem.is_met(wider):
            keep = wider
    return keep


def allocate_isomorphic(problem: Problem, share: Share) -> np.ndarray:
    """Remove the same share of every kind of slot, within a kind the cheapest channels.

    Fang et al. 2024: scores of unlike structures aren't comparable, so each kind is ranked by itself.

    Raises:
        SlimError: the target isn't met though every layer is at its floor.
    """
    slots = problem.slots
    # The head's slots are kinds of their own, because they have another share.
    kinds: dict[tuple[str, bool], list[int]] = {}
    for i, slot in enumerate(slots):
        if slot.floor < slot.width:
            kinds.setdefault((slot.kind, slot.head), []).append(i)
    queues = {
        key: list(merge(*(_steps(i, slots[i], problem.round_to) for i in members))) for key, members in kinds.items()
    }

    def widths_at(ratio: float) -> np.ndarray:
        keep = widths_of(slots)
        for key, members in kinds.items():
            # Channels of this kind that may still go.
            part = ratio * share(slots[members[0]])
            allowed = part * sum(slots[i].width for i in members)
            for _, i, step in queues[key]:
                allowed -= step
                # All of them: floors and steps end it, because rounding would leave some over.
                if allowed < 0 and part < 1:
                    break
                keep[i] -= step
        return keep

    widths = _with_fixed(problem, widths_at)
    return widths(_bracket(problem, widths)[1])


def _steps(index: int, slot: Slot, round_to: int) -> list[tuple[float, int, int]]:
    """A slot's steps as (mean score of the channels that go, slot, channels), in the order in which they go."""
    steps, keep = [], slot.width
    cumulated = _cumulated(slot)
    while step := slot.next_step(keep, round_to):
        steps.append((_loss(cumulated, slot.width - keep, step) / step, index, step))
        keep -= step
    return steps


def _with_fixed(problem: Problem, widths_at: WidthsAt) -> WidthsAt:
    """The same widths, but slots that aren't free stay as they began."""
    if problem.free is None:
        return widths_at
    free, begun = problem.free, problem.begin()
    return lambda ratio: np.where(free, widths_at(ratio), begun)


def _bracket(problem: Problem, widths_at: WidthsAt) -> tuple[float, float]:
    """Two shares with nothing between them, of which the larger meets the target and the smaller doesn't."""
    low, high = 0.0, 1.0
    # Halving works, though widths change in jumps, because a larger share never costs more.
    if not problem.is_met(widths_at(high)):
        raise unreachable(problem.slots, problem.cost, widths_at(high), problem.target)
    # 40 halvings: 1e-12, far below one channel of any layer.
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if problem.is_met(widths_at(middle)) else (middle, high)
    return low, high


MOST_PASSES = 8
"""Head and rest settle in two or three passes; a pair of neighbouring widths could alternate without end."""


def allocate_apart(allocate: Allocate, problem: Problem, *, head_rows: np.ndarray, head_target: float) -> np.ndarray:
    """Give the head a target of its own; the rest of the network reaches what the problem's target then still needs.

    The head reads the neck, so a narrower neck makes the head cheaper: both are allocated by turns until neither
    changes.

    Args:
        allocate: the allocation, over the slots that are free.
        problem: its target is the cost of all layers that may remain.
        head_rows: the head's convolutions, shape (convs,) bool.
        head_target: cost of the head that may remain.
    """
    full = widths_of(problem.slots)
    in_head = np.array([slot.head for slot in problem.slots])
    head = replace(problem, cost=problem.cost.of_head(head_rows), target=head_target, free=in_head)
    rest = replace(problem, free=~in_head)
    keep = full
    for _ in range(MOST_PASSES):
        before = keep
        # Each turn starts from full widths: allocation only removes, and a narrower neck lets the head keep more.
        keep = allocate(replace(head, start=np.where(in_head, full, keep)))
        keep = allocate(replace(rest, start=np.where(in_head, keep, full)))
        if np.array_equal(before, keep):
            break
    return keep


def scheduled(removed: float, index: int, steps: int, schedule: str) -> float:
    """Share to have removed after step ``index`` of ``steps``.

    ``linear``: the same amount in each step; ``geometric``: the same share of what the step before left.
    """
    if schedule == "geometric":
        return float(1 - (1 - removed) ** ((index + 1) / steps))
    return removed * (index + 1) / steps


def _cumulated(slot: Slot) -> np.ndarray:
    """Score lost with the first n channels to go, shape (width + 1,)."""
    return np.concatenate([[0.0], np.cumsum(slot.unit_scores)])


def _loss(cumulated: np.ndarray, removed: int, step: int) -> float:
    """Score that goes with the next ``step`` channels."""
    return float(cumulated[removed + step] - cumulated[removed])
