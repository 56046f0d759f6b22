"""What the page may ask of the camera: checked, typed commands from JSON that anyone could have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.hub import VARIANTS
from yolo_slim.runtime.camera.outputs.layout import MOST_NAME, MOST_POINTS, MOST_SHAPES, is_name, is_point, is_share

MOST_CLASSES = 10_000


@dataclass(frozen=True, kw_only=True)
class SetConf:
    """Detect above another score."""

    conf: float


@dataclass(frozen=True, kw_only=True)
class SetClasses:
    """Detect these classes alone."""

    class_ids: tuple[int, ...] | None
    """None: all."""


@dataclass(frozen=True, kw_only=True)
class SetPaused:
    """Stop or go on."""

    is_paused: bool


@dataclass(frozen=True, kw_only=True)
class DrawnZone:
    """A line or a zone that was drawn into the picture."""

    name: str
    kind: str
    """``line`` or ``zone``."""
    points: tuple[tuple[float, float], ...]
    """(x, y) as shares of width and height: two of a line, three or more of a zone."""


@dataclass(frozen=True, kw_only=True)
class SetZones:
    """All lines and zones; they take the place of the earlier ones."""

    zones: tuple[DrawnZone, ...]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Send this viewer pictures."""

    variant: str | None
    """None: only what was found."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The viewer has drawn a picture, and is ready for another."""


CameraCommand = SetConf | SetClasses | SetPaused | SetZones
"""Commands that change the camera for all viewers."""
PageCommand = CameraCommand | Watch | Seen


def parse_command(text: str) -> PageCommand:
    """Read ``{"command": NAME, "value": VALUE}``.

    Raises:
        SlimError: it is no such object, or its value is wrong.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SlimError("The command is no JSON.") from error
    name = value.get("command") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in _COMMANDS:
        raise SlimError("Unknown command.", remedy=f"Send one of: {', '.join(_COMMANDS)}.")
    return _COMMANDS[name](value.get("value"))


def _conf(value: Any) -> SetConf:
    if not is_share(value):
        raise _wrong("conf", "a number from 0 to 1")
    return SetConf(conf=float(value))


def _classes(value: Any) -> SetClasses:
    if value is None:
        return SetClasses(class_ids=None)
    if not isinstance(value, list) or len(value) > MOST_CLASSES or not all(_is_class(item) for item in value):
        raise _wrong("classes", "null or a list of class ids")
    return SetClasses(class_ids=tuple(sorted(set(value))))


def _paused(value: Any) -> SetPaused:
    if not isinstance(value, bool):
        raise _wrong("paused", "true or false")
    return SetPaused(is_paused=value)


def _zones(value: Any) -> SetZones:
    if not isinstance(value, list) or len(value) > 2 * MOST_SHAPES:
        raise _wrong("zones", _MOST)
    zones = tuple(_zone(item) for item in value)
    if any([zone.kind for zone in zones].count(kind) > MOST_SHAPES for kind in ("line", "zone")):
        raise _wrong("zones", _MOST)
    if len({zone.name for zone in zones}) < len(zones):
        raise _wrong("zones", "a list with each name once")
    return SetZones(zones=zones)


_MOST = f"a list of at most {MOST_SHAPES} lines and {MOST_SHAPES} zones"


def _zone(value: Any) -> DrawnZone:
    if not isinstance(value, dict) or value.get("kind") not in ("line", "zone") or not is_name(value.get("name")):
        raise _wrong("zones", f"a list of objects with name (1 to {MOST_NAME} characters), kind and points")
    points, kind = value.get("points"), value["kind"]
    least, most = (2, 2) if kind == "line" else (3, MOST_POINTS)
    if not isinstance(points, list) or not least <= len(points) <= most or not all(map(is_point, points)):
        raise _wrong("zones", f"2 points a line and 3 to {MOST_POINTS} a zone, each from 0 to 1")
    return DrawnZone(name=value["name"], kind=kind, points=tuple((float(x), float(y)) for x, y in points))


def _watch(value: Any) -> Watch:
    if value is not None and value not in VARIANTS:
        raise _wrong("watch", f"null or one of: {', '.join(VARIANTS)}")
    return Watch(variant=value)


def _seen(_: Any) -> Seen:
    return Seen()


_COMMANDS: dict[str, Callable[[Any], PageCommand]] = {
    "conf": _conf,
    "classes": _classes,
    "paused": _paused,
    "zones": _zones,
    "watch": _watch,
    "seen": _seen,
}


def _wrong(name: str, expected: str) -> SlimError:
    return SlimError(f"The value of the command '{name}' must be {expected}.")


def _is_class(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_CLASSES
