"""The folder of a comparison: whose it is, what earlier calls measured, and the results that are kept in it.

Everything that this package needs of :mod:`yolo_slim.workspace` is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from yolo_slim.comparison.networks import Cell, Network
from yolo_slim.comparison.result import Training
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.progress import Progress, Silent
from yolo_slim.version import __version__
from yolo_slim.workspace.folder import COMPARISON, Owner, claimed, differences, read_owner, replaced_record
from yolo_slim.workspace.job import MANIFEST, RECORDED, Job, Made, read_manifest, require_manifest
from yolo_slim.workspace.up_to_date import run_once

REVISION = 2
"""Raised when starts, scores or timings of equal inputs come out otherwise; 2: labels are read as a training does."""
RESULT, REPORT, TABLE = "compare.json", "compare.html", "compare.md"
IMPORTED = "imported.json"
"""Networks that earlier calls imported."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What earlier calls of a comparison measured."""

    cells: tuple[Cell, ...] = ()
    runtimes: tuple[str, ...] = ()


@contextmanager
def owned(folder: Path, settings: JsonObject) -> Iterator[Known]:
    """Claim the folder of a comparison with these settings; gives what earlier calls measured.

    Raises:
        SlimError: it contains another comparison, or something else; found before anything is written.
        MachineError: another process is working in it.
    """
    # Networks that two versions trained don't stand in one comparison.
    wanted = Owner(kind=COMPARISON, identity={**settings, "yolo_slim": __version__})
    explain = partial(_explain, folder, wanted)
    with claimed(folder, wanted, explain=explain, keep_record=True) as before, os_errors_explained(folder):
        yield _known(before.record if before else {})


def _explain(folder: Path, wanted: Owner, found: Owner) -> SlimError:
    """Say what differs in a folder with another comparison."""
    there, now = (owner.identity.get("yolo_slim") for owner in (found, wanted))
    if there != now:
        return SlimError(
            f"{folder} was trained by another version of yolo_slim, which may train differently.",
            culprits=[f"yolo_slim: {there} there, {now} now"],
            remedy="Nothing was changed. Choose another NAME and import the finished networks: "
            f"--measured {folder / RESULT}; or continue with that version.",
        )
    return SlimError(
        f"{folder} contains another comparison.",
        culprits=differences(found.identity, wanted.identity),
        remedy="Choose another NAME, or give the same settings to add methods, sizes or seeds.",
    )


def remember(folder: Path, networks: Sequence[Network], runtimes: Sequence[str]) -> None:
    """Record what was measured, so that the next call's tables contain it; a failure has to be asked for again."""
    owner = read_owner(folder)
    known = _known(owner.record if owner else {})
    # A dict, because it is a set that keeps the order.
    cells = dict.fromkeys([one.cell for one in networks if one.measured] + list(known.cells))
    replaced_record(folder, asdict(Known(cells=tuple(cells), runtimes=tuple(runtimes))))


def _known(record: JsonObject) -> Known:
    """Read the cells and runtimes that were recorded."""
    cells = tuple(Cell(**cell) for cell in record.get("cells", ()))
    return Known(cells=cells, runtimes=tuple(record.get("runtimes", ())))


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something that is made once in a comparison: its folder, and what decides its result."""

    stage: str
    folder: Path
    decides: Mapping[str, Any]
    """Settings, as JSON values."""
    inputs: Mapping[str, str]
    """Role to SHA-256 of what it reads."""
    is_trained_on: bool = False
    """Trainings start from it, so an update of a package alone doesn't make it again."""


@dataclass(frozen=True)
class _Quiet:
    """The small parts of a comparison say nothing when they are up to date."""

    progress: Progress = field(default_factory=Silent)
    network: str = ""
    retrain: bool = False
    only_check: bool = False


def once(work: Work, outputs: Sequence[str], make: Callable[[], bool]) -> None:
    """Make the files named ``outputs`` in the work's folder unless they are up to date.

    ``make`` answers whether what it made may be used again; else the next call makes it again.
    """
    job = Job(
        stage=work.stage, folder=work.folder, settings=dict(work.decides), inputs=work.inputs, revision=REVISION,
        packages=RECORDED,
    )  # fmt: skip

    def made(_: None) -> Made:
        is_lasting = make()
        return Made(outputs=[work.folder / name for name in outputs], is_lasting=is_lasting)

    run_once(job, made, _Quiet(), check=lambda: None, is_training=work.is_trained_on, can_retrain=False)


def forget(folder: Path) -> None:
    """Let :func:`once` make what a folder contains again."""
    (folder / MANIFEST).unlink(missing_ok=True)


def is_trained(folder: Path, cell: Cell) -> bool:
    """Whether a cell's training is finished in this comparison."""
    return bool(read_manifest(folder / cell.name / "recover"))


def training_in(folder: Path) -> Training:
    """Where, when and how the network of a cell's folder was trained."""
    manifest = require_manifest(folder / "recover", "recover")
    return Training(
        machine=manifest.machine["model"],
        finished_at=manifest.finished_at,
        mixed_precision=manifest.facts["mixed_precision"],
        versions=manifest.versions,
        # A resumed training knows the duration of its last part alone.
        seconds=None if manifest.facts["resumed"] else manifest.seconds,
    )


def imported_before(folder: Path) -> list[Any]:
    """Read the networks that earlier calls imported, as :func:`keep_imported` wrote them."""
    path = folder / IMPORTED
    return list(read_json(path)) if path.is_file() else []


def keep_imported(folder: Path, networks: Sequence[Any]) -> None:
    """Write the imported networks, so that the next call has them without its files."""
    write_json(folder / IMPORTED, list(networks))
