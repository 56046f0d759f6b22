"""From what was measured to the value of ``compare.json``. Pure functions; docs/compare.md tells what the keys mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import fmean
from typing import Any

from yolo_slim.comparison.arms import ARMS, CONTROL
from yolo_slim.comparison.frontier import (
    FEWEST_SEEDS,
    OURS,
    UNDECIDED,
    Judgement,
    Point,
    judge_all,
    on_frontier,
    overall,
    verdict_text,
)
from yolo_slim.measuring.rounds import speedup
from yolo_slim.workspace.job import versions

COMPARE_SCHEMA = 1
ROUNDS = ("round_p50_ms", "round_network_p50_ms")
MACS_TOLERANCE = 0.03
"""Distance from the wanted share of the MACs above which an arm's row says so."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network of the grid."""

    arm: str
    removed: float
    """Share of the control's MACs that was to go, 0 where the arm has no size."""
    seed: int
    reason: str
    """Why it wasn't measured; empty where it was."""
    failed: bool = False
    """There is such a network, but this call couldn't make or measure it, which decides nothing about it."""
    imgsz: int | None
    implementation: str
    macs: int
    params: int
    scores: Mapping[str, Mapping[str, Any]]
    """Runtime to ``map50_95`` and ``map50``; a network of an earlier comparison may lack a runtime."""
    timed: Mapping[str, str]
    """Runtime to the name of the timing that stands for it."""
    folder: str
    made: Mapping[str, Any] | None = None
    """Where, when and how it was trained; None for what isn't trained."""
    taken_over: bool = False
    """It was trained for an earlier comparison, and is timed by its cut before training."""
    trained_macs: int = 0
    """MACs of what was trained, where it was taken over."""
    timed_untrained: bool = False
    """What was timed for it is a cut before training."""


def value(about: Mapping[str, Any], rows: Sequence[Row], timings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of ``compare.json``.

    Args:
        about: what was compared on what: name, command, model, data, training, runtimes, machine.
        rows: every network; the control's is among them.
        timings: merged timings by the names in :attr:`Row.timed`.
    """
    control = next(row for row in rows if row.arm == CONTROL)
    distills = about["training"]["distill"] > 0
    entries = [_entry(own, control, timings, distills=distills) for own in grouped(rows)]
    judged = {key: _judged(entries, key) for key in about["runtimes"]}
    first = judged[about["runtimes"][0]]
    return {
        "schema": COMPARE_SCHEMA,
        "kind": "comparison",
        **about,
        "measured_at": max(
            (timing["measured_at"] for timing in timings.values()),
            default=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        "arms": entries,
        "verdict": {"status": first["status"], "text": first["text"], "runtime": about["runtimes"][0]},
        "judgements": judged,
        "versions": versions(),
        "notes": _notes(about, entries),
    }


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of one arm and size together, in their order."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.arm, row.removed), []).append(row)
    return list(groups.values())


def _entry(rows: Sequence[Row], control: Row, timings: Mapping[str, Any], *, distills: bool) -> dict[str, Any]:
    """Return one arm at one size."""
    made = [row for row in rows if not row.reason]
    first, arm = (made or rows)[0], ARMS[rows[0].arm]
    removed = 1 - first.macs / control.macs
    possible = bool(made)
    return {
        "arm": first.arm,
        "about": arm.about,
        "removed": first.removed if arm.sized else None,
        "reference": arm.reference,
        "trained": arm.trained,
        "distilled": arm.trained and arm.distilled and distills,
        "status": "measured" if possible else "failed" if any(row.failed for row in rows) else "not possible",
        "reason": first.reason,
        "implementation": first.implementation,
        "imgsz": first.imgsz,
        "macs": first.macs if possible else None,
        "params": first.params if possible else None,
        "macs_removed": removed if possible else None,
        "at_size": not arm.sized or not possible or abs(removed - first.removed) <= MACS_TOLERANCE,
        "timed_untrained": any(row.timed_untrained for row in made),
        "seeds": [_seed(row) for row in made],
        "seeds_missing": [{"seed": row.seed, "reason": row.reason} for row in rows if row.reason and made],
        "runtimes": {key: _runtime(made, control, key, timings) for key in control.scores if made},
    }


def _seed(row: Row) -> dict[str, Any]:
    """Return one seed's figures."""
    scores = {key: {name: found[name] for name in ("map50_95", "map50")} for key, found in row.scores.items()}
    seed = None if row.seed < 0 else row.seed
    own = {"seed": seed, "macs": row.trained_macs or row.macs, "cut_macs": row.macs, "scores": scores}
    made = dict(row.made) if row.made else None
    return {**own, "timed": dict(row.timed), "folder": row.folder, "made": made, "taken_over": row.taken_over}


def _runtime(rows: Sequence[Row], control: Row, key: str, timings: Mapping[str, Any]) -> dict[str, Any]:
    """Return accuracy over the seeds and latency of one arm in one runtime."""
    maps = [row.scores[key]["map50_95"] for row in rows if key in row.scores]
    timed = _typical([timings[name] for name in dict.fromkeys(row.timed[key] for row in rows) if name in timings])
    base = timings.get(control.timed[key])
    return {
        "map50_95": {"mean": fmean(maps), "lowest": min(maps), "highest": max(maps), "seeds": len(maps)}
        if maps
        else None,
        "bench": None if timed is None else _bench(timed),
        "speedup": speedup(base, timed) if base and timed else None,
        "on_frontier": False,
    }


def _typical(timed: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the timing with the median latency; seeds of one shape share one, so there are several only rarely."""
    ranked = sorted(timed, key=lambda timing: timing["stages"]["total"]["p50_ms"])
    return ranked[(len(ranked) - 1) // 2] if ranked else None


def _bench(timed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a timing without its raw samples, which stay in timing/timing.json."""
    kept = ("fps", "queries", "seconds", "valid", "invalid_reasons", *ROUNDS, "runtime", "measured_at")
    return {**{name: timed[name] for name in kept}, **timed["stages"]["total"]}


def _judged(entries: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Judge all arms in one runtime; fills in which of them are on the frontier."""
    having = [entry for entry in entries if entry["runtimes"].get(key, {}).get("map50_95")]
    points = [_point(entry, key, entries) for entry in having]
    for entry, best in zip(having, on_frontier(points), strict=True):
        entry["runtimes"][key]["on_frontier"] = best
    judgements = judge_all(points, _unmeasured(entries, key))
    status = overall(judgements)
    return {
        "status": status,
        "text": verdict_text(status, judgements),
        "arms": [asdict(judgement) for judgement in judgements],
    }


def _unmeasured(entries: Sequence[Mapping[str, Any]], key: str) -> list[Judgement]:
    """Return that nothing can be said of rivals without figures in a runtime; what can't exist is no rival."""
    without = [
        (entry, entry["reason"] or "it has no accuracy in this runtime")
        for entry in entries
        if entry["status"] != "not possible" and not (entry["runtimes"].get(key) or {}).get("map50_95")
    ]
    return [
        Judgement(arm=entry["arm"], size=size_text(entry, entries), status=UNDECIDED, reason=f"not measured: {reason}")
        for entry, reason in without
        if entry["arm"] != OURS and not entry["reference"]
    ]


def _point(entry: Mapping[str, Any], key: str, entries: Sequence[Mapping[str, Any]]) -> Point:
    """Return an entry as a point of accuracy and latency."""
    bench = entry["runtimes"][key]["bench"]
    rounds, network = (tuple(bench[name]) if bench and bench["valid"] else () for name in ROUNDS)
    return Point(
        arm=entry["arm"],
        size=size_text(entry, entries),
        maps=tuple(seed["scores"][key]["map50_95"] for seed in entry["seeds"] if key in seed["scores"]),
        rounds_ms=rounds,
        network_ms=network,
        untrained=entry["timed_untrained"],
        reference=entry["reference"],
        exact=not entry["trained"],
    )


def size_text(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Return what tells an entry from its arm's other sizes, empty where there are none."""
    sizes = {other["removed"] for other in entries if other["removed"] is not None}
    return f"-{entry['removed'] * 100:g} %" if entry["removed"] is not None and len(sizes) > 1 else ""


def _notes(about: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the reader must know."""
    training, target = about["training"], about["target"]
    distill = f"distillation from the control at weight {training['distill']:g} included"
    notes = [
        f"Every trained arm got epochs: {training['epochs']}, batch: {training['batch']}, "
        f"images seen: {training['images_seen']}, by the same settings, "
        f"{distill if training['distill'] else 'without distillation'}."
    ]
    untaught = [entry["arm"] for entry in entries if entry["trained"] and not entry["distilled"]]
    if training["distill"] and untaught:
        names = ", ".join(dict.fromkeys(untaught))
        notes.append(f"Trained without it, because they begin as the control: {names}.")
    if not target["is_this_machine"]:
        notes.append(f"Speed was measured on this machine; on {target['name']} it is unproven.")
    notes += [
        f"{entry['arm']} lost {entry['macs_removed']:.1%} of the MACs where {entry['removed']:.1%} were asked for."
        for entry in entries
        if not entry["at_size"]
    ]
    seeds = {len(entry["seeds"]) for entry in entries if entry["trained"] and entry["seeds"]}
    if min(seeds, default=FEWEST_SEEDS) < FEWEST_SEEDS:
        notes.append(f"An arm with fewer than {FEWEST_SEEDS} seeds has no known spread: nothing is claimed of it.")
    for key in about["runtimes"]:
        lacking = [e["arm"] for e in entries if key in e["runtimes"] and e["runtimes"][key]["map50_95"] is None]
        if lacking:
            names = ", ".join(dict.fromkeys(lacking))
            notes.append(f"Without accuracy in {key}, which the comparison that trained them didn't build: {names}.")
    for key in about["runtimes"]:
        invalid: dict[str, list[str]] = {}
        for entry in entries:
            bench = entry["runtimes"].get(key, {}).get("bench")
            if bench and not bench["valid"]:
                name = f"{entry['arm']} {size_text(entry, entries)}".strip()
                invalid.setdefault(", ".join(bench["invalid_reasons"]), []).append(name)
        notes += [f"Timings in {key} that don't count ({why}): {', '.join(names)}." for why, names in invalid.items()]
    notes += _notes_on_training(entries)
    words = {"failed": "could not be measured", "not possible": "was not possible"}
    notes += [f"{e['arm']} {words[e['status']]}: {e['reason']}" for e in entries if e["status"] in words]
    notes += [
        f"{entry['arm']} could not be measured with seed {missing['seed']}: {missing['reason']}"
        for entry in entries
        for missing in entry["seeds_missing"]
    ]
    return notes


def _notes_on_training(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return where the trainings differ in what isn't a setting: machine, package versions, precision."""
    trained = [(entry, seed) for entry in entries for seed in entry["seeds"] if seed["made"]]
    notes = []
    if taken := [(entry, seed) for entry, seed in trained if seed["taken_over"]]:
        how = "accuracy taken over, timed by the cut before training"
        notes.append(f"Trained for an earlier comparison, {how}: {_networks(taken)}.")
    notes += [
        f"{_networks([(entry, seed)])} was trained with {seed['macs']} MACs, its cut here has {seed['cut_macs']}."
        for entry, seed in trained
        if seed["macs"] != seed["cut_macs"]
    ]
    for key, text in (("mixed_precision", "mixed precision"), ("machine", "machine"), ("versions", "versions")):
        groups: dict[str, list[_Trained]] = {}
        for entry, seed in trained:
            groups.setdefault(_told(seed["made"].get(key)), []).append((entry, seed))
        if len(groups) > 1:
            told = "; ".join(f"{found}: {_networks(networks)}" for found, networks in groups.items())
            notes.append(f"Not all were trained alike in {text}. {told}.")
    return notes


_Trained = tuple[Mapping[str, Any], Mapping[str, Any]]
"""An arm at one size, and one of its seeds."""


def _networks(trained: Sequence[_Trained]) -> str:
    """Return the names of networks for people, the seeds of one arm and size together."""
    seeds: dict[str, list[str]] = {}
    for entry, seed in trained:
        size = "" if entry["removed"] is None else f" -{entry['removed'] * 100:g} %"
        seeds.setdefault(f"{entry['arm']}{size}", []).append(str(seed["seed"]))
    return ", ".join(f"{name} seed{'s' * (len(of) > 1)} {' '.join(of)}" for name, of in seeds.items())


def _told(found: Any) -> str:
    """Return a fact of a training for people."""
    if isinstance(found, Mapping):
        return ", ".join(f"{name} {version}" for name, version in found.items())
    return {True: "on", False: "off", None: "unknown"}.get(found, str(found))
