"""One night: every cell made, measured beside its reference, recorded; then all judged together."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from yolo_slim.errors import SlimError
from yolo_slim.history.judge import FIRST_NIGHT, judge_night
from yolo_slim.history.rows import NIGHT, TRIAL, Night, Source
from yolo_slim.history.store import History, now
from yolo_slim.nightly import chain, devices
from yolo_slim.nightly.bundles import KeptBundles
from yolo_slim.nightly.cells import Cells, Work, attempt
from yolo_slim.nightly.matrix import Matrix, Plan
from yolo_slim.nightly.mlflow_runs import require_mlflow
from yolo_slim.nightly.outcome import NightOutcome
from yolo_slim.nightly.output import write_all
from yolo_slim.nightly.references import require_a_reference
from yolo_slim.nightly.request import NightRequest
from yolo_slim.nightly.source import source_of
from yolo_slim.progress import Progress, Silent
from yolo_slim.workspace.folder import NIGHTS, Owner, claimed

RESUMED_WITHIN = timedelta(hours=20)
"""An interrupted night that is older isn't resumed: its references would be timed on another day."""


@contextmanager
def opened(matrix: Matrix, command: str = "") -> Iterator[History]:
    """Lock the nights' folder and open its history.

    Raises:
        MachineError: another night runs there.
    """
    owner = Owner(kind=NIGHTS, record={"command": command})
    with claimed(matrix.project, owner), History.open(matrix.history, create=True) as history:
        yield history


def run(request: NightRequest, progress: Progress | None = None) -> NightOutcome:
    """Run a night, or what an interrupted one has left.

    Raises:
        SlimError: anything wrong with the matrix or the history, found before the first cell.
        StorageError: the disk is full, or the history is locked; the same command resumes the night.
        MachineError: another night runs.
    """
    matrix, progress = request.matrix, progress or Silent()
    if matrix.config.mlflow:
        require_mlflow()
    with opened(matrix, request.command) as history:
        if request.against:
            require_a_reference(history, [cell.name for cell in matrix.cells], request.against)
        # Before the data is read.
        matrix.draw_quickstart(progress)
        night = _begin(request, history, progress)
        bundles = KeptBundles(folder=matrix.bundles)
        cells = Cells(
            history=history, night=night, matrix=matrix, bundles=bundles, progress=progress, against=request.against
        )
        _run_cells(request, cells, progress)
        outcome = _end(matrix, history, night, progress)
        _tidy(history, bundles, matrix.config.keep_nights)
        return outcome


def _begin(request: NightRequest, history: History, progress: Progress) -> Night:
    """Resume the last night if it was interrupted, else begin the next one."""
    kind = TRIAL if request.against else NIGHT
    # An imported night may have begun later than an interrupted one of this machine.
    nights = [night for night in history.nights() if not night.imported]
    source, digest = source_of(request.matrix.folder), request.digest
    if nights and not request.is_new and _is_resumable(nights[-1], kind, digest, source):
        recorded = len(history.runs(night=nights[-1].number))
        progress.say(
            f"nightly: night {nights[-1].number} was interrupted and is resumed: {recorded} cells are recorded"
        )
        return nights[-1]
    night = history.begin_night(uuid.uuid4().hex, digest, source, kind=kind)
    progress.say(f"nightly: night {night.number}, {len(request.matrix.cells)} cells")
    return night


def _is_resumable(night: Night, kind: str, digest: str, source: Source) -> bool:
    """Whether what a night has left would be measured of the same matrix, weights and code."""
    # The clock may have been set back in between, so an age below zero is judged like one above.
    age = abs(datetime.now(timezone.utc) - datetime.fromisoformat(night.started_at))
    same = (night.kind, night.matrix, night.source) == (kind, digest, source)
    return night.ended_at is None and same and age < RESUMED_WITHIN


def _run_cells(request: NightRequest, cells: Cells, progress: Progress) -> None:
    """Make the bundles of all cells that aren't recorded, then measure them device by device."""
    made: list[Work] = []

    def make(plan: Plan) -> list[Work]:
        progress.say(f"nightly: make {plan.name}")
        data = request.data[plan.config.data]
        if isinstance(data, SlimError):
            raise data
        found = chain.make(
            plan, request.matrix.project / "chains", data=data, command=request.command, progress=progress
        )
        return [Work(chain=found, build=build) for build in plan.builds]

    left = [plan for plan in request.matrix.plans if cells.missing(plan)]
    for plan in [plan for plan in left if not chain.needs_device(plan) or _answers(plan, cells)]:
        try:
            made += attempt(make, plan, cells.matrix.log(plan.name))
        except SlimError as error:
            cells.fail([plan.cell(build) for build in plan.builds], error)
    devices.measure_all([one for one in made if not cells.is_recorded(one.cell)], cells, progress)


def _answers(plan: Plan, cells: Cells) -> bool:
    """Whether the device of a plan can be reached; its cells are recorded as missing where it can't."""
    try:
        attempt(devices.open_device, plan).close()
    except SlimError as error:
        cells.fail([plan.cell(build) for build in plan.builds], error, "missing")
        return False
    return True


def _end(matrix: Matrix, history: History, night: Night, progress: Progress) -> NightOutcome:
    """Judge all cells together, write what the night leaves, and record that it ended.

    In this order: a night that is cut off in between is resumed, and leaves everything.
    """
    judgements = judge_night(history, night, matrix.config)
    runs = [run.model_copy(update={"judgement": judgements[run.uid]}) for run in history.runs(night=night.number)]
    outcome = NightOutcome(night=night.model_copy(update={"ended_at": now()}), runs=tuple(runs))
    write_all(matrix, history, outcome, progress)
    first = {uid: FIRST_NIGHT for uid, found in judgements.items() if found.status == "first"}
    history.end_night(outcome.night, judgements, first if night.kind == NIGHT else {})
    return outcome


def _tidy(history: History, bundles: KeptBundles, nights: int) -> None:
    """Remove the bundles that nothing will be compared with any more."""
    blessed = {one.cell: one.run for one in history.baselines()}
    # Trials don't count: the next one is compared with the last night, however many came in between.
    first = min([night.number for night in history.own_nights()][-nights:], default=0)
    kept = [run for run in history.runs() if run.night >= first or run.uid in blessed.values()]
    bundles.tidy(run.digests.bundle for run in kept if run.digests)
