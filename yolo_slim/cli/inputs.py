"""The files that a command reads: there, and each in its place, before anything is loaded."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from yolo_slim.errors import CHECK_PATH, SlimError, not_found
from yolo_slim.files import DESCRIPTIONS, NETWORKS

CHECKPOINT = ".pt", "Give a checkpoint (.pt), such as Ultralytics' weights/best.pt."
MODELS = {
    **dict.fromkeys(("model", "weights", "control", "teacher"), CHECKPOINT),
    "onnx": (".onnx", "Make the graph of a checkpoint with `yolo-slim export`."),
}
"""Parameters that take a network: its ending, and what to give in place of another file."""


class InputPath(click.Path):
    """Type of a parameter that names a file to read, or a folder; ``remedy``: what to do where there is none."""

    def __init__(self, remedy: str = CHECK_PATH, *, may_be_folder: bool = False) -> None:
        super().__init__(path_type=Path)
        self.remedy, self.may_be_folder = remedy, may_be_folder


INPUT = InputPath()


def require_inputs(ctx: click.Context, typed: Sequence[str]) -> None:
    """Check the files that a command was given.

    Args:
        ctx: its parsed parameters.
        typed: its words.

    Raises:
        SlimError: model and data are exchanged; or every file that isn't there, each with its parameter.
    """
    given = list(_given(ctx))
    _require_in_place(ctx, typed, given)
    missing = {label_of(one): (path, kind.remedy) for one, kind, path in given if not path.exists()}
    if missing:
        remedies = dict.fromkeys(remedy for _, remedy in missing.values())
        raise not_found({label: path for label, (path, _) in missing.items()}, " ".join(remedies))
    for parameter, kind, path in given:
        if path.is_dir() and not kind.may_be_folder:
            raise SlimError(f"A folder where a file is wanted: {path} ({label_of(parameter)})", remedy=kind.remedy)


def label_of(parameter: click.Parameter) -> str:
    """What people call a parameter: ``--data``, or ``MODEL``."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def _given(ctx: click.Context) -> Iterator[tuple[click.Parameter, InputPath, Path]]:
    """Every file that was given, with its parameter."""
    for parameter in ctx.command.params:
        value, kind = ctx.params.get(parameter.name or ""), parameter.type
        if isinstance(kind, InputPath) and value:
            yield from ((parameter, kind, Path(path)) for path in ([value] if isinstance(value, Path) else value))


def _require_in_place(
    ctx: click.Context, typed: Sequence[str], given: Sequence[tuple[click.Parameter, InputPath, Path]]
) -> None:
    """Refuse a model as the data, and a description of data as a model; together they were exchanged."""
    data = next(((one, path) for one, _, path in given if one.name == "data" and path.suffix in NETWORKS), None)
    model = next(((one, path) for one, _, path in given if one.name in MODELS and path.suffix in DESCRIPTIONS), None)
    if data and model:
        raise SlimError(
            f"{label_of(model[0])} and --data look exchanged: {model[1]} describes data, and {data[1]} is a model.",
            remedy=f"Write: {right_line(ctx, _exchanged(typed, model[1], data[1]))}",
        )
    if data:
        raise SlimError(f"{data[1]} (--data) is a model.", remedy="Give the data.yaml that it was trained with.")
    for parameter, _, path in given:
        wanted, remedy = MODELS.get(str(parameter.name), ("", ""))
        if wanted and path.suffix in {*NETWORKS, *DESCRIPTIONS} - {wanted}:
            what = "describes data" if path.suffix in DESCRIPTIONS else f"is no {wanted}"
            raise SlimError(f"{path} ({label_of(parameter)}) {what}.", remedy=remedy)


def right_line(ctx: click.Context, words: Sequence[str]) -> str:
    """A command with other words, as it is typed."""
    return f"{ctx.command_path} {shlex.join(words)}".strip()


def _exchanged(typed: Sequence[str], one: Path, other: Path) -> list[str]:
    """Words with two files in each other's place, also in ``--data=FILE``."""
    places = {one: other, other: one}
    words = []
    for word in typed:
        start, is_pair, end = word.rpartition("=") if word.startswith("--") else ("", "", word)
        words.append(f"{start}{is_pair}{places.get(Path(end), end)}")
    return words
