"""Whose a result folder is: its lock, its claim, and the refusals that keep a user's files safe.

``folder.json`` says what a folder is for: its kind (a run, one stage, a comparison) and its identity (the model, data
set and target that its results belong to). A folder with other files and no ``folder.json`` is the user's own.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from yolo_slim.errors import MachineError, SlimError, os_errors_explained
from yolo_slim.files import JsonObject, flat, read_json, write_json
from yolo_slim.workspace.job import MANIFEST

FOLDER_JSON = "folder.json"
FOLDER_SCHEMA = 1
LOCK = ".lock"
OLD_MARKS = ("run.json", MANIFEST)
"""Files by which a folder of the layout before ``folder.json`` is recognised."""
RUN, STAGE, COMPARISON, NIGHTS = "run", "stage", "comparison", "nights"
KIND_NAMES = {RUN: "a run", STAGE: "one stage", COMPARISON: "a comparison", NIGHTS: "nights"}
STAGES = ("prune", "recover", "export", "quantize", "build", "validate")
"""The stages of a run, and their folders in it."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """What ``folder.json`` says."""

    schema: int = FOLDER_SCHEMA
    kind: str
    identity: dict[str, Any] = field(default_factory=dict)
    """What must be the same for results to belong into this folder."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the last call was asked for; it may change from call to call."""


def read_owner(folder: Path) -> Owner | None:
    """Read whose a folder is; None where nothing says so.

    Raises:
        SlimError: ``folder.json`` is damaged, or of a newer yolo_slim.
    """
    path = folder / FOLDER_JSON
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        # Before the keys are read, because a newer version may have others.
        if isinstance(schema := found["schema"], int) and schema > FOLDER_SCHEMA:
            raise SlimError(
                f"{folder} was made by a newer yolo_slim.", remedy="Update yolo_slim, or choose another NAME."
            )
        owner = Owner(**found)
        # A dataclass checks no types, and JSON may have any.
        if not (isinstance(owner.schema, int) and isinstance(owner.identity, dict) and isinstance(owner.record, dict)):
            raise TypeError(path)
    except (ValueError, TypeError, KeyError):
        raise SlimError(
            f"{path} is damaged, so it is unknown whose folder this is.",
            remedy="Choose another NAME (for one stage: --out), or remove that folder yourself.",
        ) from None
    return owner


def own(folder: Path, wanted: Owner, *, explain: Callable[[Owner], SlimError | None] = lambda _: None) -> None:
    """Refuse a folder that isn't empty and isn't the one that is wanted.

    Args:
        folder: need not exist.
        wanted: whose it should be.
        explain: a better error for an owner of the same kind with another identity; None: the usual one.

    Raises:
        SlimError: somebody else's files, a folder of the old layout, or another owner.
    """
    found = read_owner(folder)
    if found is None:
        _require_empty(folder)
        return
    if found.kind != wanted.kind:
        raise SlimError(
            f"{folder} contains {KIND_NAMES.get(found.kind, found.kind)}, not {KIND_NAMES[wanted.kind]}.",
            remedy="Choose another folder: NAME (for one stage: --out).",
        )
    if differing := differences(found.identity, wanted.identity):
        raise explain(found) or SlimError(
            f"{folder} contains the results of {_other(found, wanted)}.",
            culprits=differing,
            remedy="Choose another NAME (for one stage: --out), or remove that folder yourself.",
            topic="the-folder-belongs-to-another-run",
        )


def _other(found: Owner, wanted: Owner) -> str:
    """Name what a folder belongs to; of one stage, the rest of the identity is its model."""
    if wanted.kind != STAGE:
        return {RUN: "another run", COMPARISON: "another comparison"}[wanted.kind]
    return "another model" if found.identity.get("stage") == wanted.identity.get("stage") else "another stage"


def differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Name each key whose value differs, with both values."""
    old, new = flat(found), flat(wanted)
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key, 'not set')} there, {new.get(key, 'not set')} now" for key in keys]


def _require_empty(folder: Path) -> None:
    """Refuse a folder without ``folder.json`` that contains anything."""
    names = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    if any(name in OLD_MARKS for name in names):
        raise SlimError(
            f"{folder} was made by an earlier version of yolo_slim, in a layout that this version can't continue.",
            remedy="Nothing was changed. Choose another NAME (for one stage: --out), or move that folder away. "
            "Its weights and bundles stay usable; `yolo-slim compare --measured` imports the networks of its "
            "compare.json.",
            topic="the-folder-belongs-to-another-run",
        )
    if foreign := [name for name in names if not _is_leftover(folder / name)]:
        raise SlimError(
            f"{folder} contains files that yolo_slim didn't write.",
            culprits=foreign,
            remedy="Choose another folder: NAME (for one stage: --out).",
        )


def _is_leftover(path: Path) -> bool:
    """Tell whether an interrupted first call left a file: its lock, or a temporary file."""
    if path.name != LOCK:
        return path.name.startswith(".") and path.name.endswith(".tmp")
    # A user's own file of that name would lose its content to the lock's.
    return path.is_file() and re.fullmatch(rb"(pid \d+)?", path.read_bytes()) is not None


@contextmanager
def claimed(
    folder: Path,
    wanted: Owner,
    *,
    explain: Callable[[Owner], SlimError | None] = lambda _: None,
    keep_record: bool = False,
) -> Iterator[Owner | None]:
    """Lock a folder and write whose it is; yields who owned it before (None: nobody).

    The operating system releases the lock when the process dies, however it dies. A refusal before anything else was
    written leaves no folder behind.

    Raises:
        SlimError: as :func:`own`.
        MachineError: another process has the lock.
    """
    existed = folder.exists()
    # Asked before the lock, which would mark somebody else's folder as ours, and again with it.
    own(folder, wanted, explain=explain)
    with os_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        # Only who has the lock may remove the folder: it could be another process that is just beginning.
        try:
            own(folder, wanted, explain=explain)
            before = read_owner(folder)
            owner = replace(wanted, record=before.record) if before and keep_record else wanted
            with os_errors_explained(folder):
                write_json(folder / FOLDER_JSON, asdict(owner))
            yield before
        except Exception:
            _remove_if_unused(folder, existed=existed)
            raise


def writer_of(folder: Path) -> str | None:
    """Which process has a folder's lock now, such as ``pid 12``; None: none has, or the system doesn't say.

    It is looked up, not tried: a lock that is held for a moment would refuse a run that is just beginning.
    """
    lock, known = folder / LOCK, Path("/proc/locks")
    if not (lock.is_file() and known.is_file()):
        return None
    held = {line.split()[5].rpartition(":")[2] for line in known.read_text().splitlines() if " FLOCK " in line}
    return lock.read_text().strip() or "unknown" if str(lock.stat().st_ino) in held else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock an existing folder of ours.

    Raises:
        MachineError: another process has the lock.
    """
    # Not "w", which would erase the pid of the process that has the lock.
    with os_errors_explained(folder), (folder / LOCK).open("a+") as stream:
        _lock(stream, folder)
        yield


def _lock(stream: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        raise MachineError(
            f"{folder} is being written by another process ({stream.read().strip() or 'unknown'}).",
            remedy="Wait for it to finish, or choose another NAME.",
            topic="another-process-writes-here",
        ) from None
    stream.seek(0)
    stream.truncate()
    stream.write(f"pid {os.getpid()}")
    stream.flush()


def _remove_if_unused(folder: Path, *, existed: bool) -> None:
    """Remove a folder that this call made and in which nothing but its own marks lies."""
    if existed or not folder.is_dir() or {item.name for item in folder.iterdir()} - {LOCK, FOLDER_JSON}:
        return
    for name in (LOCK, FOLDER_JSON):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def run_of(folder: Path) -> Path | None:
    """Find the run that a folder is a stage of; None for a folder that stands alone."""
    parents = folder.absolute().parents
    owners = ((parent, read_owner(parent)) for parent in parents[:2])
    return next((parent for parent, owner in owners if owner and owner.kind == RUN), None)


@contextmanager
def stage_claimed(
    folder: Path, stage: str, *, model_sha256: str | None = None, run_model: str | None = None
) -> Iterator[None]:
    """Claim the folder of a stage that is run alone, or lock the run whose stage it is.

    Args:
        folder: where the stage writes.
        stage: its name.
        model_sha256: SHA-256 of the model whose results alone belong there; None: a later call may replace the results
            by another model's.
        run_model: SHA-256 of the model that a run around the folder must be of; None: of any.

    Raises:
        SlimError: as :func:`own`; or a folder inside a run that isn't the place of this stage.
        MachineError: another process writes there.
    """
    run = run_of(folder)
    if run is None:
        identity = {"stage": stage} | ({"model_sha256": model_sha256} if model_sha256 else {})
        with claimed(folder, Owner(kind=STAGE, identity=identity)):
            yield
        return
    place = folder.absolute().relative_to(run.absolute()).parts[0]
    if place != stage:
        raise SlimError(
            f"{folder} lies inside the run {run}, where the stage {stage} doesn't write.",
            remedy="Choose a folder of its own (--out).",
        )
    of_run = read_owner(run)
    if run_model and of_run and of_run.identity.get("model_sha256") != run_model:
        raise SlimError(
            f"{folder} is a stage of the run {run}, which is of another model.",
            culprits=differences(of_run.identity, {**of_run.identity, "model_sha256": run_model}),
            remedy="Choose a folder of its own (--out).",
        )
    # The run's own lock, because `yolo-slim run` writes all stages under that one.
    with locked(run):
        yield


def replaced_record(folder: Path, record: JsonObject) -> None:
    """Write a new record of a folder that this process has claimed."""
    owner = read_owner(folder)
    if owner is None:
        raise ValueError(f"{folder} isn't claimed")
    write_json(folder / FOLDER_JSON, {**asdict(owner), "record": dict(record)})
