"""``yolo-slim show`` and ``targets``: what is there."""

from __future__ import annotations

from pathlib import Path

import click

from yolo_slim.bundle import ARCHIVES, BUNDLE_JSON
from yolo_slim.cli.answer import answer, as_yaml, in_columns
from yolo_slim.cli.group import cli
from yolo_slim.cli.inputs import InputPath
from yolo_slim.cli.options import as_json, complete_target
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.workspace.folder import FOLDER_JSON, STAGES, writer_of
from yolo_slim.workspace.job import MANIFEST

GIVE = "Give a run's folder, a result.json, a bundle or a checkpoint."


@cli.command()
@click.argument("path", type=InputPath(GIVE, may_be_folder=True))
@as_json
def show(path: Path, as_json: bool) -> None:
    """Show a run, a result, a bundle or a checkpoint.

    A checkpoint (.pt) is shown with its size and widths, a folder of runs with all its runs.
    """
    places = (path / "validate/result.json", path / "result.json", path)
    result = next((place for place in places if place.suffix == ".json" and place.is_file()), None)
    if path.suffix == ".pt":
        _show_checkpoint(path, as_json=as_json)
    elif result is not None:
        _show_result(result, as_json=as_json)
        if note := _note(path):
            # To standard error: with --json, standard output must stay JSON alone.
            click.echo(f"Note: {note}", err=True)
    elif (path / "run.json").is_file():
        raise SlimError(
            f"{path} was made by an earlier version of yolo_slim.", remedy="Show its result.json, or a bundle."
        )
    elif (path / FOLDER_JSON).is_file():
        writer = writer_of(path)
        again = "give the command of this run again: it goes on after the finished stages"
        next_step = f"wait: it is being made now ({writer})" if writer else again
        answer({"run": path, "finished stages": _finished(path), "next": next_step}, as_json=as_json)
    elif runs := sorted(one.parent for one in path.glob(f"*/{FOLDER_JSON}")):
        known = {run.name: _state(run) for run in runs}
        answer(known, as_json=as_json, text=in_columns(known.items()))
    elif (path / BUNDLE_JSON).is_file() or path.name.endswith(ARCHIVES):
        _show_bundle(path, as_json=as_json)
    else:
        raise SlimError(f"This can't be shown: {path}", remedy=GIVE)


def _finished(folder: Path) -> str:
    """Name the finished stages of a run, or of a stage's own folder."""
    stages = [one.parent.relative_to(folder) for one in folder.rglob(MANIFEST)]
    return ", ".join(sorted(str(one) if one.parts else folder.name for one in stages)) or "none yet"


def _state(run: Path) -> str:
    """The verdict of a run; without one, its finished stages."""
    result = run / "validate/result.json"
    if not result.is_file():
        state = "being made now" if writer_of(run) else "not finished"
        return f"{state}; finished stages: {_finished(run)}"
    try:
        return str(read_json(result)["verdict"]["status"])
    except (ValueError, KeyError, TypeError):
        return "its result.json is damaged"


def _note(run: Path) -> str:
    """Why a result isn't the last word; empty: it is."""
    if writer := writer_of(run):
        return f"the run is being made again now ({writer}); this is its last result."
    unfinished = _unfinished(run)
    if unfinished == "validate":
        return "its timings don't count, or validate was interrupted. The same command measures again."
    return f"this result is of an earlier state of the run: {unfinished} began again since." if unfinished else ""


def _unfinished(run: Path) -> str:
    """Name the stages of a run without a manifest: they began again, or their timings don't count."""
    stages = [stage for stage in STAGES if (run / stage).is_dir() and stage in ("prune", "recover", "validate")]
    return ", ".join(stage for stage in stages if not (run / stage / MANIFEST).is_file())


def _show_result(path: Path, *, as_json: bool) -> None:
    """Print the summary of a result.json."""
    from yolo_slim.reporting.text import summary
    from yolo_slim.verdict.result import Result

    result = Result.load(path)
    answer(result.to_json(), as_json=as_json, text=summary(result))


def _show_bundle(path: Path, *, as_json: bool) -> None:
    """Print what bundle.json says."""
    from yolo_slim.bundle import open_bundle

    spec = open_bundle(path).spec.to_json()
    answer(spec, as_json=as_json, text=as_yaml(spec))


def _show_checkpoint(path: Path, *, as_json: bool) -> None:
    """Print a checkpoint's classes, widths, parameters and MACs."""
    from yolo_slim.models import checkpoint
    from yolo_slim.models.macs import conv_widths, measure
    from yolo_slim.reporting.text import table

    loaded = checkpoint.load(path, checkpoint.TASKS)
    size, widths = measure(loaded.model, 640), conv_widths(loaded.model)
    text = table(["layer", "width"], [[name, str(width)] for name, width in widths.items()])
    about = f"{len(loaded.names)} classes, {size.params / 1e6:.2f} M parameters, {size.macs / 1e9:.2f} GMACs at 640 px"
    values = {**size.to_json(), "widths": widths, "names": loaded.names}
    answer(values, as_json=as_json, text=f"{text}\n{about}")


@cli.command()
@click.argument("name", required=False, shell_complete=complete_target)
@click.option("--devices", is_flag=True, help="Show which devices of your inventory answer, and their targets.")
@as_json
def targets(name: str | None, devices: bool, as_json: bool) -> None:
    """List the targets, or show the profile of the one called NAME."""
    from yolo_slim.config import targets as profiles

    if name:
        value = profiles.load(name).model_dump(exclude_none=True)
        answer(value, as_json=as_json, text=as_yaml(value))
        return
    if devices:
        _devices(as_json=as_json)
        return
    found = {known: profiles.load(known).description for known in profiles.names()}
    answer(found, as_json=as_json, text=in_columns(found.items()))


def _devices(*, as_json: bool) -> None:
    """Ask every device of the inventory at once."""
    from yolo_slim.devices import inventory
    from yolo_slim.devices.ssh.care import look_at_all

    known = inventory.load()
    found = look_at_all({name: entry.address(name) for name, entry in known.items()})
    said = {name: one.fact if isinstance(one, SlimError) else one.line() for name, one in found.items()}
    rows = [(name, f"{known[name].target:<18} {text}") for name, text in said.items()]
    values = {
        name: {"target": known[name].target, "answers": not isinstance(found[name], SlimError), "text": text}
        for name, text in said.items()
    }
    empty = "You have no devices. Add one: yolo-slim device add NAME HOST --target rpi5"
    answer(values, as_json=as_json, text=in_columns(rows) if rows else empty)
