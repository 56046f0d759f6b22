"""The commands' options: those of the settings are made from the fields of yolo_slim/config."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args, get_origin

import click
import yaml

from yolo_slim.cli.inputs import INPUT, InputPath
from yolo_slim.config import targets
from yolo_slim.config.commands import TAKES
from yolo_slim.config.declaration import Setting, options_in
from yolo_slim.config.run import RunConfig
from yolo_slim.config.strict import yaml_value

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
MAY_BE_FOLDERS = ("data", "quantized")
"""Settings that name a folder, or may."""
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class Decorator(Protocol):
    """Adds options to a command's function."""

    def __call__(self, function: Decorated, /) -> Decorated:
        """Decorate."""


def settings_of(command: str) -> Decorator:
    """All options that a command takes from the configuration, see :data:`yolo_slim.config.commands.TAKES`."""
    return _all([_option(setting) for setting in TAKES[command].settings.values()])


def setting(name: str, *, required: bool = False) -> Decorator:
    """One setting of a run as an option."""
    return _option(options_in(RunConfig)[name], required=required)


def answering(function: Decorated) -> Decorated:
    """The options of every command that works for a while: --quiet and --json."""
    quiet = click.option("--quiet", "-q", is_flag=True, help="Show no progress, only errors.")
    return quiet(as_json(function))


def as_json(function: Decorated) -> Decorated:
    """The option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")(function)


def retrain(function: Decorated) -> Decorated:
    """The option --retrain."""
    text = "Train again even if a finished training is stale only because package versions changed."
    return click.option("--retrain", is_flag=True, help=text)(function)


def place(project: str) -> Decorator:
    """The options --project and --name."""
    return _all(
        [
            click.option("--project", type=PATH, default=Path(project), show_default=True, help="Folder of all runs."),
            click.option("--name", help="Name of this run's folder; none: made from the settings."),
        ]
    )


def out(default: str = "") -> Decorator:
    """The option --out; required where it has no default."""
    shown = f" [default: {default}]" if default else ""
    return click.option("--out", type=PATH, required=not default, help=f"Folder to write.{shown}")


def complete_target(_: click.Context, __: click.Parameter, start: str) -> list[str]:
    """Complete the names of targets in a shell."""
    return [name for name in targets.names() if name.startswith(start)]


def _option(declared: Setting, *, required: bool = False) -> Decorator:
    """The option of a setting: its type, help and default are the field's."""
    option = declared.option
    if option is None:
        raise TypeError(f"{declared.key} has no short form.")
    attributes = {"help": _help(declared), "required": required, **_reading(declared.types, path=option.path)}
    if option.name in MAY_BE_FOLDERS:
        attributes["type"] = InputPath(may_be_folder=True)
    if option.name == "target":
        attributes["shell_complete"] = complete_target
    return click.option(option.dashed, option.name, **attributes)


def _reading(types: list[object], *, path: bool) -> dict[str, Any]:
    """How click reads a setting's value: attributes of the option."""
    if any(get_origin(kind) is dict for kind in types):
        return {"multiple": True, "callback": _pairs, "metavar": "KEY=VALUE"}
    words = [word for kind in types if get_origin(kind) is Literal for word in get_args(kind)]
    if int in types and words:
        return {"type": _IntegerOr(words)}
    lists = [kind for kind in types if get_origin(kind) is list]
    if types == [bool]:
        # Not given isn't the same as off: a file may turn it on.
        return {"is_flag": True, "default": None}
    if not lists:
        return {"type": _type(types[0], path=path)}
    item = _type(get_args(lists[0])[0], path=path)
    if path:
        # A file's name may contain a comma, so files are given one by one.
        return {"type": item, "multiple": True, "callback": _several}
    shown = "|".join(item.choices) if isinstance(item, click.Choice) else item.name.upper()
    return {"multiple": True, "callback": _listed(item, one=len(types) > 1), "metavar": f"{shown},..."}


class _Number(click.ParamType[Any, Any]):
    """A number, whose refusal tells a percentage from a fraction."""

    def __init__(self, name: str, kind: type[int] | type[float]) -> None:
        self.name, self._kind = name, kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        try:
            return self._kind(value)
        except ValueError:
            percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", str(value))
            hint = f" (a fraction: {percent[1]} % is {float(percent[1]) / 100:g})" if percent else ""
            self.fail(f"{value!r} is not a {'whole ' * (self._kind is int)}number{hint}.", param, ctx)


_NUMBERS: dict[object, click.ParamType[Any, Any]] = {int: _Number("integer", int), float: _Number("float", float)}


class _IntegerOr(click.ParamType[Any, Any]):
    """A whole number, or one of some words."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.name = "|".join(["integer", *words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if value in self.words:
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor {' or '.join(self.words)}.", param, ctx)


def _type(kind: object, *, path: bool) -> click.ParamType[Any, Any]:
    """The click type of one value."""
    if path:
        return INPUT
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return _NUMBERS.get(kind) or click.types.convert_type(kind)


def _help(declared: Setting) -> str:
    """The field's docstring, and its default where that says something."""
    default = declared.default
    if default in (None, "", [], {}) or default is False:
        return declared.help
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    return f"{declared.help} [default: {shown}]"


def _several(_: click.Context, __: click.Parameter, values: tuple[object, ...]) -> list[object] | None:
    """Values of an option that is given repeatedly, None where it isn't given."""
    return list(values) or None


def _listed(
    item: click.ParamType[Any, Any], *, one: bool
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], Any]:
    """A reader of values with commas, such as ``0,1,2``; ``one``: a single one without a comma is no list."""

    def read(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Any:
        # click takes the next option for the value in `--seeds --quiet`; -1 may be a value.
        if any(not text.strip() or re.match(r"-[^\d.]", text) for text in values):
            # An empty shell variable must not start everything that the default stands for.
            raise click.BadOptionUsage(option.opts[0], f"Option '{option.opts[0]}' requires an argument.", ctx)
        words = [word.strip() for text in values for word in text.split(",") if word.strip()]
        found = [item.convert(word, option, ctx) for word in words]
        return found[0] if one and len(values) == 1 and "," not in values[0] else found or None

    return read


def _pairs(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, object] | None:
    """``key=value`` texts as a mapping, values read as YAML; 3e-4 is a number, unlike in YAML 1.1."""
    parsed: dict[str, object] = {}
    for text in values:
        key, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"'{text}' is not KEY=VALUE", param=option)
        try:
            parsed[key] = float(value) if EXPONENT.fullmatch(value.strip()) else yaml_value(value)
        except yaml.YAMLError:
            quoted = f"""'{text}': the value isn't YAML; in quotes it is text: '{key}="{value}"'"""
            raise click.BadParameter(quoted, param=option) from None
    _require_apart(option, parsed)
    return parsed or None


def _require_apart(option: click.Parameter, parsed: Mapping[str, object]) -> None:
    """Refuse a section beside one of its own keys: one of them would replace the other.

    Raises:
        click.BadParameter: both are given.
    """
    for key, value in parsed.items():
        inside = [other for other in parsed if other.startswith(f"{key}.")]
        if isinstance(value, dict) and inside:
            raise click.BadParameter(
                f"'{key}' is given as a whole, and '{inside[0]}' beside it; write {inside[0]} into one of them",
                param=option,
            )


def _all(decorators: list[Callable[[Any], Any]]) -> Decorator:
    """Several decorators as one; the first one's option stands first in the help."""

    def decorate(function: Decorated) -> Decorated:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate
