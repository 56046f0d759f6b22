"""What differs between two runs of one cell, and whether they can be compared at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from yolo_slim.history.rows import Run

PROFILE = "profile"
"""Key of the profile's name in a run's settings."""
CHOICE = ("validate.split", "validate.max_images")
"""Keys of the settings that choose the scored images."""
DEVICE = ("model", "arch")
"""Keys of the environment that say which machine it was."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The differences of two runs."""

    weights: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    bundle: tuple[str, ...] = ()
    incomparable: str = ""
    """Why nothing can be compared; empty: it can."""
    other_device: str = ""
    """Why speed can't be compared; empty: it can."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every difference as a line."""
        return (*self.weights, *self.settings, *self.environment, *self.bundle)


def moved_between(before: Run, after: Run) -> Moved:
    """List what differs between a baseline and a later run of its cell; both are measured."""
    old, new = before.digests, after.digests
    if old is None or new is None:
        return Moved(incomparable="the baseline was not measured")
    return Moved(
        weights=tuple(_changes({"weights": old.weights}, {"weights": new.weights})),
        settings=tuple(_changes(before.settings, after.settings)),
        environment=tuple(_changes(before.environment, after.environment)),
        bundle=("the network of the bundle changed",) if old.network != new.network else (),
        incomparable=_incomparable(before, after),
        other_device=_other_device(before, after),
    )


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
