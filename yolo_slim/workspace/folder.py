"""Who owns a result folder: the lock, the claim and the refusals."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from yolo_slim.config import targets
from yolo_slim.config.run import PruneConfig, RunConfig
from yolo_slim.errors import MachineError, SlimError, os_errors_explained
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.workspace.job import read_manifest

STAGES = ("prune", "recover", "export", "quantize", "build", "validate")


RUN_JSON = "run.json"


LOCK = ".lock"


def default_name(config: RunConfig) -> str:
    """Return the run's name from what decides it: weights, target, input side and the share removed."""
    stem = Path(config.model).stem
    return f"{stem}-{Path(config.target).stem}-{config.imgsz}-{_amount(config.prune)}"


def _amount(config: PruneConfig) -> str:
    """Return what is removed, for a name: the share of the MACs, of the parameters (p), or the size left (mb)."""
    budget, value = config.budget
    percent = f"{value * 100:g}"
    return {"macs_removed": percent, "params_removed": f"p{percent}", "max_size_mb": f"{value:g}mb"}[budget]


@contextmanager
def locked(folder: Path, require: Callable[[Path], None] | None = None) -> Iterator[None]:
    """Hold a run's folder; the operating system lets go of it when the process dies, however it dies.

    ``require`` raises for a folder that isn't the caller's. It is asked before the lock, which would mark the folder as
    ours, and again with it.

    Raises:
        SlimError: what ``require`` raises; or the lock's name is taken by a file of somebody else.
        MachineError: another process holds it.
    """
    ask, made = require or (lambda _: None), not folder.exists()
    with os_errors_explained(folder):
        ask(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _require_lock(folder / LOCK)
        stream = (folder / LOCK).open("a+")
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise MachineError(
                f"{folder} is being written by another process ({stream.read().strip() or 'unknown'}).",
                remedy="Wait for it to finish, or choose another NAME.",
            ) from None
        stream.seek(0)
        stream.truncate()
        stream.write(f"pid {os.getpid()}")
        stream.flush()
        ask(folder)
        yield
    except SlimError:
        if made and [item.name for item in folder.iterdir()] == [LOCK]:
            # Refused before anything was written: it leaves nothing.
            (folder / LOCK).unlink()
            folder.rmdir()
        raise
    finally:
        stream.close()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a stage that runs alone, and the run that it is part of.

    Raises:
        SlimError: it holds files that yolo_slim didn't write.
        MachineError: another process holds it or its run.
    """
    with locked(folder.parent) if _is_part_of_run(folder) else nullcontext(), locked(folder, _require_stage):
        yield


def _is_part_of_run(folder: Path) -> bool:
    """Tell whether a folder is where a run has one of its stages."""
    return folder.name in STAGES and (folder.parent / RUN_JSON).is_file()


def _require_stage(folder: Path) -> None:
    """Raise where a folder holds files that no stage wrote; what was killed before its manifest has left its lock."""
    if (folder / RUN_JSON).exists():
        raise SlimError(
            f"{folder} holds a whole run or comparison, not one stage.",
            remedy="Choose a folder for its results alone (--out).",
        )
    found = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    # A run's stages are held by the lock of the run.
    if found and not read_manifest(folder) and not _is_lock(folder / LOCK) and not _is_part_of_run(folder):
        raise SlimError(
            f"{folder} holds files that are not yolo_slim's, which a stage could overwrite.",
            culprits=found,
            remedy="Choose a folder for its results alone (--out).",
        )


def _require_lock(path: Path) -> None:
    """Raise where a file of the lock's name is somebody else's."""
    if path.exists() and not _is_lock(path) and not (path.is_file() and path.stat().st_size == 0):
        raise SlimError(f"{path} is not a lock of yolo_slim.", remedy="Choose another NAME (for one stage: --out).")


def _is_lock(path: Path) -> bool:
    """Tell whether a file is one that :func:`locked` wrote."""
    return path.is_file() and path.read_bytes().startswith(b"pid ")


def require_own(folder: Path) -> None:
    """Ask whether a folder is a run's, or empty.

    Raises:
        SlimError: it holds files that are not a run's.
    """
    found = [path for path in folder.iterdir() if path.suffix != ".tmp"] if folder.is_dir() else []
    if foreign := sorted(path.name for path in found if path.name not in (*STAGES, RUN_JSON, LOCK)):
        raise SlimError(f"{folder} holds files that are not a run's.", culprits=foreign, remedy="Choose another NAME.")


def claim(folder: Path, config: RunConfig, command: str = "") -> None:
    """Record whose folder it is.

    Raises:
        SlimError: it holds the run of another model, data set or target.
    """
    identity = {
        "schema": 1,
        "model_sha256": sha256(Path(config.model)),
        "data": str(Path(config.data).resolve()),
        "target": targets.load(config.target).name,
    }
    found = read_run(folder)
    if found and (differing := _differences(found, identity)):
        raise SlimError(
            f"{folder} holds another run.",
            culprits=differing,
            remedy="Choose another NAME (for one stage: --out), or remove that folder yourself.",
        )
    write_json(folder / RUN_JSON, {**identity, "config": config.model_dump(by_alias=True), "command": command})


def read_run(folder: Path) -> dict[str, Any]:
    """Return what a folder's ``run.json`` says of the run or comparison in it, empty where there is none.

    Raises:
        SlimError: it is damaged.
    """
    path = folder / RUN_JSON
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SlimError(
            f"{path} is damaged, so nobody can tell whose folder it is.",
            remedy="Choose another NAME, or remove that folder yourself.",
        )
    return found


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [f"{key}: {found.get(key)} there, {value} now" for key, value in wanted.items() if found.get(key) != value]
