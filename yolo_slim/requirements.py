"""What a bundle requires of the device: the build stage writes it from the target's profile, the device compares it.

Standard library only: a bare device has no ``packaging`` package that could compare versions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from yolo_slim.errors import did_you_mean
from yolo_slim.files import JsonObject

_CLAUSE = r"\s*(?:>=|<=|>|<|==|!=)\s*\d+(?:\.\d+)*\s*"
SPECIFIER = rf"^{_CLAUSE}(?:,{_CLAUSE})*$"
"""Accepted version specifiers, such as ``>=1.18`` or ``>=10.3, <11``: the part of PEP 440 that profiles need."""
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)(.*)")
_PRE_RELEASE = re.compile(r"[._-]?(a|b|c|rc|alpha|beta|pre|preview|dev)")


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What the device must have. The default of every field requires nothing."""

    arch: str = "any"
    """Processor architecture (``uname -m``)."""
    device_model: str | None = None
    """Regular expression that the device's model string must contain."""
    power_mode: str | None = None
    """Power mode (``nvpmodel -q``) or CPU governor that the device is timed in."""
    packages: dict[str, str] = field(default_factory=dict)
    """Python package to version specifier."""
    memory_gb: tuple[int, ...] = ()
    """Sizes of the memory that the device is sold with."""
    sm: str | None = None
    """Compute capability of the GPU."""
    l4t: dict[str, str] = field(default_factory=dict)
    """Jetson Linux release (its beginning) to the JetPack that contains it."""

    def to_json(self) -> dict[str, object]:
        """The fields that require something."""
        return {key: value for key, value in asdict(self).items() if value != _NOTHING[key]}

    @classmethod
    def from_json(cls, value: JsonObject) -> Requirements:
        """The inverse of :meth:`to_json`; :func:`requirement_problems` must have found nothing."""
        return cls(**{**value, "memory_gb": tuple(value.get("memory_gb", ()))})


def requirement_problems(value: object) -> Iterator[str]:
    """One line for every unknown key and impossible value."""
    if not isinstance(value, dict):
        yield f"requires: got {value!r}; expected an object"
        return
    yield from (f"requires.{key}: unknown key.{did_you_mean(key, list(_CHECKS))}" for key in value.keys() - _CHECKS)
    for key, (is_valid, expected) in _CHECKS.items():
        if key in value and not is_valid(value[key]):
            yield f"requires.{key}: got {value[key]!r}; expected {expected}"


def is_pattern(text: object) -> bool:
    """Whether a value is a regular expression that compiles."""
    if not isinstance(text, str):
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version fulfils every clause of a :data:`SPECIFIER`, as PEP 440 says.

    A version that doesn't begin with a number fulfils nothing.
    """
    return all(_fulfils(version, clause.strip()) for clause in specifier.split(","))


def _fulfils(version: str, clause: str) -> bool:
    found = _RELEASE.match(version.strip().lower())
    wanted = re.fullmatch(r"([<>=!]+)\s*([\d.]+)", clause)
    if found is None or wanted is None:
        return False
    width = max(found[1].count("."), wanted[2].count(".")) + 1
    return _OPERATORS[wanted[1]](_numbers(found[1], width), _stage(found[2]), _numbers(wanted[2], width))


def _numbers(release: str, width: int) -> tuple[int, ...]:
    """``1.18`` as (1, 18, 0) where the other version has three parts: 1.18 and 1.18.0 are equal."""
    parts = [int(part) for part in release.split(".")]
    return tuple(parts + [0] * (width - len(parts)))


def _stage(suffix: str) -> int:
    """-1 for a version before its release (``rc1``), 0 for the release, 1 for one after it (``.post1``)."""
    public = suffix.split("+")[0]
    return -1 if _PRE_RELEASE.match(public) else int(public != "")


_Numbers = tuple[int, ...]
_OPERATORS: dict[str, Callable[[_Numbers, int, _Numbers], bool]] = {
    ">=": lambda found, stage, wanted: (found, stage) >= (wanted, 0),
    "<=": lambda found, stage, wanted: (found, stage) <= (wanted, 0),
    "==": lambda found, stage, wanted: (found, stage) == (wanted, 0),
    "!=": lambda found, stage, wanted: (found, stage) != (wanted, 0),
    # PEP 440: 1.7.post1 isn't above 1.7 here, and 1.7rc1 isn't below it. So the suffix must not decide.
    ">": lambda found, _, wanted: found > wanted,
    "<": lambda found, _, wanted: found < wanted,
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_table(value: Any, is_content: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(_is_text(key) and is_content(content) for key, content in value.items())


def _is_specifier(value: Any) -> bool:
    return isinstance(value, str) and re.match(SPECIFIER, value) is not None


def _is_sizes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(size) is int and size > 0 for size in value)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "arch": (_is_text, "a text"),
    "device_model": (is_pattern, "a regular expression"),
    "power_mode": (_is_text, "a text"),
    "packages": (lambda value: _is_table(value, _is_specifier), "an object of package to version specifier"),
    "memory_gb": (_is_sizes, "an array of positive integers"),
    "sm": (_is_text, "a text"),
    "l4t": (lambda value: _is_table(value, _is_text), "an object of Jetson Linux release to JetPack"),
}
_NOTHING = {item.name: getattr(Requirements(), item.name) for item in fields(Requirements)}
