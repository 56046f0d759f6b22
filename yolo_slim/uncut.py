"""Whether the unpruned network reaches a budget in milliseconds, so that there is nothing to cut.

It is asked once. Near the budget noise decides, and another answer would throw a finished training away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from yolo_slim.config.record import Record, read_record
from yolo_slim.errors import SlimError
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


def _nothing() -> str:
    return ""


class LosesTooMuch(SlimError):
    """The unpruned network is fast enough in the int8 build that the settings name, and loses too much there."""


@dataclass(frozen=True, kw_only=True)
class InInt8:
    """What the unpruned network's int8 bundle says; asked only where that decides."""

    reached: Callable[[], str] = _nothing
    """How it reaches the budget, without a table; empty: it doesn't."""
    too_much: Callable[[], str] = _nothing
    """What int8 loses, where the settings name it and that is too much; empty: it isn't."""


def is_enough(
    this: Run, tables: LatencyOutputs, cut: Callable[[Context], object], in_int8: InInt8 | None = None
) -> bool:
    """Whether the unpruned network reaches the budget; a cut that an earlier call made, or its answer, stays.

    Args:
        this: the run, whose budget is in milliseconds.
        tables: the device's latency tables.
        cut: runs the prune stage.
        in_int8: the network in int8.

    Raises:
        LosesTooMuch: it reaches the budget in the int8 build that the settings name, and int8 costs it too much.
    """
    context, in_int8 = this.context, in_int8 or InInt8()
    if _is_cut(context, cut):
        return False
    path = this.folder / "uncut" / FILE

    def make(reason: str) -> Made:
        write_json(path, Uncut(reason=reason).to_json())
        # Until a cut is made there is nothing to lose: a timing that didn't count may be better in the next call.
        return Made(outputs=[path], is_lasting=bool(reason))

    run_once(
        _job(this, tables, path.parent), make, replace(context, progress=Silent()),
        check=lambda: _by_table(this, tables, in_int8) or in_int8.reached(),
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


def _by_table(this: Run, tables: LatencyOutputs, in_int8: InInt8) -> str:
    reached = reached_unpruned(this, tables)
    if reached and (lost := in_int8.too_much()):
        raise LosesTooMuch(
            f"The unpruned network reaches the budget in {this.config.latency.runtime}, but {lost}.",
            remedy="A cut would lose more. Leave latency.runtime out, or allow a larger loss (quantize.max_drop) or "
            "more float layers (quantize.max_float_layers).",
            topic="int8-loses-much-accuracy",
        )
    return f"reaches the budget ({', '.join(reached)})" if reached else ""
