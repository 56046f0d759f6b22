"""How many channels each layer keeps, so that the whole reaches a budget at the least loss of score.

Everything here is arithmetic on arrays: no model, no torch. A budget is a cost that may remain, in multiply-accumulates
or parameters; :class:`CostModel` says what widths cost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import merge

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.pruning.groups import ChannelGraph


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Spaces that keep equal counts, as one decision: how many channels stay."""

    name: str
    """A convolution that writes it, for people."""
    spaces: tuple[int, ...]
    width: int
    floor: int
    """Fewest channels that may stay; equals ``width`` where nothing may go."""
    unit_scores: np.ndarray
    """Score lost with the r-th channel to go, ascending, shape (width,)."""
    head: bool = False
    """It belongs to the last layer."""
    least: int = 0
    """The floor that it would have if the head gave up channels like the rest; 0: as ``floor``."""
    kind: str = ""
    """Its structure: equal for isomorphic slots."""
    unit: int = 1
    """Channels of a tensor that one of ``width`` stands for: the size of an attention head, which goes as a whole."""

    def multiple(self, round_to: int) -> int:
        """Return what its count must be a multiple of, so that tensors are ``round_to`` channels wide."""
        return round_to // math.gcd(round_to, self.unit)


def below(most: float) -> str:
    """Return where a setting must be that asks for a share, rounded down."""
    return f"below {math.floor(most * 100) / 100:.2f}"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What must go of a network."""

    removed: float
    """Share, between 0 and 1."""
    what: str = "MACs"
    """``MACs`` or ``parameters``, in the head's own cost model the head's."""
    setting: str = "PRUNE"
    """What asks for it, for people."""
    limit: Callable[[float], str] = below
    """From the largest share that can go to where the setting must be, for people."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """What a network costs as a function of the kept channels of each slot."""

    reads: np.ndarray
    """Times that a convolution reads a slot's channels, shape (convs, slots)."""
    writes: np.ndarray
    """Times that a convolution writes them, shape (convs, slots)."""
    reads_fixed: np.ndarray
    """Input channels that no slot governs, shape (convs,)."""
    unit: np.ndarray
    """Cost of one input with one output channel, shape (convs,); 0 where the fused graph drops the convolution."""
    per_output: np.ndarray | None = None
    """Cost of an output channel whatever is read, shape (convs,): its bias. None: nothing."""
    goal: Goal
    """What is counted, and which setting says how much of it goes, for people."""
    of_all: bool = True
    """It is the whole network's cost, not the head's alone."""

    def total(self, keep: np.ndarray) -> float:
        """Return the cost when slot s keeps ``keep[s]`` channels."""
        outputs = self.writes @ keep
        paired = float((self.unit * self._inputs(keep) * outputs).sum())
        return paired if self.per_output is None else paired + float((self.per_output * outputs).sum())

    def saved(self, keep: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the cost saved by removing ``step[s]`` channels from slot s alone, shape (slots,)."""
        inputs, outputs = self._inputs(keep)[:, None], (self.writes @ keep)[:, None]
        after = (inputs - self.reads * step) * (outputs - self.writes * step)
        paired = np.asarray((self.unit[:, None] * (inputs * outputs - after)).sum(axis=0))
        return paired if self.per_output is None else paired + self.per_output @ self.writes * step

    def of_head(self, rows: np.ndarray) -> CostModel:
        """Return the cost of the head's convolutions alone, ``rows`` of shape (convs,) bool."""
        biases = None if self.per_output is None else self.per_output * rows
        goal = replace(self.goal, what=f"head's {self.goal.what}", setting="prune.head_removed", limit=below)
        return replace(self, unit=self.unit * rows, per_output=biases, goal=goal, of_all=False)

    def _inputs(self, keep: np.ndarray) -> np.ndarray:
        """Return the input channels of every convolution, shape (convs,)."""
        return np.asarray(self.reads @ keep + self.reads_fixed)


Allocate = Callable[[CostModel, float, np.ndarray, np.ndarray], np.ndarray]
"""From a cost model, the cost that may remain, the widths to start from and which slots are free, to kept channels."""


def make_slots(
    graph: ChannelGraph, scores: np.ndarray, *, round_to: int, floor: Callable[[str, int], int]
) -> list[Slot]:
    """Return one slot per set of tied spaces; a set with a channel that has no score (NaN) stays whole.

    Args:
        graph: the channel graph.
        scores: score of every label, shape (labels,).
        round_to: widths stay multiples of this.
        floor: from a writing convolution's name and its width to the fewest channels that may stay.
    """
    slots = []
    kinds = structures(graph)
    for members, kind in zip(graph.tied, kinds, strict=True):
        spaces = [graph.spaces[i] for i in members]
        width = len(spaces[0].channels)
        name = (graph.members(spaces[0]) or ["?"])[0]
        lost: np.ndarray = sum(np.sort(scores[space.channels]) for space in spaces)  # type: ignore[assignment]
        frozen = any(space.frozen for space in spaces) or bool(np.isnan(lost).any())
        slot = Slot(
            name=name,
            spaces=tuple(members),
            width=width,
            floor=width,
            unit_scores=np.zeros(width) if np.isnan(lost).any() else lost,
            kind=kind,
            unit=max(space.unit for space in spaces),
        )
        lowest = _round_up(-(-floor(name, width * slot.unit) // slot.unit), slot.multiple(round_to))
        slots.append(slot if frozen else replace(slot, floor=min(width, lowest)))
    return slots


def structures(graph: ChannelGraph) -> list[str]:
    """Return for every set of tied spaces what writes and reads it, equal for isomorphic sets, shape (sets,).

    As torch-pruning's ``isomorphic`` (Fang et al. 2024, Isomorphic Pruning for Vision Models): layer types and
    directions, whatever the widths; here with the kernel's size.
    """
    home = {
        int(label): i
        for i, members in enumerate(graph.tied)
        for space in members
        for label in graph.spaces[space].channels
    }
    tags: list[Counter[str]] = [Counter() for _ in graph.tied]
    for site in graph.convs.values():
        kind = f"{'depthwise' if site.depthwise else 'transposed' if site.transposed else 'dense'}{site.kernel_area}"
        for direction, labels in (("out", site.outputs), ("in", site.inputs)):
            for i in {home[label] for label in np.unique(labels).tolist() if label in home}:
                tags[i][f"{kind}-{direction}"] += 1
    return [" ".join(f"{count}x{tag}" for tag, count in sorted(counted.items())) for counted in tags]


def make_cost_model(graph: ChannelGraph, slots: list[Slot], counted: Callable[[str], bool], goal: Goal) -> CostModel:
    """Return the cost model of a graph.

    Args:
        graph: the channel graph.
        slots: the decisions.
        counted: tells by its name whether the fused graph has a convolution.
        goal: whose ``what`` is counted: MACs for one image, or parameters with one bias an output channel, as fusing
            leaves them.
    """
    home = {
        int(label): s for s, slot in enumerate(slots) for space in slot.spaces for label in graph.spaces[space].channels
    }
    shape = (len(graph.convs), len(slots))
    reads, writes = np.zeros(shape), np.zeros(shape)
    fixed, unit, biases = np.zeros(shape[0]), np.zeros(shape[0]), np.zeros(shape[0])
    for row, site in enumerate(graph.convs.values()):
        times = site.output_pixels if goal.what == "MACs" else 1
        unit[row] = site.kernel_area * times * counted(site.name) / (1 if site.depthwise else site.groups)
        biases[row] = counted(site.name)
        for label in site.outputs.tolist():
            writes[row, home[label]] += 1 / slots[home[label]].width
        if site.depthwise:
            fixed[row] = 1
            continue
        for label in site.inputs.tolist():
            if label in home:
                reads[row, home[label]] += 1 / slots[home[label]].width
            else:
                fixed[row] += 1
    per_output = None if goal.what == "MACs" else biases
    return CostModel(reads=reads, writes=writes, reads_fixed=fixed, unit=unit, per_output=per_output, goal=goal)


def widths_of(slots: list[Slot]) -> np.ndarray:
    """Return the width of every slot, shape (slots,)."""
    return np.array([slot.width for slot in slots], dtype=float)


def allocate_global(
    slots: list[Slot],
    cost: CostModel,
    *,
    target: float,
    round_to: int,
    per_mac: float,
    value: CostModel | None = None,
    start: np.ndarray | None = None,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """Return the kept channels of every slot, shape (slots,): the cheapest block of channels goes first.

    Args:
        slots: the decisions to make.
        cost: what the target is about.
        target: cost that may remain.
        round_to: channels that go in one step.
        per_mac: exponent of what is saved in the ranking; 0 ranks by score alone, 1 by score per MAC.
        value: what the ranking divides by where that isn't the cost.
        start: kept channels to begin with; absent: all.
        free: slots that may give channels up, shape (slots,) bool; absent: all.

    Raises:
        SlimError: every layer is at its floor and the target isn't met.
    """
    keep = widths_of(slots) if start is None else start.copy()
    free = np.ones(len(slots), dtype=bool) if free is None else free
    lost = [np.concatenate([[0.0], np.cumsum(slot.unit_scores)]) for slot in slots]
    taken: list[tuple[int, float]] = []
    while cost.total(keep) > target:
        step = np.array([_next_step(slot, int(k), round_to) for slot, k in zip(slots, keep, strict=True)], dtype=float)
        step *= free
        saved = (value or cost).saved(keep, step)
        loss = np.array(
            [_loss(c, slot.width - int(k), int(d)) for c, slot, k, d in zip(lost, slots, keep, step, strict=True)]
        )
        rank = np.where((step > 0) & (saved > 0), loss / np.maximum(saved, 1.0) ** per_mac, np.inf)
        best = int(rank.argmin())
        if not np.isfinite(rank[best]):
            raise _unreachable(slots, cost, keep, target)
        keep[best] -= step[best]
        taken.append((best, step[best]))
    return _given_back(keep, taken, cost, target)


def _given_back(keep: np.ndarray, taken: list[tuple[int, float]], cost: CostModel, target: float) -> np.ndarray:
    """Return the widths without the steps, dearest first, that the last one to go made needless.

    Of a slot only the last steps come back: its first may be the odd one that made the width a multiple.
    """
    settled = set()
    for slot, step in reversed(taken):
        wider = keep.copy()
        wider[slot] += step
        if slot not in settled and cost.total(wider) <= target:
            keep = wider
        else:
            settled.add(slot)
    return keep


def allocate_uniform(
    slots: list[Slot],
    cost: CostModel,
    *,
    target: float,
    round_to: int,
    share: Callable[[Slot], float],
    start: np.ndarray | None = None,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """Return the kept channels of every slot when each loses the same share, times ``share`` of the slot.

    Slots of one width take their next step at one share; those whose step the target doesn't need stay before it.

    Raises:
        SlimError: the target isn't met though every layer is at its floor.
    """

    def keep_at(ratio: float) -> np.ndarray:
        wanted = [slot.width * (1 - ratio * share(slot)) for slot in slots]
        return np.array(
            [
                max(slot.floor, min(slot.width, _round_up(int(w), slot.multiple(round_to))))
                for slot, w in zip(slots, wanted, strict=True)
            ],
            dtype=float,
        )

    held = _held(keep_at, slots, start, free)
    keep, before = (held(ratio) for ratio in reversed(_bracket(slots, cost, target, held)))
    for slot in np.flatnonzero(before > keep):
        wider = keep.copy()
        wider[slot] = before[slot]
        if cost.total(wider) <= target:
            keep = wider
    return keep


def allocate_isomorphic(
    slots: list[Slot],
    cost: CostModel,
    *,
    target: float,
    round_to: int,
    share: Callable[[Slot], float],
    start: np.ndarray | None = None,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """Return the kept channels when isomorphic slots lose the same share together, the cheapest channels first.

    Fang et al. 2024: scores of unlike structures aren't comparable, so each kind is ranked apart, at one common share.

    Raises:
        SlimError: the target isn't met though every layer is at its floor.
    """
    kinds: dict[tuple[str, bool], list[int]] = {}
    for i, slot in enumerate(slots):
        if slot.floor < slot.width:
            kinds.setdefault((slot.kind, slot.head), []).append(i)
    queues = {key: list(merge(*(_blocks(i, slots[i], round_to) for i in members))) for key, members in kinds.items()}

    def keep_at(ratio: float) -> np.ndarray:
        keep = widths_of(slots)
        for key, members in kinds.items():
            allowed = ratio * share(slots[members[0]]) * sum(slots[i].width for i in members)
            for _, i, step in queues[key]:
                allowed -= step
                if allowed < 0 and ratio < 1:
                    break
                keep[i] -= step
        return keep

    return _bisect(slots, cost, target, _held(keep_at, slots, start, free))


def _blocks(index: int, slot: Slot, round_to: int) -> list[tuple[float, int, int]]:
    """Return a slot's steps as (mean score of the channels that go, slot, channels), in the order in which they go."""
    blocks, keep = [], slot.width
    cumulated = np.concatenate([[0.0], np.cumsum(slot.unit_scores)])
    while step := _next_step(slot, keep, round_to):
        blocks.append((_loss(cumulated, slot.width - keep, step) / step, index, step))
        keep -= step
    return blocks


def _held(
    keep_at: Callable[[float], np.ndarray], slots: list[Slot], start: np.ndarray | None, free: np.ndarray | None
) -> Callable[[float], np.ndarray]:
    """Return ``keep_at`` with the slots that aren't free held where they start."""
    if free is None:
        return keep_at
    begun = widths_of(slots) if start is None else start
    return lambda ratio: np.where(free, keep_at(ratio), begun)


def _bisect(slots: list[Slot], cost: CostModel, target: float, keep_at: Callable[[float], np.ndarray]) -> np.ndarray:
    """Return the widths at the smallest ratio that meets the target."""
    _, high = _bracket(slots, cost, target, keep_at)
    return keep_at(high)


def _bracket(
    slots: list[Slot], cost: CostModel, target: float, keep_at: Callable[[float], np.ndarray]
) -> tuple[float, float]:
    """Return two ratios with nothing between them, of which the larger meets the target and the smaller doesn't."""
    low, high = 0.0, 1.0
    if cost.total(keep_at(high)) > target:
        raise _unreachable(slots, cost, keep_at(high), target)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if cost.total(keep_at(middle)) <= target else (middle, high)
    return low, high


def allocate_apart(
    allocate: Allocate,
    slots: list[Slot],
    cost: CostModel,
    *,
    target: float,
    head_rows: np.ndarray,
    head_target: float,
) -> np.ndarray:
    """Return the kept channels when the head is given a target of its own and the rest pays what is left.

    The head reads the neck, so a narrower neck makes the head cheaper: both are allocated in turn until neither moves.

    Args:
        allocate: the allocation, over the slots that are free.
        slots: the decisions to make.
        cost: what the targets are about.
        target: cost of the whole that may remain.
        head_rows: the head's convolutions, shape (convs,) bool.
        head_target: cost of the head that may remain.
    """
    full = widths_of(slots)
    in_head = np.array([slot.head for slot in slots])
    keep = full
    for _ in range(MOST_TURNS):
        before = keep
        keep = allocate(cost.of_head(head_rows), head_target, np.where(in_head, full, keep), in_head)
        keep = allocate(cost, target, np.where(in_head, keep, full), ~in_head)
        if np.array_equal(before, keep):
            break
    return keep


MOST_TURNS = 8
"""Head and rest settle in two or three turns; a pair of neighbouring widths could go back and forth for ever."""


def scheduled(removed: float, index: int, steps: int, schedule: str) -> float:
    """Return the share to have removed after step ``index`` of ``steps``.

    ``linear``: the same amount in each step; ``geometric``: the same share of what the step before left.
    """
    if schedule == "geometric":
        return float(1 - (1 - removed) ** ((index + 1) / steps))
    return removed * (index + 1) / steps


def _round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is at least ``value``."""
    return -(-value // multiple) * multiple


def _next_step(slot: Slot, keep: int, round_to: int) -> int:
    """Return how many channels the next step removes: down to a multiple, 0 where the floor forbids it."""
    multiple = slot.multiple(round_to)
    step = keep % multiple or multiple
    return step if keep - step >= max(slot.floor, 1) else 0


def _loss(cumulated: np.ndarray, removed: int, step: int) -> float:
    """Return the score that goes with the next ``step`` channels."""
    return float(cumulated[removed + step] - cumulated[removed])


def _unreachable(slots: list[Slot], cost: CostModel, keep: np.ndarray, target: float) -> SlimError:
    """Return the error for a budget below what the floors allow, or that only the head could pay."""
    full = cost.total(widths_of(slots))
    most = 1 - cost.total(keep) / full
    opened = np.array([min(k, slot.least or k) for slot, k in zip(slots, keep, strict=True)])
    reach = 1 - cost.total(opened) / full
    what = cost.goal.what
    if cost.of_all and any(slot.head for slot in slots) and cost.total(opened) <= target:
        return SlimError(
            f"Removing {1 - target / full:.0%} of the {what} is a ratio that only the head could pay: with "
            f"everything else at its floor {most:.0%} can go, with the head at its floor too {reach:.0%}.",
            culprits=_at_floor(slots, keep),
            remedy=f"Set {cost.goal.setting} {cost.goal.limit(most)}, or raise {_opens(slots)}.",
        )
    return SlimError(
        f"Removing {1 - target / full:.0%} of the {what} would take layers below their floor; "
        f"at most {most:.0%} can go with these settings.",
        culprits=_at_floor(slots, keep),
        remedy=_lower(cost.goal, most, head_has_more=_head_has_more(slots, keep)),
    )


def _opens(slots: Sequence[Slot]) -> str:
    """Return the setting that holds the head: a ratio of its own, else its gentleness of 0, which closes its slots."""
    has_ratio = any(slot.head and slot.least and slot.floor < slot.width for slot in slots)
    return "prune.head_removed" if has_ratio else "prune.head_rate"


def _head_has_more(slots: Sequence[Slot], keep: np.ndarray) -> bool:
    """Tell whether the head stays above its floor because it gives up a smaller share than the rest."""
    return any(slot.head and not slot.least and k > slot.floor for slot, k in zip(slots, keep, strict=True))


def _lower(goal: Goal, most: float, *, head_has_more: bool) -> str:
    """Return what to do where floors, and a head that gives up less than the rest, let the share ``most`` go."""
    ways = ["lower prune.min_width or prune.min_share", "protect less (prune.protect)"]
    ways += ["raise prune.head_rate"] if head_has_more else []
    others = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return f"Set {goal.setting} {goal.limit(most)}, or {others}" if most >= 0.01 else f"{others[0].upper()}{others[1:]}"


def _at_floor(slots: Sequence[Slot], keep: np.ndarray) -> list[str]:
    """Return the slots that hit their floor, the widest first."""
    return [
        f"{slot.name} ({slot.width} channels, floor {slot.floor})"
        for slot, k in sorted(zip(slots, keep, strict=True), key=lambda pair: -pair[0].width)
        if 0 < slot.floor < slot.width and k <= slot.floor
    ]
