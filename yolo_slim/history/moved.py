"""What differs between two runs of one cell, and whether they can be compared at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from yolo_slim.history.rows import Digests, Run, Source

PROFILE = "profile"
"""Key of the profile's name in a run's settings."""
CHOICE = ("validate.split", "validate.max_images")
"""Keys of the settings that choose the scored images."""
DEVICE = ("model", "arch")
"""Keys of the environment that say which machine it was."""
LIMITS = ("cpu_max_mhz", "gpu_max_mhz")
"""Keys of the environment that earlier versions didn't record: without them nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The differences of two runs, a line each."""

    commit: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    """Images, labels, and the images of the calibration."""
    settings: tuple[str, ...] = ()
    workstation: tuple[str, ...] = ()
    """SDKs that made and scored the bundle."""
    environment: tuple[str, ...] = ()
    """The device: its SDKs, system, clocks and power mode."""
    bundle: tuple[str, ...] = ()
    incomparable: str = ""
    """Why nothing can be compared; empty: it can."""
    other_device: str = ""
    """Why speed can't be compared; empty: it can."""

    @property
    def made(self) -> tuple[str, ...]:
        """What decides a bundle."""
        return (*self.commit, *self.weights, *self.data, *self.settings, *self.workstation)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every difference as a line."""
        return (*self.made, *self.environment, *self.bundle)


def moved_between(before: Run, after: Run, sources: Sequence[Source]) -> Moved:
    """List what differs between a baseline and a later run of its cell.

    Args:
        before: the baseline.
        after: the later run; both are measured.
        sources: the code of both nights.
    """
    old, new = before.digests, after.digests
    if old is None or new is None:
        return Moved(incomparable="the baseline was not measured")
    commit = commit_text(*sources)
    return Moved(
        commit=(f"commit: {commit}",) if commit else (),
        weights=tuple(_changes({"weights": old.weights}, {"weights": new.weights})),
        data=tuple(_changes(_data(old), _data(new))),
        settings=tuple(_changes(before.settings, after.settings)),
        workstation=tuple(_workstation(before, after)),
        environment=tuple(_changes(*_known(before.environment, after.environment))),
        bundle=("the network of the bundle changed",) if old.network != new.network else (),
        incomparable=_incomparable(before, after),
        other_device=_other_device(before, after),
    )


def commit_text(before: Source, after: Source) -> str:
    """How the code of two nights differs; empty: it doesn't, as far as commits tell."""
    if (before.commit, before.dirty) == (after.commit, after.dirty):
        return ""
    names = [_commit(one) for one in (before, after)]
    return f"{' -> '.join(names)}{f': {after.subject}' if after.subject else ''}"


def _commit(source: Source) -> str:
    if source.commit is None:
        return "no repository"
    return f"{source.commit[:8]}{' with changes' if source.dirty else ''}"


def _data(digests: Digests) -> dict[str, str]:
    found = {"data": digests.data, "calibration images": digests.calibration}
    return {key: value for key, value in found.items() if value is not None}


def _workstation(before: Run, after: Run) -> Iterable[str]:
    """Packages that differ; none where one of both runs has no record of them."""
    if before.workstation and after.workstation:
        yield from (f"workstation's {line}" for line in _changes(before.workstation, after.workstation))


def _known(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, str]]:
    """Both environments without the limits that only one of them has."""
    absent = [key for key in LIMITS if key not in before or key not in after]
    return [{key: value for key, value in one.items() if key not in absent} for one in (before, after)]


def _incomparable(before: Run, after: Run) -> str:
    """Say why two runs measure different things."""
    old, new = before.digests, after.digests
    if old and new and old.data != new.data:
        return (
            f"the data set {after.cell.data} has other images or labels than in the baseline's night "
            f"({old.data[:8]} there, {new.data[:8]} now); bless a new baseline"
        )
    if chosen := [key for key in CHOICE if before.settings.get(key) != after.settings.get(key)]:
        return f"other images are scored than in the baseline's night ({', '.join(chosen)}); bless a new baseline"
    if before.settings.get(PROFILE) != after.settings.get(PROFILE):
        return (
            f"the target {after.cell.target} has another profile than in the baseline's night "
            f"({before.settings.get(PROFILE)} there, {after.settings.get(PROFILE)} now); bless a new baseline"
        )
    return ""


def is_other_device(before: Run, after: Run) -> bool:
    """Whether two runs were timed on different machines."""
    return bool(_other_device(before, after))


def _other_device(before: Run, after: Run) -> str:
    """Say that another machine was timed."""
    different = [key for key in DEVICE if before.environment.get(key) != after.environment.get(key)]
    shown = [f"{key} {before.environment.get(key)} there, {after.environment.get(key)} now" for key in different]
    return f"another device than in the baseline's night: {'; '.join(shown)}" if shown else ""


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[str]:
    for key in dict.fromkeys([*after, *before]):
        if before.get(key) != after.get(key):
            yield f"{key}: {_short(before.get(key))} -> {_short(after.get(key))}"


def _short(value: str | None) -> str:
    """Shorten a digest to its beginning; name an absent value."""
    text = "not set" if value is None else value
    return text[:12] if len(text) in (40, 64) else text
