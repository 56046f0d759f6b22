"""``yolo-slim compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo_slim.cli.answer import answer, command_line
from yolo_slim.cli.group import Command, cli
from yolo_slim.cli.options import answering, place, setting, settings_of
from yolo_slim.cli.progress import listening

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolo_slim.config.options import CompareOptions


class CompareCommand(Command):
    """A command that explains how several values are given."""

    def unexpected(self, ctx: click.Context, left: Sequence[str]) -> str:
        """Explain words that belong to no option, such as the 1 and 2 of ``--seeds 0 1 2``."""
        return (
            f"{super().unexpected(ctx, left)} Separate several values with commas: --seeds 0,1,2 --prune 0.3,0.5; "
            "give --measured once per file."
        )


@cli.command(cls=CompareCommand)
@setting("model", required=True)
@setting("data", required=True)
@settings_of("compare")
@place("runs/compare")
@answering
def compare(
    model: Path,
    data: Path,
    name: str | None,
    project: Path,
    quiet: bool,
    as_json: bool,
    **options: Unpack[CompareOptions],
) -> None:
    """Compare pruning with every simpler method; say which won.

    All have about as few MACs, and all train equally long. With --target-fps or --latency-ms, ours is cut to
    milliseconds and compared with an equally fast cut to MACs.

    \b
    ours             yolo_slim's pruning, by the settings given.
    macs             Our cut to MACs that is as fast as ours; only with --target-fps or --latency-ms.
    uniform-l2       torch-pruning's L2 magnitude, the same fraction of every layer.
    random           Random channels, about the same fraction of every layer.
    narrow           A narrower stock network, from the trained weights.
    scratch          The same narrower network, from random weights.
    small-input      The unpruned network at a smaller input.
    control-trained  The unpruned network, trained further. A reference: it can't win.
    control          The unpruned network as given. A reference, always included.

    Writes compare.json, compare.html and compare.md to runs/compare/NAME. To resume, give the same command again. To
    add methods, sizes or seeds, name them in it. The exit code is 0 whichever method won; the verdict is printed.
    """  # noqa: D301  (click reads the character \b)
    from yolo_slim import api
    from yolo_slim.comparison.result import load
    from yolo_slim.comparison.text import text

    with listening(quiet=quiet) as listener:
        outcome = api.compare(
            model, data, project=project, name=name, command=command_line(), progress=listener, **options
        )
    shown = f"{text(load(outcome.result))}\nreport: {outcome.report}"
    answer(vars(outcome), as_json=as_json, text=shown)
