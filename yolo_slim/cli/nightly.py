"""``yolo-slim nightly``: run nights, and look at their history."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from yolo_slim.cli.answer import answer, command_line
from yolo_slim.cli.group import Command, Group, cli
from yolo_slim.cli.inputs import InputPath
from yolo_slim.cli.options import PATH, answering
from yolo_slim.cli.progress import listening
from yolo_slim.config.nightly import NightlyConfig
from yolo_slim.config.strict import keys_of
from yolo_slim.errors import nearest
from yolo_slim.files import DESCRIPTIONS

MATRIX = InputPath("Write an example: yolo-slim nightly init")
EXAMPLE = Path(__file__).parents[1] / "assets" / "nightly.yaml"
DEFAULT_HISTORY = Path("runs/nightly/history.sqlite")
history_option = click.option(
    "--history", type=PATH, default=DEFAULT_HISTORY, show_default=True, help="File of the history."
)
"""The option of every command that reads or changes a history."""


class NightlyGroup(Group):
    """A group whose command ``run`` may be left out: ``yolo-slim nightly nightly.yaml``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; see click. A file is the matrix of a run."""
        is_file = args[0].endswith(DESCRIPTIONS)
        return super().resolve_command(ctx, ["run", *args] if is_file else args)


class NightCommand(Command):
    """A command that knows the keys of its matrix."""

    def meant(self, option: str) -> str:
        """What to write in place of an option that doesn't exist."""
        keys = nearest(option, keys_of(NightlyConfig))
        return super().meant(option) or (f" It is a key of FILE: {' or '.join(keys)}" if keys else "")


@cli.group(cls=NightlyGroup)
def nightly() -> None:
    """Find out which night cost accuracy or frames.

    A matrix of cells is run, compared with earlier nights, and kept in a history.

    \b
      yolo-slim nightly init           write nightly.yaml, an example that runs as it is
      yolo-slim nightly nightly.yaml   run a night; the same line every night
    """  # noqa: D301  (click reads the character \b)


@nightly.command(cls=NightCommand)
@click.argument("matrix", metavar="FILE", type=MATRIX)
@click.option("--against", metavar="BRANCH", help="Compare with that branch's last night, not with the baselines.")
@click.option("--new", "is_new", is_flag=True, help="Begin a new night even if the last one was interrupted.")
@answering
def run(matrix: Path, against: str | None, is_new: bool, quiet: bool, as_json: bool) -> None:
    """Run a night of FILE (nightly.yaml).

    Every cell is made, measured, recorded and judged.

    Exit codes: 0 nothing became worse, 1 a cell became worse or failed, 2 bad input, or this machine's disk is full or
    the history locked, 3 a cell has no answer. A device that changed is named in the first line; it decides no exit
    code.
    """
    from yolo_slim.nightly import matrix as matrices
    from yolo_slim.nightly import night
    from yolo_slim.nightly.output import as_json_value, summary
    from yolo_slim.nightly.request import NightRequest

    with listening(quiet=quiet) as listener:
        loaded = matrices.load(matrix)
        request = NightRequest(matrix=loaded, against=against, is_new=is_new, command=command_line())
        outcome = night.run(request, listener)
    answer(as_json_value(outcome), as_json=as_json, text=summary(outcome))
    sys.exit(outcome.exit_code)


@nightly.command()
@click.option("--out", type=PATH, default=Path("nightly.yaml"), show_default=True, help="File to write.")
def init(out: Path) -> None:
    """Write an example of a matrix, with comments.

    It runs as it is, on the built-in example.
    """
    write_example(out)
    click.echo(f"written: {out}, for the built-in example on this machine; name your model under `models`")
    click.echo(f"now run: yolo-slim nightly {out}")


def write_example(out: Path) -> None:
    """Write the example of a matrix.

    Raises:
        SlimError: the file exists, or its folder doesn't.
    """
    from yolo_slim.errors import SlimError
    from yolo_slim.files import require_place, write_text

    if out.exists():
        raise SlimError(f"{out} exists already.", remedy="Give another name (--out), or remove that file yourself.")
    require_place(out, "--out")
    write_text(out, EXAMPLE.read_text(encoding="utf-8"))


@nightly.command()
@click.argument("matrix", metavar="FILE", type=MATRIX)
@click.argument("before", type=int)
@click.argument("after", type=int)
@click.argument("cells", nargs=-1, metavar="[CELL]...")
@answering
def bisect(matrix: Path, before: int, after: int, cells: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """Find out whether the bundle or the device changed.

    It measures the bundles of the nights BEFORE and AFTER again, in the same rounds.

    If they still differ, the bundle changed: with it commit, weights, settings, data or the workstation's SDKs. The
    device is named only if a bundle that is the same in both nights shows that it changed.

    Exit codes: 0 every cell has an answer, 2 bad input, 3 a cell has none.
    """
    from yolo_slim.errors import EXIT_OK, EXIT_UNPROVEN
    from yolo_slim.nightly import matrix as matrices
    from yolo_slim.nightly import night
    from yolo_slim.nightly.bisect import bisect as measure_again

    with listening(quiet=quiet) as listener:
        loaded = matrices.load(matrix)
        with night.opened(loaded, command_line()) as history:
            found = measure_again(loaded, history, before, after, cells, listener)
    values = {one.cell: one.to_json() for one in found}
    answer(values, as_json=as_json, text="\n".join(one.text() for one in found))
    sys.exit(EXIT_OK if all(one.is_answered for one in found) else EXIT_UNPROVEN)
