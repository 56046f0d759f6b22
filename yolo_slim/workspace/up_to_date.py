"""Whether a stage's result is up to date: what is, is skipped; what isn't is made again, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from yolo_slim.files import JsonObject, flat, sha256
from yolo_slim.progress import Progress
from yolo_slim.workspace.job import Job, Made, Manifest, outputs_complete, read_manifest

VERSION_KEYS = ("revision", "packages")
"""Parts of a job's identity that change with an update, not with what the user asks for."""

CHANGES_SHOWN = 4
"""Most changes that the line about a stale result names."""

Checked = TypeVar("Checked")


class RunOptions(Protocol):
    """How jobs are run; a stage's context is one."""

    @property
    def progress(self) -> Progress:
        """Listener."""

    @property
    def network(self) -> str:
        """Whose result it is, for messages, where a stage runs for several networks; empty: there is one."""

    @property
    def retrain(self) -> bool:
        """Make a finished training again that only a version made stale."""

    @property
    def only_check(self) -> bool:
        """Raise :class:`NotUpToDate` where something would have to be made."""


class NotUpToDate(Exception):
    """A job's result isn't up to date, and the caller asked to make nothing."""


def run_once(
    job: Job,
    make: Callable[[Checked], Made],
    options: RunOptions,
    *,
    check: Callable[[], Checked],
    is_training: bool = False,
    can_retrain: bool = True,
    otherwise: str = "--retrain trains again",
) -> Manifest:
    """Skip a job that is up to date, or make it; say in one line which of the two, and why.

    Args:
        job: what decides the result.
        make: makes it from what ``check`` returned.
        options: the context of the call.
        check: refuses what can't work, while an earlier result is still in place.
        is_training: if only package versions changed, keep the result and name it; ``--retrain`` makes it again.
        can_retrain: whether ``--retrain`` makes it again.
        otherwise: end of the line about a kept result: why it is kept, or how it is made again.

    Raises:
        NotUpToDate: something would have to be made, and ``options.only_check`` is set.
    """
    found = read_manifest(job.folder)
    stale = why_stale(job, found) if found else []
    title = f"{job.stage} ({options.network})" if options.network else job.stage
    if found and not stale:
        options.progress.say(f"{title}: up to date, skipped")
        return found
    keeps = is_training and not (options.retrain and can_retrain)
    # why_stale() looks at outputs only where the identities are equal, so they are checked here.
    if found and keeps and are_versions(stale) and outputs_complete(job.folder, found):
        options.progress.say(f"{title}: kept although {_listed(stale)}; {otherwise}")
        return found
    # Before check(), which may load torch.
    if options.only_check:
        raise NotUpToDate(job.stage)
    checked = check()
    if found:
        options.progress.say(f"{title}: stale, made again: {_listed(stale)}")
    started = time.monotonic()
    job.begin()
    made = make(checked)
    return job.finish(made, time.monotonic() - started)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between the result that is there and the one that is wanted."""

    key: str
    before: Any
    after: Any
    is_version: bool = False
    """An update of a package or of yolo_slim made it, not the user's request."""

    def __str__(self) -> str:
        """Name the key with both values."""
        if self.key == "revision":
            return f"this stage's own revision {_short(self.before)} -> {_short(self.after)}"
        return f"{self.key} {_short(self.before)} -> {_short(self.after)}"


def why_stale(job: Job, found: Manifest) -> list[Change]:
    """List what differs between a job and the result in its folder; empty where the result is up to date."""
    if found.stage != job.stage:
        return [Change(key="stage", before=found.stage, after=job.stage)]
    if found.fingerprint != job.fingerprint:
        return changes(found.identity, job.identity)
    return [
        Change(key=name, before="complete", after="changed" if (job.folder / name).is_file() else "missing")
        for name, digest in found.outputs.items()
        if not (job.folder / name).is_file() or sha256(job.folder / name) != digest
    ]


def changes(found: JsonObject, wanted: JsonObject) -> list[Change]:
    """List the differences between two identities, those of the user's request first."""
    old, new = flat(found), flat(wanted)
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    listed = [
        Change(
            key=key.partition(".")[2] or key, before=old.get(key), after=new.get(key),
            is_version=key.partition(".")[0] in VERSION_KEYS,
        )
        for key in keys
    ]  # fmt: skip
    return sorted(listed, key=lambda change: change.is_version)


def are_versions(stale: Sequence[Change]) -> bool:
    """Tell whether updates alone made a result stale."""
    return bool(stale) and all(change.is_version for change in stale)


def _listed(stale: Sequence[Change]) -> str:
    """Name the changes in one line."""
    more = len(stale) - CHANGES_SHOWN
    return ", ".join(map(str, stale[:CHANGES_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    """Shorten a digest to its beginning; name an absent value."""
    text = "not set" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
