"""``yolo-slim nightly log``, ``show``, ``diff``, ``bless``, ``export`` and ``import``: the history of the nights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo_slim.cli.answer import answer
from yolo_slim.cli.inputs import InputPath
from yolo_slim.cli.nightly import history_option, nightly
from yolo_slim.cli.options import PATH, as_json

if TYPE_CHECKING:
    from yolo_slim.history.difference import Difference

CHOOSE = "Choose another night (--night)."


@nightly.command("log")
@history_option
@click.option("--cell", metavar="PATTERN", default="", help="Show this cell's figures, night by night.")
@click.option("--last", type=click.IntRange(1), default=30, show_default=True, help="Number of nights to show.")
@as_json
def log(history: Path, cell: str, last: int, as_json: bool) -> None:
    """List the nights, the newest last."""
    from yolo_slim.history.store import History
    from yolo_slim.history.text import cell_log, night_log

    with History.open(history) as opened:
        nights = opened.nights()[-last:]
        rows = cell_log(opened, nights, cell) if cell else night_log(opened, nights)
    answer({"nights": rows}, as_json=as_json, text="\n".join(row["text"] for row in rows) or "no nights yet")


@nightly.command("show")
@click.argument("night", type=int)
@click.argument("cells", nargs=-1, metavar="[CELL]...")
@history_option
@as_json
def show(night: int, cells: tuple[str, ...], history: Path, as_json: bool) -> None:
    """Show a night, or everything that was recorded of CELL.

    CELL is a name or a pattern.
    """
    from yolo_slim.history.difference import chosen, night_of
    from yolo_slim.history.store import History
    from yolo_slim.history.text import run_text

    with History.open(history) as opened:
        found = night_of(opened, night)
        runs = chosen(opened.runs(night=night), cells)
    values = {"night": found.to_json(), "runs": [run.to_json() for run in runs]}
    text = "\n".join(run_text(run, complete=bool(cells)) for run in runs)
    answer(values, as_json=as_json, text=text or f"night {night} recorded no cell")


@nightly.command("diff")
@click.argument("before", type=int)
@click.argument("after", type=int)
@click.argument("cells", nargs=-1, metavar="[CELL]...")
@history_option
@as_json
def diff(before: int, after: int, cells: tuple[str, ...], history: Path, as_json: bool) -> None:
    """Show what differs between the nights BEFORE and AFTER.

    It looks at figures, weights, settings, SDKs and images.
    """
    from yolo_slim.history.difference import differences
    from yolo_slim.history.store import History
    from yolo_slim.history.text import difference_text

    with History.open(history) as opened:
        found = differences(opened, before, after, cells)
    answer({"cells": [_as_json(one) for one in found]}, as_json=as_json, text="\n".join(map(difference_text, found)))


def _as_json(found: Difference) -> dict[str, object]:
    return {
        "cell": found.after.cell.name,
        "before": found.before.to_json(),
        "after": found.after.to_json(),
        "moved": list(found.moved.texts),
        "worse_images": [list(one) for one in found.worse_images],
    }


@nightly.command("bless")
@click.argument("cells", nargs=-1, metavar="[CELL]...")
@click.option("--night", type=int, help="The night whose runs become baselines; none: the last one.")
@click.option("--reason", required=True, help="Why: it is kept with the baseline.")
@history_option
def bless(cells: tuple[str, ...], night: int | None, reason: str, history: Path) -> None:
    """Make a night's runs the baselines of their cells.

    Without CELL all measured runs, otherwise those that match it.
    """
    from yolo_slim.errors import SlimError
    from yolo_slim.history.difference import chosen, night_of
    from yolo_slim.history.rows import TRIAL
    from yolo_slim.history.store import History

    if not reason.strip():
        raise SlimError("The reason is empty.", remedy="Say why this night is the new baseline (--reason).")
    with History.open(history) as opened:
        own = [one.number for one in opened.own_nights()]
        number = night_of(opened, night if night is not None else own[-1] if own else 0).number
        if number not in own:
            is_trial = number in {one.number for one in opened.nights() if one.kind == TRIAL}
            why = (
                "a trial (--against): no night is compared with it" if is_trial else "imported: its bundles aren't here"
            )
            raise SlimError(f"Night {number} is {why}.", remedy=CHOOSE)
        runs = [run for run in chosen(opened.runs(night=number), cells) if run.state == "measured"]
        if not runs:
            raise SlimError(f"Night {number} measured none of these cells.", remedy=CHOOSE)
        opened.bless([run.uid for run in runs], reason)
    click.echo("\n".join(f"baseline: night {number} of {run.cell.name}" for run in runs))


@nightly.command("export")
@click.argument("out", type=PATH)
@history_option
def export(out: Path, history: Path) -> None:
    """Write the whole history to OUT, as JSON lines."""
    from yolo_slim.history import exchange
    from yolo_slim.history.store import History

    with History.open(history) as opened:
        count = exchange.export(opened, out)
    click.echo(f"written: {out}, {count} runs")


@nightly.command("import")
@click.argument("source", metavar="FILE", type=InputPath("Make one: yolo-slim nightly export FILE"))
@click.option("--take-baselines", is_flag=True, help="Set FILE's baselines also for cells that have one here.")
@history_option
def import_(source: Path, take_baselines: bool, history: Path) -> None:
    """Add an exported history (JSON lines) to this one.

    Nothing is added twice. A cell that has a baseline here keeps it.
    """
    from yolo_slim.history import exchange
    from yolo_slim.history.store import History
    from yolo_slim.history.text import import_text

    if history.exists():
        with History.open(history) as opened:
            done = exchange.read_in(opened, source, take_baselines=take_baselines)
    else:
        done = exchange.read_into_new(history, source)
    with History.open(history) as opened:
        last = opened.nights()[-1:]
    click.echo(import_text(done, last))
