"""The record of a training that has begun (``job.json``): an interrupted one resumes only as what it was begun as."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import read_json, write_json
from yolo_slim.progress import Progress
from yolo_slim.workspace.job import Job, read_manifest
from yolo_slim.workspace.up_to_date import Change, are_versions, changes

JOB_JSON = "job.json"


def begun(folder: Path) -> dict[str, Any]:
    """Read what the training in a folder was begun as; empty where nothing says so."""
    try:
        found = read_json(folder / JOB_JSON)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def last_checkpoint(folder: Path) -> Path | None:
    """Find the checkpoint of a training's last complete epoch."""
    last = folder / "train" / "weights" / "last.pt"
    return last if last.is_file() else None


def resumable(job: Job, progress: Progress) -> Path | None:
    """Find the last checkpoint of the same, interrupted training; without one, clear the folder for a new training.

    An update of a package in between doesn't throw the epochs away: the training resumes, and says so.
    Call it before the job's manifest is withdrawn: that says whether a training is finished.

    Raises:
        SlimError: an unfinished training of other settings, with complete epochs; nothing is changed.
    """
    last = last_checkpoint(job.folder)
    if last is not None and is_of(job):
        return last
    finished = read_manifest(job.folder)
    if last is not None and not (finished and finished.stage == job.stage):
        found = begun(job.folder)
        differing = _differing(found, job)
        # Without a record nothing differs by name; are_versions() is false then, so the training is refused.
        if not are_versions(differing):
            raise another_training(found, job)
        progress.say(f"{job.stage}: resumes although {', '.join(map(str, differing))}")
        return last
    with os_errors_explained(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(job.folder / "train", ignore_errors=True)
        write_json(job.folder / JOB_JSON, {"fingerprint": job.fingerprint, **job.identity})
    return None


def is_of(job: Job) -> bool:
    """Tell whether the training in a job's folder was begun as this job, or finished as it."""
    # The two differ where a package was updated while the training was interrupted.
    finished = read_manifest(job.folder)
    return job.fingerprint in (begun(job.folder).get("fingerprint"), finished and finished.fingerprint)


def updates_since_begun(job: Job) -> list[str]:
    """Name the updates between the beginning of a training and now."""
    return [str(change) for change in _differing(begun(job.folder), job) if change.is_version]


def _differing(found: dict[str, Any], job: Job) -> list[Change]:
    """List what an unfinished training and a job differ in; empty where the record doesn't say."""
    if "settings" not in found:
        return []
    return changes({key: value for key, value in found.items() if key != "fingerprint"}, job.identity)


def another_training(found: dict[str, Any], job: Job) -> SlimError:
    """Make the error for a folder whose unfinished training had other settings, each with its old and new value."""
    unknown = f"unknown: its {JOB_JSON} is missing, or was written by an earlier version"
    return SlimError(
        f"{job.folder / 'train'} contains an unfinished training with other settings.",
        culprits=[str(change) for change in _differing(found, job)] or [unknown],
        remedy="Nothing was changed. Give the old values to resume it, choose another folder (NAME or --out), "
        "or move or remove that folder yourself to start again.",
    )
