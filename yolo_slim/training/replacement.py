"""A finished training stays safe while another one takes its place.

The old training is moved aside first. It comes back when the new one fails before its first complete epoch, and is
removed when the new one is finished. Imports no torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.training.record import is_of, last_checkpoint
from yolo_slim.workspace.job import MANIFEST, Job, outputs_complete, read_manifest
from yolo_slim.workspace.up_to_date import are_versions, why_stale

BEFORE = "before"
"""Folder of the training that was moved aside."""
MOVED = ("train", "job.json", MANIFEST)
"""What is moved there; ``recovered.pt`` and ``results.csv`` stay in place until they are replaced."""


def move_aside(job: Job) -> None:
    """Move a finished recovery that another one is to replace.

    The training moves first: as long as there is none in its place, what was moved can come back.
    """
    found = read_manifest(job.folder)
    if found is None or found.stage != job.stage or is_of(job):
        return
    with os_errors_explained(job.folder):
        shutil.rmtree(job.folder / BEFORE, ignore_errors=True)
        (job.folder / BEFORE).mkdir()
        for name in MOVED:
            if (job.folder / name).exists():
                (job.folder / name).replace(job.folder / BEFORE / name)


def move_back(folder: Path) -> None:
    """Give a finished recovery its place back where the one that was to replace it has no complete epoch."""
    if not (folder / BEFORE).is_dir() or last_checkpoint(folder) is not None:
        return
    with os_errors_explained(folder):
        shutil.rmtree(folder / "train", ignore_errors=True)
        # train/ comes last: once it is in its place, another call moves nothing more.
        for name in reversed(MOVED):
            if (folder / BEFORE / name).exists():
                (folder / BEFORE / name).replace(folder / name)
        (folder / BEFORE).rmdir()


def forget(folder: Path) -> None:
    """Remove what was moved aside: the new training is finished."""
    shutil.rmtree(folder / BEFORE, ignore_errors=True)


def contains_training(folder: Path) -> bool:
    """Tell whether a folder contains a finished training, or complete epochs of one."""
    return any((place / MANIFEST).is_file() for place in (folder, folder / BEFORE)) or bool(last_checkpoint(folder))


def require_no_unfinished(recovery: Path, job: Job) -> None:
    """Refuse to replace the pruning that an unfinished training started from: it couldn't be resumed any more.

    Args:
        recovery: folder of the training.
        job: the pruning that is asked for.

    Raises:
        SlimError: the training has complete epochs and isn't finished, and another pruning is asked for.
    """
    found = read_manifest(job.folder)
    if found is None or last_checkpoint(recovery) is None or (recovery / MANIFEST).is_file():
        return
    asked = [change for change in why_stale(job, found) if not change.is_version and change.key not in found.outputs]
    if asked:
        raise SlimError(
            f"{recovery} contains an unfinished training of the present pruned.pt, which would be replaced.",
            culprits=[str(change) for change in asked],
            remedy="Nothing was changed. Give the old values to resume it, choose another NAME, or move or remove that "
            "folder yourself.",
        )


def require_replaceable(job: Job) -> None:
    """Refuse to replace a finished recovery in a folder that the user didn't name.

    One that only updates made stale gets here when it is to be trained again, which ``--retrain`` asks for.
    """
    found = read_manifest(job.folder)
    if found is None or not (stale := why_stale(job, found)):
        return
    if are_versions(stale) and outputs_complete(job.folder, found):
        return
    raise SlimError(
        f"{job.folder} contains a finished recovery with other settings or weights.",
        culprits=[str(change) for change in stale],
        remedy="Nothing was changed. Use that recovery as it is, or choose another folder (--out) to train again.",
    )
