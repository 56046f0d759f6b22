"""The notes of a comparison: what a reader must know beside the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolo_slim.comparison.frontier import FEWEST_SEEDS
from yolo_slim.comparison.result import FAILED, NOT_POSSIBLE, About, Entry, Seed


def notes(about: About, entries: Sequence[Entry]) -> list[str]:
    """List them, the most general first."""
    return [
        *_on_equality(about, entries),
        *_on_size_and_seeds(entries),
        *[note for key in about.runtimes for note in _on_missing_accuracy(entries, key)],
        *[note for key in about.runtimes for note in _on_invalid_timings(entries, key)],
        *_on_training(entries),
        *_on_failures(entries),
    ]


def _on_equality(about: About, entries: Sequence[Entry]) -> Iterator[str]:
    """Say what was equal for all: the training, and where speed was measured."""
    training, target = about.training, about.target
    how = f"distilled from the control at weight {training.distill:g}" if training.distill else "without distillation"
    yield (
        f"Every trained method got the same settings; epochs: {training.epochs}, batch: {training.batch}, "
        f"images seen: {training.images_seen}, {how}."
    )
    alone = dict.fromkeys(entry.method for entry in entries if entry.trained and not entry.distilled)
    if training.distill and alone:
        yield f"Trained without distillation, because they begin as the control: {', '.join(alone)}."
    if about.budget_ms is not None:
        yield (
            f"Ours was cut to {about.budget_ms:.2f} ms a frame in {about.runtimes[0]}. The others have as few MACs as "
            "the cut to MACs that takes as long as ours."
        )
    if not target.is_this_machine:
        yield f"Speed was measured on this machine; on {target.name} it is unproven."


def _on_size_and_seeds(entries: Sequence[Entry]) -> Iterator[str]:
    """Name the methods that missed the wanted MACs, and say where there are too few seeds."""
    for entry in entries:
        if not entry.at_size:
            yield f"{entry.method}: {entry.macs_removed:.1%} of the MACs were removed; asked for: {entry.removed:.1%}."
    seeds = {len(entry.seeds) for entry in entries if entry.trained and entry.seeds}
    if min(seeds, default=FEWEST_SEEDS) < FEWEST_SEEDS:
        yield f"A method with fewer than {FEWEST_SEEDS} seeds has no known spread: nothing is claimed about it."


def _on_missing_accuracy(entries: Sequence[Entry], key: str) -> Iterator[str]:
    """Name the methods without accuracy in a runtime."""
    lacking = [entry.method for entry in entries if key in entry.runtimes and entry.runtimes[key].map50_95 is None]
    if lacking:
        names = ", ".join(dict.fromkeys(lacking))
        yield f"No accuracy in {key}, because the comparison that trained them didn't build it: {names}."


def _on_invalid_timings(entries: Sequence[Entry], key: str) -> Iterator[str]:
    """Name the timings that don't count, by their reasons."""
    invalid: dict[str, list[str]] = {}
    sizes = {entry.removed for entry in entries if entry.removed is not None}
    for entry in entries:
        bench = entry.runtimes[key].bench if key in entry.runtimes else None
        if bench and not bench.valid:
            name = entry.name if len(sizes) > 1 else entry.method
            invalid.setdefault(", ".join(bench.invalid_reasons), []).append(name)
    for why, names in invalid.items():
        yield f"Timings in {key} that don't count ({why}): {', '.join(names)}."


def _on_failures(entries: Sequence[Entry]) -> Iterator[str]:
    """Say what wasn't measured, and why."""
    words = {FAILED: "could not be measured", NOT_POSSIBLE: "was not possible"}
    for entry in entries:
        if entry.status in words:
            yield f"{entry.method} {words[entry.status]}: {entry.reason}"
    for entry in entries:
        for missing in entry.seeds_missing:
            yield f"{entry.method} could not be measured with seed {missing.seed}: {missing.reason}"


_Trained = tuple[Entry, Seed]
"""A method at one size, and one of its seeds."""


def _on_training(entries: Sequence[Entry]) -> Iterator[str]:
    """Say where the trainings differ in what isn't a setting: machine, package versions, precision."""
    trained = [(entry, seed) for entry in entries for seed in entry.seeds if seed.made]
    if found := [(entry, seed) for entry, seed in trained if seed.imported]:
        how = "with the accuracy of that comparison; this machine timed the cut before training"
        yield f"Imported from an earlier comparison, {how}: {_names(found)}."
    for entry, seed in trained:
        if seed.macs != seed.cut_macs:
            yield f"{_names([(entry, seed)])} was trained with {seed.macs} MACs; its cut here has {seed.cut_macs}."
    for key, text in (("mixed_precision", "mixed precision"), ("machine", "machine"), ("versions", "versions")):
        groups: dict[str, list[_Trained]] = {}
        for entry, seed in trained:
            groups.setdefault(_fact(getattr(seed.made, key)), []).append((entry, seed))
        if len(groups) > 1:
            found_here = "; ".join(f"{fact}: {_names(networks)}" for fact, networks in groups.items())
            yield f"The trainings differ in {text}. {found_here}."


def _names(trained: Sequence[_Trained]) -> str:
    """Name networks for people, the seeds of one method and size together."""
    seeds: dict[str, list[str]] = {}
    for entry, seed in trained:
        seeds.setdefault(entry.name, []).append(str(seed.seed))
    return ", ".join(f"{name} seed{'s' * (len(of) > 1)} {' '.join(of)}" for name, of in seeds.items())


def _fact(found: Any) -> str:
    """Write a fact of a training for people."""
    if isinstance(found, Mapping):
        return ", ".join(f"{name} {version}" for name, version in found.items())
    return {True: "on", False: "off", None: "unknown"}.get(found, str(found))
