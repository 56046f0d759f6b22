"""Who is better at equal latency, and is the difference larger than the spread? Pure functions on numbers.

Speed is the ratio of two latencies within a round. Every round times each bundle once, so a machine that is slower for
a minute doesn't disturb the ratio. With fewer than :data:`FEWEST_ROUNDS` nothing is claimed: one disturbed round could
decide.

- Equally fast: the median is within :data:`SAME_SPEED` of 1.
- Faster: the median is farther off, and the middle half of the rounds is on one side of 1.
- Unknown: the middle half contains 1, and the median is farther off or the half is wider than :data:`MOST_SCATTER`.

Accuracy is compared by the ranges over the seeds. Better means that the worst seed of one beats the best seed of the
other, each of at least :data:`FEWEST_SEEDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean, median

from yolo_slim.measuring.rounds import quartiles

OURS = "ours"
WON, LOST, UNDECIDED, REFERENCE = "won", "lost", "undecided", "reference"
SAME_SPEED = 0.02
"""Difference of latency below which two bundles are equally fast, as a share."""
MOST_SCATTER = 0.1
"""Width of the middle half of the rounds' ratios above which the timings are too disturbed to be called equal."""
FEWEST_ROUNDS = 5
"""Rounds below which nothing is said of speed: in the middle half of fewer, one disturbed round can decide."""
FEWEST_SEEDS = 3
"""Seeds of a spread: all of two lie above all of another two by chance once in 6 times, with three once in 20."""
NOT_TIMED = "post-processing left out, as cuts before training were timed"
FEW_SEEDS = f"fewer than {FEWEST_SEEDS} seeds, so the spread isn't known"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One method at one size in one runtime, as it was measured."""

    method: str
    size: str
    """Text for people that distinguishes the points of one method; empty where there is only one."""
    maps: tuple[float, ...]
    """mAP50-95 of every seed; at least one."""
    rounds_ms: tuple[float, ...]
    """Median end-to-end latency of every round, milliseconds; empty where there is no timing that counts."""
    network_ms: tuple[float, ...] = ()
    """The same without post-processing."""
    untrained: bool = False
    """What was timed is the cut before training, which finds few objects and so has little to post-process."""
    reference: bool = False
    """It shows where the others come from and isn't at their MACs: pruning can lose to it, but not win."""
    exact: bool = False
    """Nothing about it is random, so that one accuracy is all there is."""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.method} {self.size}".strip()

    @property
    def mean(self) -> float:
        """Accuracy over the seeds."""
        return fmean(self.maps)

    @property
    def latency_ms(self) -> float:
        """Median over the rounds."""
        return median(self.rounds_ms)

    @property
    def has_spread(self) -> bool:
        """Whether its spread over the seeds is known."""
        return self.exact or len(self.maps) >= FEWEST_SEEDS


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How ours did against one point of a rival."""

    method: str
    size: str
    status: str
    """``won``, ``lost`` (by ours), ``undecided`` or ``reference``."""
    reason: str

    @property
    def name(self) -> str:
        """What people call the rival."""
        return f"{self.method} {self.size}".strip()


def ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Divide two bundles' latencies round by round."""
    return [a / b for a, b in zip(first, second, strict=True)]


def speed_order(ours: Point, other: Point) -> int | None:
    """1 where ours is faster beyond the spread of the rounds, -1 where it is slower, 0 where they are equally fast.

    None where the rounds are too few, or scatter too much, to decide.
    """
    found = ratios(other.rounds_ms, ours.rounds_ms)
    if len(found) < FEWEST_ROUNDS:
        return None
    low, middle, high = quartiles(found)
    contains_1, is_near = low <= 1 <= high, abs(middle - 1) <= SAME_SPEED
    # Rounds that disagree on the order prove neither speed: equal has to be measured, not assumed from noise.
    if contains_1 and (not is_near or high / low - 1 > MOST_SCATTER):
        return None
    if is_near:
        return 0
    return 1 if low > 1 else -1


def map_order(ours: Sequence[float], other: Sequence[float]) -> int:
    """1 where every seed of ours beats every seed of the other, -1 where every seed of it beats ours, else 0."""
    return 1 if min(ours) > max(other) else -1 if max(ours) < min(other) else 0


def on_frontier(points: Sequence[Point]) -> list[bool]:
    """Whether no other point is at least as accurate and as fast and better in one of both, for every point."""
    timed = [(p.mean, p.latency_ms) if p.rounds_ms else None for p in points]

    def beaten(own: tuple[float, float]) -> bool:
        # Equal figures don't beat each other: both points are on the frontier.
        return any(o and o != own and o[0] >= own[0] and o[1] <= own[1] for o in timed)

    return [own is not None and not beaten(own) for own in timed]


def around(ours: Sequence[Point], latency_ms: float) -> tuple[Point, Point] | None:
    """Find the two of our sizes, the faster one first, that a latency lies between; None where there are none."""
    ranked = sorted(ours, key=lambda point: point.latency_ms)
    return next((ends for ends in pairwise(ranked) if ends[0].latency_ms < latency_ms < ends[1].latency_ms), None)


def interpolated(fast: Point, slow: Point, latency_ms: float) -> tuple[float, ...]:
    """Estimate our accuracies at a latency between two of our sizes, on the straight line between them.

    Ranked accuracies are joined, the lowest with the lowest; where the sizes have different numbers of seeds, only the
    lowest and the highest of each, so that no bad seed drops out.
    """
    share = (latency_ms - fast.latency_ms) / (slow.latency_ms - fast.latency_ms)
    ends = (sorted(fast.maps), sorted(slow.maps))
    if len(fast.maps) != len(slow.maps):
        ends = ([min(fast.maps), max(fast.maps)], [min(slow.maps), max(slow.maps)])
    return tuple(a + share * (b - a) for a, b in zip(*ends, strict=True))


def judge(ours: Sequence[Point], other: Point) -> Judgement:
    """Decide whether ours beats one point of another method at equal latency.

    One size of ours that is no slower and better by every seed has won, whatever the other sizes are. One that is no
    slower and not beaten by every seed hasn't lost. If no size of ours is as fast, the line between two of our sizes
    is used. Outside of our sizes, a win counts only against a method that is slower or equally fast, a loss only
    against one that is faster or equally fast.

    If a cut was timed before training, post-processing is left out of all latencies: how many objects an untrained cut
    finds depends on the method that cut it.
    """
    timed = [point for point in ours if point.rounds_ms]
    if not timed or not other.rounds_ms:
        return _undecided(other, "one of the two has no valid timing")
    if not any(point.untrained for point in [*timed, other]):
        return _by_latency(timed, other)
    without = [replace(point, rounds_ms=point.network_ms) for point in [*timed, other]]
    found = _by_latency(without[:-1], without[-1])
    return replace(found, reason=f"{found.reason}; {NOT_TIMED}")


def _by_latency(ours: Sequence[Point], other: Point) -> Judgement:
    """Judge points whose timings all count."""
    orders = {id(point): speed_order(point, other) for point in ours}
    no_slower = [
        (point, order)
        # Nearest first, so that the reason names the size that is closest to the rival.
        for point in sorted(ours, key=lambda point: abs(point.latency_ms - other.latency_ms))
        if (order := orders[id(point)]) is not None and order >= 0
    ]
    alone = [_against(point, other, order) for point, order in no_slower]
    # One size that wins is enough: nobody has to deploy the others.
    if won := [found for found in alone if found.status == WON]:
        return won[0]
    found = _nearest(ours, other, orders)
    unbeaten = [own for own, (point, _) in zip(alone, no_slower, strict=True) if map_order(point.maps, other.maps) >= 0]
    unclear = [point for point in ours if orders[id(point)] is None and map_order(point.maps, other.maps) >= 0]
    if found.status != LOST or not (unbeaten or unclear):
        return found
    return unbeaten[0] if unbeaten else _undecided(other, _no_order(other))


def _nearest(timed: Sequence[Point], other: Point, orders: dict[int, int | None]) -> Judgement:
    """Judge by our size of the rival's speed, else by the line between two sizes, else by the size nearest to it."""
    near = sorted(timed, key=lambda point: abs(point.latency_ms - other.latency_ms))
    if level := [point for point in near if orders[id(point)] == 0]:
        return _against(level[0], other, 0)
    if None in orders.values():
        return _undecided(other, _no_order(other))
    if ends := around(timed, other.latency_ms):
        between = interpolated(*ends, other.latency_ms)
        known = all(point.has_spread for point in ends) and len(between) > 1
        return _decide(between, known, other, 0, f"at {other.latency_ms:.2f} ms, between two sizes of ours")
    # No order is None any more: ``or 0`` is for the type checker.
    return _against(near[0], other, orders[id(near[0])] or 0)


def _no_order(other: Point) -> str:
    """Say why it is unknown who is faster."""
    if len(other.rounds_ms) < FEWEST_ROUNDS:
        return f"fewer than {FEWEST_ROUNDS} rounds can't show which is faster; raise validate.rounds"
    return "the rounds scatter too much to show which is faster; time it on a quiet machine"


def _against(point: Point, other: Point, order: int) -> Judgement:
    """Judge by one of our sizes, at a known order of speed."""
    how = {0: f"as fast as {point.name}", 1: f"{point.name} is faster", -1: f"{point.name} is slower"}
    return _decide(point.maps, point.has_spread, other, order, how[order])


def _decide(maps: Sequence[float], spread: bool, other: Point, order: int, where: str) -> Judgement:
    """Judge accuracies at a known order of speed: 1 ours is faster, -1 slower, 0 equal."""
    found = f"{where}: mAP50-95 {span(maps)} against {span(other.maps)}"
    better = map_order(maps, other.maps)
    if not (spread and other.has_spread):
        return _undecided(other, f"{found}; {FEW_SEEDS}")
    # A reference can win over ours, so this comes before it is set aside.
    if better < 0 and order <= 0:
        return Judgement(method=other.method, size=other.size, status=LOST, reason=found)
    if other.reference:
        return Judgement(method=other.method, size=other.size, status=REFERENCE, reason=found)
    if better > 0 and order >= 0:
        return Judgement(method=other.method, size=other.size, status=WON, reason=found)
    why = "the seeds' ranges overlap" if better == 0 else "each is better in one, and no equal latency was measured"
    return _undecided(other, f"{found}; {why}")


def _undecided(other: Point, reason: str) -> Judgement:
    """Leave it open, with the reason; a reference stays one."""
    status = REFERENCE if other.reference else UNDECIDED
    return Judgement(method=other.method, size=other.size, status=status, reason=reason)


def span(maps: Sequence[float]) -> str:
    """Write a range of accuracies for people."""
    low, high = min(maps), max(maps)
    return f"{low:.4f}" if len(maps) == 1 or low == high else f"{low:.4f} to {high:.4f}"


def judge_all(points: Sequence[Point], unmeasured: Sequence[Judgement] = ()) -> list[Judgement]:
    """Judge every point that isn't ours; ``unmeasured`` are rivals that exist but have no figures here."""
    ours = [point for point in points if point.method == OURS]
    return [*[judge(ours, point) for point in points if point.method != OURS], *unmeasured]


def overall(judgements: Sequence[Judgement]) -> str:
    """``lost`` where ours lost to any method, ``won`` where it beat every one, else ``undecided``."""
    statuses = [judgement.status for judgement in judgements]
    rivals = [status for status in statuses if status != REFERENCE]
    if LOST in rivals:
        return LOST
    return WON if rivals and set(rivals) == {WON} else UNDECIDED


def verdict_text(status: str, judgements: Sequence[Judgement], subject: str = "Pruning") -> str:
    """Say the verdict in plain words; ``subject`` is what ours is."""
    names = {wanted: [j.name for j in judgements if j.status == wanted] for wanted in (WON, LOST, UNDECIDED)}
    if status == LOST:
        verb = "is" if len(names[LOST]) == 1 else "are"
        how = "by more than the spread of the seeds"
        text = f"{subject} lost: {_and(names[LOST])} {verb} more accurate and no slower, {how}."
    elif status == WON:
        how = "by more than the spread of the seeds"
        text = f"{subject} won: it is more accurate than {_and(names[WON])} and no slower, {how}."
    else:
        better = f"{subject[0].lower()}{subject[1:]} is better than every other method"
        text = f"Undecided: the measurements don't show that {better}, nor that it is worse."
    if status != WON and names[WON]:
        text += f" It won against {_and(names[WON])}."
    if names[UNDECIDED]:
        text += f" Undecided against {_and(names[UNDECIDED])}."
    return text


def _and(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
