"""Frozen values that are written to JSON files and read back: results and timings.

The docstring under a field is its explanation on the page that is generated from the class (docs/result.md).
"""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.strict import Frozen
from yolo_slim.errors import SlimError

Kind = TypeVar("Kind", bound="Record")

BuildNameText = Annotated[
    BuildName,
    BeforeValidator(lambda value: BuildName.parse(value) if isinstance(value, str) else value),
    PlainSerializer(str, return_type=str),
]
"""A build's name, text in JSON: ``ncnn-fp16``."""
BuildKeyText = Annotated[
    BuildKey,
    BeforeValidator(lambda value: BuildKey.parse(value) if isinstance(value, str) else value),
    PlainSerializer(str, return_type=str),
]
"""A build of the control or the slim model, text in JSON: ``slim/ncnn-fp16``."""


class Record(Frozen):
    """A value of a JSON file: unknown keys and wrong types are errors."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    def to_json(self) -> dict[str, object]:
        """Convert everything to JSON values."""
        return self.model_dump(mode="json")


class OpenRecord(Record):
    """A value that may have more keys than the ones named here; they are kept as they are."""

    model_config = ConfigDict(extra="allow")


def read_record(kind: type[Kind], value: object, source: str, remedy: str) -> Kind:
    """Check a JSON value and make a ``kind`` of it.

    Raises:
        SlimError: every key that is missing, unknown or wrong, all at once.
    """
    try:
        # JSON text, because lists stand for tuples there; in Python's own values the strict check refuses that.
        return kind.model_validate_json(json.dumps(value))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise SlimError(f"{source} is damaged or incomplete.", culprits=problems, remedy=remedy) from None
