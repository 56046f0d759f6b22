"""Whether the unpruned network reaches a budget in milliseconds, so that there is nothing to cut.

It is asked once. Near the budget noise decides, and another answer would throw a finished training away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from yolo_slim.config.record import Record, read_record
from yolo_slim.files import read_json, write_json
from yolo_slim.latency_tables import reached_unpruned
from yolo_slim.measuring.latency import LatencyOutputs
from yolo_slim.preparation import Run
from yolo_slim.progress import Silent
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import NotUpToDate, run_once

FILE = "uncut.json"
REVISION = 1
"""Raised when the same timings are answered otherwise."""


class Uncut(Record):
    """The answer: ``uncut.json``."""

    reason: str
    """How the unpruned network reaches the budget, for people; empty: it doesn't."""


def is_enough(
    this: Run, tables: LatencyOutputs, cut: Callable[[Context], object], in_int8: Callable[[], str] = lambda: ""
) -> bool:
    """Whether the unpruned network reaches the budget; a cut that an earlier call made, or its answer, stays.

    Args:
        this: the run, whose budget is in milliseconds.
        tables: the device's latency tables.
        cut: runs the prune stage.
        in_int8: says how the network reaches the budget in int8, without a table; empty: it doesn't.
    """
    context = this.context
    if _is_cut(context, cut):
        return False
    path = this.folder / "uncut" / FILE

    def make(reason: str) -> Made:
        write_json(path, Uncut(reason=reason).to_json())
        # Until a cut is made there is nothing to lose: a timing that didn't count may be better in the next call.
        return Made(outputs=[path], is_lasting=bool(reason))

    run_once(
        _job(this, tables, path.parent), make, replace(context, progress=Silent()),
        check=lambda: _in_float(this, tables) or in_int8(),
    )  # fmt: skip
    reason = read_record(Uncut, read_json(path), str(path), "Run it again.").reason
    if reason:
        context.progress.say(f"prune: the unpruned network {reason}; nothing is cut")
    return bool(reason)


def _job(this: Run, tables: LatencyOutputs, folder: Path) -> Job:
    """What was asked for. No versions, and not the timings: an update or a noisy timing doesn't ask again."""
    config, context = this.config, this.context
    return Job(
        stage="uncut",
        folder=folder,
        settings={
            "budget_ms": config.prune.frame_ms, "runtime": config.latency.runtime,
            "quantize": config.quantize.model_dump(),
        },
        inputs={"model": content(this.model), "data": context.dataset.digest, "latency": tables.request},
        revision=REVISION,
        packages=(),
    )  # fmt: skip


def _is_cut(context: Context, cut: Callable[[Context], object]) -> bool:
    """Whether an earlier call made the cut, and the prune stage would keep it."""
    try:
        cut(replace(context, only_check=True, progress=Silent()))
    except NotUpToDate:
        return False
    return True


def _in_float(this: Run, tables: LatencyOutputs) -> str:
    reached = reached_unpruned(this, tables)
    return f"reaches the budget ({', '.join(reached)})" if reached else ""
