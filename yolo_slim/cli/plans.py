"""``yolo-slim plan``: make, show, compare and apply prune plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolo_slim.cli.answer import answer
from yolo_slim.cli.group import Group, cli
from yolo_slim.cli.inputs import INPUT, InputPath
from yolo_slim.cli.options import answering, as_json, out, setting, settings_of
from yolo_slim.cli.progress import listening

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolo_slim.config.options import PruneOptions

PLAN = InputPath("Make one with `yolo-slim plan make`.")


@cli.group(cls=Group)
def plan() -> None:
    """Make, show, compare and apply prune plans.

    \b
    A plan says which channels of which layers a pruning keeps. To edit plan.json by hand, add "keep": 48 to a layer or
    change its "outputs". `plan apply` narrows the coupled layers too, and checks the result against the model.
    """  # noqa: D301  (click reads the character \b)


@plan.command("make")
@click.argument("model", type=INPUT)
@setting("data", required=True)
@settings_of("prune")
@out()
@answering
def make(model: Path, data: Path, out: Path, quiet: bool, as_json: bool, **options: Unpack[PruneOptions]) -> None:
    """Say which channels of MODEL a pruning would remove.

    A dry run of `prune`: writes plan.json and widths.json, but no weights.
    """
    from yolo_slim import api
    from yolo_slim.files import read_json

    with listening(quiet=quiet) as listener:
        outputs = api.make_plan(model, data, out, progress=listener, **options)
    sizes = read_json(outputs.widths)
    expected = {
        key: f"{sizes['control'][key] / unit:.3f} -> {sizes['slim'][key] / unit:.3f}"
        for key, unit in (("macs", 1e9), ("params", 1e6))
    }
    about = {"GMACs": expected["macs"], "M parameters": expected["params"]}
    answer({**vars(outputs), **sizes} if as_json else {**about, **vars(outputs)}, as_json=as_json)


@plan.command("show")
@click.argument("path", metavar="PLAN", type=PLAN)
@as_json
def show(path: Path, as_json: bool) -> None:
    """Show a plan's settings and the widths before and after."""
    from yolo_slim.pruning import plan_edits as planning
    from yolo_slim.reporting.text import table

    shown, edits = planning.read(path)
    widths = {name: (cut.outputs_before, len(cut.outputs)) for name, cut in shown.layers.items()}
    text = table(["layer", "before", "after"], [[name, str(a), str(b)] for name, (a, b) in widths.items()])
    settings = " ".join(f"{key}={value}" for key, value in shown.settings.items() if value not in (None, [], 0))
    about = {
        "model_sha256": shown.model_sha256, "settings": shown.settings, "widths": widths, "edited": shown.edited,
        "edits": edits.described(),
    }  # fmt: skip
    lines = [text, f"model: {shown.model_sha256}", f"settings: {settings}", *_not_yet_applied(path, edits.described())]
    answer(about, as_json=as_json, text="\n".join(lines))


def _not_yet_applied(path: Path, edits: list[str]) -> list[str]:
    """Lines about a plan's edits, which its widths don't show yet."""
    if not edits:
        return []
    return [
        f"Edited by hand in {path}; `yolo-slim plan apply` applies these edits:",
        *(f"  - {edit}" for edit in edits),
    ]


@plan.command("diff")
@click.argument("first", type=PLAN)
@click.argument("second", type=PLAN)
@as_json
def diff(first: Path, second: Path, as_json: bool) -> None:
    """Show the layers that two plans treat differently.

    Both are plans of one model.
    """
    from yolo_slim import api
    from yolo_slim.pruning import plan_edits as planning
    from yolo_slim.reporting.text import table

    rows = [vars(row) for row in api.diff_plans(first, second)]
    edits = {path: planning.read(path)[1].described() for path in (first, second)}
    columns = ["layer", "before", "first", "second", "common"]
    lines = [table(columns, [[str(row[column]) for column in columns] for row in rows])] if rows else []
    lines += [line for path, listed in edits.items() for line in _not_yet_applied(path, listed)]
    values = {"layers": rows, "edits": {str(path): listed for path, listed in edits.items()}}
    answer(values, as_json=as_json, text="\n".join(lines or ["The plans keep the same channels."]))


@plan.command("apply")
@click.argument("path", metavar="PLAN", type=PLAN)
@click.argument("model", type=INPUT)
@setting("data", required=True)
@out()
@answering
def apply(path: Path, model: Path, data: Path, out: Path, quiet: bool, as_json: bool) -> None:
    """Check PLAN against MODEL, and prune by it. A plan of `prune` gives the same pruned.pt, byte for byte."""
    from yolo_slim import api

    with listening(quiet=quiet) as listener:
        outputs = api.apply_plan(path, model, data, out, progress=listener)
    answer(vars(outputs), as_json=as_json)
