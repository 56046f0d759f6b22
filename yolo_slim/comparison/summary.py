"""From the measured networks to the content of ``compare.json``. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from statistics import fmean
from typing import Any

from yolo_slim.comparison.frontier import (
    OURS,
    UNDECIDED,
    Judgement,
    Point,
    judge_all,
    on_frontier,
    overall,
    verdict_text,
)
from yolo_slim.comparison.methods import CONTROL, METHODS
from yolo_slim.comparison.networks import NOTHING_RANDOM, Network, representative, timed_key
from yolo_slim.comparison.notes import notes
from yolo_slim.comparison.result import (
    FAILED,
    MEASURED,
    NOT_POSSIBLE,
    About,
    Accuracy,
    CompareResult,
    Entry,
    MissingSeed,
    RuntimeFigures,
    RuntimeJudgement,
    Seed,
    Speedup,
    Timing,
    Verdict,
)
from yolo_slim.workspace.job import versions

MACS_TOLERANCE = 0.03
"""Distance from the wanted share of the MACs above which a method's row says so."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was measured."""

    networks: Sequence[Network]
    """The control's is among them."""
    timings: Mapping[str, Timing]
    """By the names of :func:`~yolo_slim.comparison.networks.timed_key`."""

    @property
    def control(self) -> Network:
        """The control's network."""
        return next(one for one in self.networks if one.cell.method == CONTROL)

    def timed(self, one: Network) -> dict[str, str]:
        """Runtime to the name of the timing that stands for a network."""
        stands = representative(one, self.networks)
        return {key: timed_key(stands, key) for key in one.bundles}

    def groups(self) -> list[list[Network]]:
        """The networks of one method and size together, in their order."""
        groups: dict[tuple[str, float], list[Network]] = {}
        for one in self.networks:
            groups.setdefault((one.cell.method, one.cell.removed), []).append(one)
        return list(groups.values())


def summarize(about: About, networks: Sequence[Network], timings: Mapping[str, Timing]) -> CompareResult:
    """Put the content of ``compare.json`` together.

    Args:
        about: what was compared on what.
        networks: every network; the control's is among them.
        timings: by the names of :func:`~yolo_slim.comparison.networks.timed_key`.
    """
    measured = Measured(networks=networks, timings=timings)
    distills = about.training.distill > 0
    entries = [_entry(group, measured, distills=distills) for group in measured.groups()]
    if about.budget_ms is not None:
        # Ours was asked for milliseconds, whatever MACs that takes.
        entries = [replace(entry, at_size=True) if entry.method == OURS else entry for entry in entries]
    for key in about.runtimes:
        entries = _with_frontier(entries, key)
    subject = "Pruning" if about.budget_ms is None else "Pruning to milliseconds"
    judgements = {key: _judge(entries, key, subject) for key in about.runtimes}
    first = about.runtimes[0]
    return CompareResult(
        **vars(about),
        measured_at=max((timing.measured_at for timing in timings.values()), default=_now()),
        methods=tuple(entries),
        verdict=Verdict(status=judgements[first].status, text=judgements[first].text, runtime=first),
        judgements=judgements,
        versions=versions(),
        notes=tuple(notes(about, entries)),
    )


def _now() -> str:
    """The time of a result without any timing."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _entry(networks: Sequence[Network], measured: Measured, *, distills: bool) -> Entry:
    """Summarize one method at one size."""
    made = [one for one in networks if one.measured]
    first, method = (made or networks)[0], METHODS[networks[0].cell.method]
    wanted = first.cell.removed
    # Of the first seed; only a random method is cut anew for each, to nearly the same MACs.
    removed = 1 - first.macs / measured.control.macs
    # One untrained timing is enough to judge all without post-processing: mixed ones can't be compared.
    untrained = any(representative(one, measured.networks).imported for one in made)
    return Entry(
        method=method.name,
        about=method.about,
        removed=wanted if method.sized else None,
        reference=method.reference,
        trained=method.trained,
        distilled=method.trained and method.distilled and distills,
        status=_status(networks),
        reason=first.reason,
        implementation=first.implementation,
        imgsz=first.imgsz,
        macs=first.macs if made else None,
        params=first.params if made else None,
        macs_removed=removed if made else None,
        at_size=not method.sized or not made or abs(removed - wanted) <= MACS_TOLERANCE,
        timed_untrained=untrained,
        seeds=tuple(_seed(one, measured) for one in made),
        seeds_missing=tuple(_missing(one) for one in networks if made and not one.measured),
        runtimes={key: _figures(made, key, measured) for key in measured.control.bundles if made},
    )


def _status(networks: Sequence[Network]) -> str:
    """Whether a method was measured at a size, failed, or isn't possible."""
    if any(one.measured for one in networks):
        return MEASURED
    return FAILED if any(one.failed for one in networks) else NOT_POSSIBLE


def _seed_number(one: Network) -> int | None:
    """Seed of a network, None where nothing is random."""
    return None if one.cell.seed == NOTHING_RANDOM else one.cell.seed


def _missing(one: Network) -> MissingSeed:
    """Describe a seed without figures."""
    return MissingSeed(seed=_seed_number(one), reason=one.reason)


def _seed(one: Network, measured: Measured) -> Seed:
    """Describe one network."""
    return Seed(
        seed=_seed_number(one),
        macs=one.trained_macs or one.macs,
        cut_macs=one.macs,
        scores=one.scores,
        timed=measured.timed(one),
        folder=one.cell.name,
        made=one.made,
        imported=one.imported,
    )


def _figures(networks: Sequence[Network], key: str, measured: Measured) -> RuntimeFigures:
    """Accuracy over the seeds and latency of one method at one size in one runtime."""
    maps = [one.scores[key].map50_95 for one in networks if key in one.scores]
    names = dict.fromkeys(measured.timed(one)[key] for one in networks)
    timed = _typical([measured.timings[name] for name in names if name in measured.timings])
    base = measured.timings.get(measured.timed(measured.control)[key])
    return RuntimeFigures(
        map50_95=Accuracy(mean=fmean(maps), lowest=min(maps), highest=max(maps), seeds=len(maps)) if maps else None,
        bench=timed,
        speedup=Speedup.of(base, timed) if base and timed else None,
        on_frontier=False,
    )


def _typical(timed: Sequence[Timing]) -> Timing | None:
    """Choose the timing with the median latency; seeds of one shape share one, so there are rarely several."""
    ranked = sorted(timed, key=lambda timing: timing.p50_ms)
    # Of two in the middle the faster one: their mean would be no timing, and have no rounds.
    return ranked[(len(ranked) - 1) // 2] if ranked else None


def _with_frontier(entries: Sequence[Entry], key: str) -> list[Entry]:
    """Mark the entries that are on the frontier in one runtime."""
    points = _points(entries, key)
    best = dict(zip(points, on_frontier(list(points.values())), strict=True))
    return [
        _replaced(entry, key, on_frontier=best[index]) if index in best else entry
        for index, entry in enumerate(entries)
    ]


def _replaced(entry: Entry, key: str, **changes: Any) -> Entry:
    """Change the figures of one runtime."""
    return replace(entry, runtimes={**entry.runtimes, key: replace(entry.runtimes[key], **changes)})


def _judge(entries: Sequence[Entry], key: str, subject: str) -> RuntimeJudgement:
    """Judge all methods in one runtime; ``subject`` is what ours is, for people."""
    judgements = judge_all(list(_points(entries, key).values()), _unmeasured(entries, key))
    status = overall(judgements)
    return RuntimeJudgement(status=status, text=verdict_text(status, judgements, subject), methods=tuple(judgements))


def _accuracy(entry: Entry, key: str) -> Accuracy | None:
    """Accuracy of an entry in a runtime, None where there is none."""
    return entry.runtimes[key].map50_95 if key in entry.runtimes else None


def _unmeasured(entries: Sequence[Entry], key: str) -> list[Judgement]:
    """Leave rivals without figures in a runtime undecided; a network that can't exist is no rival."""
    return [
        Judgement(
            method=entry.method,
            size=size_text(entry, entries),
            status=UNDECIDED,
            reason=f"not measured: {entry.reason or 'it has no accuracy in this runtime'}",
        )
        for entry in entries
        if entry.status != NOT_POSSIBLE and not _accuracy(entry, key) and entry.method != OURS and not entry.reference
    ]


def _points(entries: Sequence[Entry], key: str) -> dict[int, Point]:
    """The entries with accuracy in a runtime, by their index, as points of accuracy and latency."""
    return {i: _point(entry, key, entries) for i, entry in enumerate(entries) if _accuracy(entry, key)}


def _point(entry: Entry, key: str, entries: Sequence[Entry]) -> Point:
    """An entry as a point; a timing that doesn't count has no rounds."""
    bench = entry.runtimes[key].bench
    counts = bench if bench and bench.valid else None
    return Point(
        method=entry.method,
        size=size_text(entry, entries),
        maps=tuple(seed.scores[key].map50_95 for seed in entry.seeds if key in seed.scores),
        rounds_ms=counts.round_p50_ms if counts else (),
        network_ms=counts.round_network_p50_ms if counts else (),
        untrained=entry.timed_untrained,
        reference=entry.reference,
        exact=not entry.trained,
    )


def size_text(entry: Entry, entries: Sequence[Entry]) -> str:
    """What distinguishes an entry from its method's other sizes, empty where there is only one size."""
    sizes = {other.removed for other in entries if other.removed is not None}
    return entry.size if len(sizes) > 1 else ""
