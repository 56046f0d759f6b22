"""The loader of every configuration: unknown keys and wrong types are errors, all reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from yolo_slim.errors import CHECK_PATH, SlimError, did_you_mean, meant, nearest
from yolo_slim.files import JsonObject

Model = TypeVar("Model", bound="Frozen")


Fraction = Annotated[float, Field(gt=0, lt=1)]


Percent = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[int, Field(gt=0)]


Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]

MOST_SHOWN = 60
"""Characters of an impossible value in a message."""
KINDS = {"int": "number", "float": "number", "bool": "truth value", "timestamp": "date"}
"""YAML's kinds of values, for people."""
CORRECT_YAML = "Correct its syntax."
WRITE_QUOTES = "Correct it. A text that looks like a date or a number is written in quotes."
NO_OPTIONS: Mapping[str, str] = {}


class Frozen(BaseModel):
    """Immutable configuration: unknown keys and wrong types are errors, nothing is converted silently."""

    # A field's docstring is its help on the command line and its row in docs/configuration.md.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Old key to its new name; ``key=value`` for a value. An old name is refused with the new one."""


def conflict(text: str) -> PydanticCustomError:
    """An error of a validator about two settings that exclude or need each other; the text stands alone."""
    return PydanticCustomError("conflict", "{text}", {"text": text})


def hint(word: str, known: Sequence[str], renamed: Mapping[str, str], elsewhere: Mapping[str, str] = NO_OPTIONS) -> str:
    """What to write in place of an unknown word: its new name, else what was probably meant.

    Args:
        word: what was written.
        known: what may stand there.
        renamed: old name to new name.
        elsewhere: dotted key of a section to its last part: a key of that very name goes before a similar one here.
    """
    if word in renamed:
        return f" It is now called '{renamed[word]}'."
    near = nearest(word, elsewhere.values())
    same = [key for key, last in elsewhere.items() if last == word]
    return meant(same) or did_you_mean(word, known) or meant([key for key, last in elsewhere.items() if last in near])


def parse(
    kind: type[Model], values: Mapping[str, object], source: str, options: Mapping[str, str] = NO_OPTIONS
) -> Model:
    """Check ``values`` and make a ``kind`` of them.

    Args:
        kind: class of the configuration.
        values: nested values by key.
        source: where they come from, for the message.
        options: dotted key to the short option that gave its value, which the message names too.

    Raises:
        SlimError: every unknown key, wrong type and impossible value of ``source``, all at once.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        culprits = [_explain(kind, problem, options) for problem in error.errors()]
        raise SlimError(
            f"{source}: {len(culprits)} {'value is' if len(culprits) == 1 else 'values are'} not valid.",
            culprits=culprits,
            remedy="Correct them and run the command again; docs/configuration.md lists every key.",
            topic="settings-arent-valid",
        ) from None


class ImpossibleValue(yaml.MarkedYAMLError):
    """A value that looks like a date or a number, and is none."""


class _Loader(yaml.SafeLoader):
    """PyYAML's own, but a value that can't be read, such as February 30th, is an error of YAML with its place."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make a value; see PyYAML."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError) as error:
            kind = str(node.tag).rpartition(":")[2]
            # Only of dates do Python's own words say more.
            why = f": {error}" if kind == "timestamp" and isinstance(error, ValueError) else ""
            raise ImpossibleValue(
                problem=f"{str(node.value)[:MOST_SHOWN]!r} isn't a valid {KINDS.get(kind, kind)}{why}",
                problem_mark=node.start_mark,
            ) from error


def yaml_value(text: str) -> Any:
    """Read YAML.

    Raises:
        yaml.YAMLError: it isn't YAML, or has an impossible value.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("too many brackets inside each other") from None


def read_yaml(path: Path) -> JsonObject:
    """Read a YAML mapping.

    Raises:
        SlimError: the file is missing, isn't YAML or isn't a mapping.
    """
    try:
        values = yaml_value(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SlimError(f"File not found: {path}", remedy=CHECK_PATH) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        remedy = WRITE_QUOTES if isinstance(error, ImpossibleValue) else CORRECT_YAML
        raise SlimError(f"Not a YAML file: {path}", culprits=[str(error)], remedy=remedy) from None
    if not isinstance(values, dict):
        raise SlimError(f"Not a mapping of keys to values: {path}", remedy="Write one 'key: value' per line.")
    return values


def _explain(kind: type[Frozen], problem: ErrorDetails, options: Mapping[str, str]) -> str:
    """One line for one of pydantic's problems: the key, what was given, what was expected."""
    location = [str(part) for part in problem["loc"]]
    key, last = ".".join(location), "".join(location[-1:])
    owner = _kind_at(kind, location[:-1])
    others = {known.rpartition(".")[2]: option for known, option in options.items() if known != key}
    key += f" ({_flag(options[key])})" if key in options else ""
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key.{hint(last, keys_of(owner), owner.renamed, keys_in_sections(kind))}"
    if problem["type"] == "missing":
        return f"{key}: missing; expected a value"
    if problem["type"] == "conflict":
        message = problem["msg"]
        for name, option in others.items():
            message = re.sub(rf"\b{name}\b", f"{name} ({_flag(option)})", message)
        return f"{key}: {message}"
    given = problem["input"]
    if problem["type"] == "model_type":
        keys = ", ".join(keys_of(_kind_at(kind, location))[:3])
        elsewhere = meant([other for other, name in keys_in_sections(kind).items() if name == last])
        return f"{key}: got {given!r}; expected: a section with keys such as {keys}{elsewhere and '.'}{elsewhere}"
    renamed = owner.renamed.get(f"{last}={given}")
    now = f". It is now called '{renamed.partition('=')[2]}'." if renamed else ""
    limit = {"less_than": "lt", "less_than_equal": "le"}.get(problem["type"], "")
    if limit and problem["ctx"][limit] == 1 and 1 < given <= 100:
        now += f" (a fraction: {given:g} % is {given / 100:g})"
    expected = problem["msg"].removeprefix("Input should be ")
    if problem["type"] == "literal_error" and isinstance(given, str) and not now:
        meant_one = did_you_mean(given, re.findall(r"'(.*?)'", expected))
        now = f".{meant_one}" if meant_one else ""
    return f"{key}: got {given!r}; expected: {expected}{now}"


def _flag(option: str) -> str:
    """How an option is typed."""
    return f"--{option.replace('_', '-')}"


def keys_of(kind: type[Frozen]) -> list[str]:
    """The keys that a file may contain for ``kind``."""
    return [field.alias or name for name, field in kind.model_fields.items()]


def keys_in_sections(kind: type[Frozen], prefix: str = "") -> dict[str, str]:
    """Dotted key of every setting that is in a section of ``kind``, to the key's last part."""
    found: dict[str, str] = {}
    for name, field in kind.model_fields.items():
        key = prefix + (field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Frozen):
            found |= keys_in_sections(field.annotation, f"{key}.")
        elif prefix:
            found[key] = field.alias or name
    return found


def _kind_at(kind: type[Frozen], location: Sequence[str]) -> type[Frozen]:
    """The class that checks a nested location of ``kind``."""
    for part in location:
        # `validate` is the alias of the field `validate_`, because pydantic's own method has that name.
        field = kind.model_fields.get(part) or kind.model_fields.get(f"{part}_")
        nested = [] if field is None else models_in(field.annotation)
        if nested:
            kind = nested[0]
    return kind


def models_in(annotation: object) -> list[type[Frozen]]:
    """The configuration classes named in an annotation such as ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_in(part)]
