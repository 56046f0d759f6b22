"""Commands of the page: right ones become typed values, wrong ones a message."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs.layout import Layout
from yolo_slim.runtime.camera.page_commands import (
    DrawnZone,
    Seen,
    SetClasses,
    SetConf,
    SetPaused,
    SetZones,
    Watch,
    parse_command,
)
from yolo_slim.runtime.camera.server_settings import Limits

DOOR = {"name": "door", "kind": "line", "points": [[0, 0.5], [1, 0.5]]}


def lines(count: int) -> list[dict[str, Any]]:
    """So many lines, with the longest names that there may be."""
    return [{"name": f"{i:064}", "kind": "line", "points": [[0.1, 0.5], [1, 0.5]]} for i in range(count)]


def zones(count: int) -> list[dict[str, Any]]:
    """So many zones of 64 corners each, whose names take four bytes a character."""
    corners = [[0.5 + 0.4 * math.cos(i / 10), 0.5 + 0.4 * math.sin(i / 10)] for i in range(64)]
    return [{"name": f"{i:02}" + "\U0001f6aa" * 62, "kind": "zone", "points": corners} for i in range(count)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("conf", 0.4, SetConf(conf=0.4)),
        ("conf", 1, SetConf(conf=1.0)),
        ("classes", None, SetClasses(class_ids=None)),
        ("classes", [2, 0, 2], SetClasses(class_ids=(0, 2))),
        ("classes", [], SetClasses(class_ids=())),
        ("paused", True, SetPaused(is_paused=True)),
        ("zones", [DOOR], SetZones(zones=(DrawnZone(name="door", kind="line", points=((0.0, 0.5), (1.0, 0.5))),))),
        ("watch", "boxes", Watch(variant="boxes")),
        ("watch", None, Watch(variant=None)),
        ("seen", None, Seen()),
    ],
)
def test_right_commands(name: str, value: object, expected: object) -> None:
    """Each gives its own type."""
    assert parse_command(json.dumps({"command": name, "value": value})) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("conf", value) for value in (-0.1, 1.1, "0.5", True, None, [0.5], 10**400)],
        *[("classes", value) for value in ([-1], [True], ["0"], [0.5], 3, [10**9], {"0": 1})],
        *[("paused", value) for value in (1, None, "true")],
        *[("watch", value) for value in ("x", 1, ["boxes"])],
        *[("zones", value) for value in (None, {}, [DOOR, DOOR], lines(65), zones(65), [1])],
        *[("zones", [{**DOOR, **change}]) for change in (
            {"name": ""}, {"name": " "}, {"name": "x" * 65}, {"name": "a\x1b[2J"}, {"name": 3}, {"kind": "box"},
            {"points": [[0, 0]]}, {"points": [[0, 0]] * 3}, {"points": [[0, 2], [0, 0]]}, {"points": [[0], [1]]},
            {"kind": "zone"}, {"kind": "zone", "points": [[0, 0]] * 65}, {"points": "ab"}, {"points": [["a", 0]] * 2},
        )],
        ("open", 1),
    ],
)  # fmt: skip
def test_wrong_commands(name: str, value: object) -> None:
    """A wrong value is refused with what would be right."""
    with pytest.raises(SlimError, match=r"must be|Send one of"):
        parse_command(json.dumps({"command": name, "value": value}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"command": ["conf"]}',
        '{"command": {}}',
        "[" * 60000,
        '{"command": "conf", "value": NaN}',
    ],
)
def test_what_is_no_command(text: str) -> None:
    """Anything that a socket may send ends in a message, not in a traceback."""
    with pytest.raises(SlimError):
        parse_command(text)


def test_as_much_as_a_file_may_contain() -> None:
    """64 lines and 64 zones of 64 corners with the longest names make a layout, and fit into a message."""
    text = json.dumps({"command": "zones", "value": lines(64) + zones(64)}, ensure_ascii=False)
    command = parse_command(text)
    assert isinstance(command, SetZones)
    layout = Layout.from_page(command.zones)
    assert (len(layout.lines), len(layout.zones)) == (64, 64)
    assert Layout.from_json(layout.to_json()) == layout
    assert len(text.encode()) < Limits().message_bytes
