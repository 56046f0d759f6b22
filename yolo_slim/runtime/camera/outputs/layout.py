"""The lines and zones that someone drew into the picture, as they stand in a file and on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, write_json
from yolo_slim.runtime.camera.outputs.refusal import refusals_explained

SCHEMA = 1
ANCHORS = ("bottom", "center")
MOST_SHAPES = 64
MOST_POINTS = 64
MOST_NAME = 64
"""Limits of a layout, lines and zones each; the page of a camera may send one."""

Point = tuple[float, float]
"""x, y as shares of the picture's width and height, from its upper left corner."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Counts what crosses it."""

    name: str
    start: Point
    end: Point
    """Looking from start to end, a crossing from the left to the right is ``in``, the other one ``out``."""


@dataclass(frozen=True, kw_only=True)
class Zone:
    """Counts what is inside it."""

    name: str
    points: tuple[Point, ...]
    """Corners of the polygon, at least three."""


class Drawn(Protocol):
    """A line or a zone as the page sends it."""

    @property
    def name(self) -> str:
        """Unique in a layout."""

    @property
    def kind(self) -> str:
        """``line`` or ``zone``."""

    @property
    def points(self) -> tuple[Point, ...]:
        """Two of a line, three or more of a zone."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All lines and zones of a camera."""

    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    anchor: str = "bottom"
    """The point of a box that counts: the middle of its lower edge (where a person stands), or its centre."""

    def to_json(self) -> JsonObject:
        """The value that a file contains."""
        return {
            "schema": SCHEMA,
            "anchor": self.anchor,
            "lines": [{"name": one.name, "start": list(one.start), "end": list(one.end)} for one in self.lines],
            "zones": [{"name": one.name, "points": [list(point) for point in one.points]} for one in self.zones],
        }

    def to_page(self) -> list[JsonObject]:
        """All lines and zones in one list, each with its kind and points."""
        lines = [{"name": one.name, "kind": "line", "points": [list(one.start), list(one.end)]} for one in self.lines]
        zones = [{"name": one.name, "kind": "zone", "points": [list(at) for at in one.points]} for one in self.zones]
        return lines + zones

    @classmethod
    def from_page(cls, drawn: Sequence[Drawn], anchor: str = "bottom") -> Layout:
        """What the page sent.

        Raises:
            SlimError: names every problem.
        """
        lines = [
            {"name": one.name, "start": list(one.points[0]), "end": list(one.points[-1])}
            for one in drawn
            if one.kind == "line" and one.points
        ]
        zones = [{"name": one.name, "points": list(one.points)} for one in drawn if one.kind == "zone"]
        return cls.from_json({"schema": SCHEMA, "anchor": anchor, "lines": lines, "zones": zones})

    @classmethod
    def from_json(cls, value: object) -> Layout:
        """The inverse of :meth:`to_json`.

        Raises:
            SlimError: names every problem.
        """
        problems = list(_problems(value))
        if problems or not isinstance(value, dict):
            remedy = "Draw them on the page, or mend the file (docs/camera.md says how)."
            raise SlimError("These lines and zones can't be used:", culprits=problems, remedy=remedy)
        return cls(
            lines=tuple(
                Line(name=one["name"], start=_point(one["start"]), end=_point(one["end"]))
                for one in value.get("lines", ())
            ),
            zones=tuple(
                Zone(name=one["name"], points=tuple(_point(point) for point in one["points"]))
                for one in value.get("zones", ())
            ),
            anchor=value.get("anchor", "bottom"),
        )


def load_layout(path: Path) -> Layout:
    """The lines and zones of a file; none where there is no file yet.

    Raises:
        SlimError: it isn't JSON, or describes something impossible.
    """
    try:
        return Layout.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Layout()
    except (ValueError, RecursionError) as error:
        raise SlimError(f"{path} isn't JSON: {error}.", remedy="Draw the lines and zones again on the page.") from error
    except OSError as error:
        raise SlimError(f"{path} can't be read: {error.strerror}.", remedy="Give another file with --zones.") from error
    except SlimError as error:
        raise error.as_kind(SlimError, fact=f"{path}: {error.fact}") from error


def save_layout(path: Path, layout: Layout) -> None:
    """Write a layout: whoever reads the file meanwhile sees the old one or the new one.

    Raises:
        SlimError: the file can't be written.
    """
    with refusals_explained(path, "Give another file with --zones."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, layout.to_json())


def _problems(value: object) -> Iterator[str]:
    """One line for every reason why a JSON value is no layout."""
    if not isinstance(value, dict):
        yield f"got {_short(value)}; expected an object"
        return
    if value.get("schema") != SCHEMA:
        yield f"schema: got {_short(value.get('schema'))}; expected {SCHEMA}"
    if value.get("anchor", "bottom") not in ANCHORS:
        yield f"anchor: got {_short(value['anchor'])}; expected {' or '.join(ANCHORS)}"
    yield from (f"{key}: unknown key" for key in value.keys() - {"schema", "anchor", "lines", "zones"})
    shapes = {key: value.get(key, []) for key in ("lines", "zones")}
    for key, found in shapes.items():
        if not isinstance(found, list) or len(found) > MOST_SHAPES:
            yield f"{key}: expected a list of at most {MOST_SHAPES}"
            shapes[key] = []
    for index, line in enumerate(shapes["lines"]):
        yield from _line_problems(f"lines[{index}]", line)
    for index, zone in enumerate(shapes["zones"]):
        yield from _zone_problems(f"zones[{index}]", zone)
    yield from _repeated([*shapes["lines"], *shapes["zones"]])


def _line_problems(where: str, line: object) -> Iterator[str]:
    if not isinstance(line, dict) or not is_name(line.get("name")):
        yield f"{where}: expected an object with a name of 1 to {MOST_NAME} characters"
        return
    for key in ("start", "end"):
        if not is_point(line.get(key)):
            yield f"{where}.{key}: got {_short(line.get(key))}; expected [x, y], both from 0 to 1"
    if is_point(line.get("start")) and line.get("start") == line.get("end"):
        yield f"{where}: start and end are the same point"


def _zone_problems(where: str, zone: object) -> Iterator[str]:
    if not isinstance(zone, dict) or not is_name(zone.get("name")):
        yield f"{where}: expected an object with a name of 1 to {MOST_NAME} characters"
        return
    points = zone.get("points")
    if not isinstance(points, list) or not 3 <= len(points) <= MOST_POINTS or not all(map(is_point, points)):
        yield f"{where}.points: expected 3 to {MOST_POINTS} points [x, y], both from 0 to 1"
    elif _area(points) < 1e-6:
        yield f"{where}.points: the polygon has no area"


def _repeated(shapes: Sequence[object]) -> Iterator[str]:
    names = [shape["name"] for shape in shapes if isinstance(shape, dict) and is_name(shape.get("name"))]
    yield from (
        f"'{name}': several lines or zones have this name" for name in sorted(set(names)) if names.count(name) > 1
    )


def is_name(value: object) -> bool:
    """Whether a line or zone may be called so."""
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MOST_NAME and value.isprintable()


def is_point(value: object) -> bool:
    """Whether a JSON value is a place in the picture."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_share, value))


def is_share(value: object) -> bool:
    """Whether a JSON value is a number from 0 to 1; NaN isn't."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _point(value: Any) -> Point:
    return float(value[0]), float(value[1])


def _area(points: Sequence[Sequence[float]]) -> float:
    """Of a polygon, by the shoelace formula; one that crosses itself may have less than it seems."""
    following = [*points[1:], points[0]]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, following, strict=True))) / 2


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
