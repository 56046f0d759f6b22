"""The folder of a comparison: whose it is, what earlier calls measured, and the results that are kept in it.

Everything that this package needs of :mod:`yolo_slim.workspace` is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from yolo_slim.comparison.networks import Cell, Network
from yolo_slim.comparison.result import KIND, Training
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import read_json, write_json
from yolo_slim.version import __version__
from yolo_slim.workspace.folder import LOCK, RUN_JSON, locked, read_run
from yolo_slim.workspace.job import Job, read_manifest

FOLDER_SCHEMA = 2
"""Of the comparison's run.json; its cells have other keys in schema 1."""
RESULT, REPORT, TABLE = "compare.json", "compare.html", "compare.md"
IMPORTED = "imported.json"
"""Networks that earlier calls imported."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What earlier calls of a comparison measured."""

    cells: tuple[Cell, ...] = ()
    runtimes: tuple[str, ...] = ()


@contextmanager
def owned(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Lock the folder of a comparison with these settings, for this process alone.

    Raises:
        SlimError: it contains another comparison, or something else; found before anything is written.
        MachineError: another process is working in it.
    """
    with locked(folder, partial(require_own, settings=settings)), os_errors_explained(folder):
        yield


def require_own(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that a folder is free, or contains the comparison of these settings.

    Raises:
        SlimError: it contains another comparison, or something else.
    """
    if found := read_run(folder):
        _require_same(folder, found, settings)
    elif foreign := [item.name for item in folder.glob("*") if item.name != LOCK and item.suffix != ".tmp"]:
        raise SlimError(
            f"{folder} contains files that aren't a comparison's.",
            culprits=sorted(foreign),
            remedy="Choose another NAME.",
        )


def _require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check what a folder's run.json says: a comparison, of this version, with these settings."""
    if found.get("kind") != KIND:
        raise SlimError(
            f"{folder} contains a run, not a comparison.", remedy="Choose another NAME, or another folder (--project)."
        )
    version = found.get("yolo_slim", __version__)
    if version != __version__ or found.get("schema") != FOLDER_SCHEMA:
        layouts = f"layout of the folder: {found.get('schema')} there, {FOLDER_SCHEMA} now"
        raise SlimError(
            f"{folder} was trained by another version of yolo_slim, which may train differently.",
            culprits=[f"yolo_slim: {version} there, {__version__} now" if version != __version__ else layouts],
            remedy="Nothing was changed. Choose another NAME and import the finished networks: "
            f"--measured {folder / RESULT}; or continue with that version.",
        )
    if differing := differences(found.get("settings", {}), wanted):
        raise SlimError(
            f"{folder} contains another comparison.",
            culprits=differing,
            remedy="Choose another NAME, or give the same settings to add methods, sizes or seeds.",
        )


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the settings that differ, a line each."""
    return [
        f"{key}: {there.get(key)} there, {now.get(key)} now"
        for key in {**now, **there}
        if there.get(key) != now.get(key)
    ]


def claim(folder: Path, settings: Mapping[str, Any]) -> Known:
    """Record whose folder it is, before anything else is written there; give what earlier calls measured."""
    known = _known(read_run(folder))
    _write(folder, settings, known)
    return known


def remember(folder: Path, networks: Sequence[Network], runtimes: Sequence[str]) -> None:
    """Record what was measured, so that the next call's tables contain it; a failure has to be asked for again."""
    found = read_run(folder)
    # A dict, because it is a set that keeps the order.
    cells = dict.fromkeys([one.cell for one in networks if one.measured] + list(_known(found).cells))
    _write(folder, found["settings"], Known(cells=tuple(cells), runtimes=tuple(runtimes)))


def _known(found: Mapping[str, Any]) -> Known:
    """Read the cells and runtimes of a run.json."""
    cells = tuple(Cell(**cell) for cell in found.get("cells", ()))
    return Known(cells=cells, runtimes=tuple(found.get("runtimes", ())))


def _write(folder: Path, settings: Mapping[str, Any], known: Known) -> None:
    """Write run.json."""
    head = {"schema": FOLDER_SCHEMA, "kind": KIND, "yolo_slim": __version__, "settings": dict(settings)}
    write_json(folder / RUN_JSON, {**head, **asdict(known)})


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something that is made once in a comparison: its folder, and what decides its result."""

    stage: str
    folder: Path
    decides: Mapping[str, Any]
    """Settings, as JSON values."""
    inputs: Mapping[str, str]
    """Role to SHA-256 of what it reads."""


def once(work: Work, outputs: Sequence[str], make: Callable[[], bool]) -> None:
    """Make the files named ``outputs`` in the work's folder unless they are up to date.

    ``make`` answers whether what it made may be used again; else the next call makes it anew.
    """
    job = Job(stage=work.stage, folder=work.folder, config=dict(work.decides), inputs=work.inputs)
    if job.is_done():
        return
    job.begin()
    if make():
        job.finish([work.folder / name for name in outputs])


def is_trained(folder: Path, cell: Cell) -> bool:
    """Whether a cell's training is finished in this comparison."""
    return bool(read_manifest(folder / cell.name / "recover"))


def training_in(folder: Path) -> Training:
    """Where, when and how the network of a cell's folder was trained."""
    manifest = read_manifest(folder / "recover")
    return Training(
        machine=manifest["machine"]["model"],
        finished_at=manifest["finished_at"],
        mixed_precision=manifest["mixed_precision"],
        versions=manifest["versions"],
        # A resumed training knows the duration of its last part alone.
        seconds=None if manifest["resumed"] else manifest["seconds"],
    )


def imported_before(folder: Path) -> list[Any]:
    """Read the networks that earlier calls imported, as :func:`keep_imported` wrote them."""
    path = folder / IMPORTED
    return list(read_json(path)) if path.is_file() else []


def keep_imported(folder: Path, networks: Sequence[Any]) -> None:
    """Write the imported networks, so that the next call has them without its files."""
    write_json(folder / IMPORTED, list(networks))
