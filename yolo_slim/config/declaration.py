"""How a field of the configuration says that it is also an option of the command line and an argument of the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from yolo_slim.config.strict import Frozen


@dataclass(frozen=True)
class Option:
    """The short form of a setting; it stands in the field's ``Annotated``.

    The option's help is the field's docstring, its default the field's default, its type the field's type.
    """

    name: str
    """Argument of the Python API; with dashes in front the option of the command line."""
    flag: str = ""
    """The option's name where it isn't ``--name``."""
    path: bool = False
    """Whether the text names a file."""
    default: str = ""
    """What to show as default where the field's own default isn't what counts."""

    @property
    def dashed(self) -> str:
        """The option as it is written on the command line."""
        return self.flag or f"--{self.name}"


@dataclass(frozen=True)
class Setting:
    """One field with the place where it stands."""

    key: str
    """Dotted, as in ``--set prune.steps=2``."""
    field: FieldInfo

    @property
    def option(self) -> Option | None:
        """The short form, None where the setting has none."""
        return next((item for item in self.field.metadata if isinstance(item, Option)), None)

    @property
    def types(self) -> list[object]:
        """The types that a value may have, none aside: ``[int, list[int]]``."""
        return alternatives(self.field.annotation)

    @property
    def help(self) -> str:
        """The field's docstring as one paragraph, code in single backquotes."""
        return " ".join((self.field.description or "").replace("``", "`").split())

    @property
    def default(self) -> Any:
        """What counts where nothing is given; an :attr:`Option.default` wins over the field's own."""
        shown = self.option.default if self.option else ""
        return shown or (None if self.field.is_required() else self.field.get_default(call_default_factory=True))


def settings_in(kind: type[Frozen], prefix: str = "") -> Iterator[Setting]:
    """Every setting of a configuration, those of its sections included."""
    for name, field in kind.model_fields.items():
        key = prefix + (field.alias or name)
        yield Setting(key, field)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen):
            yield from settings_in(field.annotation, f"{key}.")


def options_in(kind: type[Frozen]) -> dict[str, Setting]:
    """The settings of a configuration that have a short form, by its name."""
    return {item.option.name: item for item in settings_in(kind) if item.option}


def alternatives(annotation: object) -> list[object]:
    """The types that an annotation such as ``Annotated[float, ...] | None`` allows, none aside."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    # ``str | None`` makes a UnionType, ``Annotated[...] | None`` a Union.
    if get_origin(annotation) in (Union, UnionType):
        return [found for part in get_args(annotation) for found in alternatives(part)]
    return [] if annotation is NoneType else [annotation]
