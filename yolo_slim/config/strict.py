"""The loader of every configuration: unknown keys and wrong types are errors, all reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from yolo_slim.errors import SlimError, did_you_mean

Model = TypeVar("Model", bound="Frozen")


Fraction = Annotated[float, Field(gt=0, lt=1)]


Percent = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[int, Field(gt=0)]


class Frozen(BaseModel):
    """Immutable configuration: unknown keys and wrong types are errors, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def parse(kind: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Return ``values`` as a checked ``kind``.

    Raises:
        SlimError: every unknown key, wrong type and impossible value of ``source``, all at once.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        culprits = [_explain(kind, problem) for problem in error.errors()]
        raise SlimError(
            f"{source}: {len(culprits)} {'value is' if len(culprits) == 1 else 'values are'} not valid.",
            culprits=culprits,
            remedy="Correct them and run the command again; docs/configuration.md lists every key.",
        ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML mapping.

    Raises:
        SlimError: the file is missing, isn't YAML or isn't a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SlimError(f"File not found: {path}", remedy="Check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SlimError(f"Not a YAML file: {path}", culprits=[str(error)], remedy="Correct its syntax.") from None
    if not isinstance(values, dict):
        raise SlimError(f"Not a mapping of keys to values: {path}", remedy="Write one 'key: value' a line.")
    return values


def _explain(kind: type[Frozen], problem: Any) -> str:
    """Return one line for one of pydantic's problems: key, what came, what was expected."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key.{did_you_mean(location[-1], _keys_at(kind, location[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: missing; expected a value"
    return f"{key}: got {problem['input']!r}; expected: {problem['msg'].removeprefix('Input should be ')}"


def _keys_at(kind: type[Frozen], location: list[str]) -> list[str]:
    """Return the keys that are known at a nested location of ``kind``."""
    for part in location:
        field = kind.model_fields.get(part) or kind.model_fields.get(f"{part}_")
        nested = [] if field is None else _models_in(field.annotation)
        if nested:
            kind = nested[0]
    return [field.alias or name for name, field in kind.model_fields.items()]


def _models_in(annotation: Any) -> list[type[Frozen]]:
    """Return the configuration classes named in an annotation such as ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
