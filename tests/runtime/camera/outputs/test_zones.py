"""Lines and zones: what crosses, what is inside, and the file that describes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.shown_frames import detections, shown
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs.counting import Counting
from yolo_slim.runtime.camera.outputs.layout import Layout, Line, Point, Zone, load_layout, save_layout
from yolo_slim.runtime.camera.outputs.zones import Event, LineCounter, Seen, ZoneCounter, contains, seen_in

MIDDLE = Line(name="door", start=(0.2, 0.5), end=(0.8, 0.5))
SQUARE = Zone(name="desk", points=((0.4, 0.4), (0.8, 0.4), (0.8, 0.8), (0.4, 0.8)))


def walk(counter: LineCounter | ZoneCounter, way: list[Point], track: int = 1, start_s: float = 0.0) -> list[Event]:
    """The events of one object that goes along some points, ten each second."""
    return [
        event
        for index, at in enumerate(way)
        for event in counter.update([Seen(class_id=0, track=track, at=at)], start_s + index / 10)
    ]


@pytest.mark.parametrize(
    ("way", "crossed"),
    [
        ([(0.5, 0.2), (0.5, 0.8)], (1, 0)),
        ([(0.5, 0.8), (0.5, 0.2)], (0, 1)),
        ([(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)], (1, 0)),
        ([(0.5, 0.2), (0.5, 0.8), (0.5, 0.2)], (1, 1)),
        ([(0.5, 0.2), (0.5, 0.5), (0.5, 0.2)], (0, 0)),
        ([(0.9, 0.2), (0.9, 0.8)], (0, 0)),
        ([(0.1, 0.2), (0.95, 0.6)], (1, 0)),
        ([(0.5, 0.2), (0.95, 0.3), (0.95, 0.9), (0.5, 0.8)], (0, 0)),
        ([(0.5, 0.2)], (0, 0)),
    ],
    ids=["in", "out", "stops on it", "and back", "touches it", "past its end", "diagonal", "around it", "one point"],
)
def test_a_line_counts_crossings_by_direction(way: list[Point], crossed: tuple[int, int]) -> None:
    """From left to right is in, looking along the line, and only through it."""
    counter = LineCounter(MIDDLE)
    events = walk(counter, way)
    assert counter.to_json() == {"in": crossed[0], "out": crossed[1]}
    assert len(events) == sum(crossed)


def test_an_upright_line_has_its_right_side_on_the_left() -> None:
    """A line that is drawn downwards: looking down, the picture's left side is on the right."""
    counter = LineCounter(Line(name="x", start=(0.5, 0.1), end=(0.5, 0.9)))
    assert [event.direction for event in walk(counter, [(0.2, 0.5), (0.8, 0.5), (0.2, 0.5)])] == ["out", "in"]


def test_an_object_that_trembles_on_a_line_counts_once() -> None:
    """It comes, stands on the line for ten seconds, and goes on."""
    noise = np.random.default_rng(0).normal(0.5, 0.0015, 100).tolist()
    counter = LineCounter(MIDDLE)
    walk(counter, [(0.5, 0.4), *[(0.5, y) for y in noise], (0.5, 0.6)])
    assert counter.to_json() == {"in": 1, "out": 0}


def test_two_objects_are_counted_apart() -> None:
    """One track's place isn't the other one's past; without a track nothing counts."""
    counter = LineCounter(MIDDLE)
    for y_first, y_second in ((0.2, 0.8), (0.2, 0.8), (0.2, 0.8)):
        pair = [Seen(class_id=0, track=1, at=(0.5, y_first)), Seen(class_id=0, track=2, at=(0.5, y_second))]
        assert not list(counter.update(pair, 0.0))
    assert not walk(counter, [(0.5, 0.2), (0.5, 0.8)], track=0)


def test_crossings_agree_with_where_an_object_ends() -> None:
    """Random walks over an endless line: in minus out is the change of side."""
    random = np.random.default_rng(1)
    for track in range(1, 50):
        counter = LineCounter(Line(name="x", start=(0.0, 0.5), end=(1.0, 0.5)))
        ys = np.clip(0.5 + np.cumsum(random.normal(0, 0.05, 60)), 0, 1)
        walk(counter, [(0.5, y) for y in ys.tolist()], track)
        settled = ys[np.abs(ys - 0.5) >= 0.005]
        assert counter.crossed["in"] - counter.crossed["out"] == int(settled[-1] > 0.5) - int(settled[0] > 0.5)


def test_tracks_that_are_gone_are_forgotten() -> None:
    """An object that comes back after a minute with an old id crossed nothing meanwhile."""
    counter = LineCounter(MIDDLE)
    walk(counter, [(0.5, 0.2)])
    list(counter.update([], 60.0))
    assert not walk(counter, [(0.5, 0.8)], start_s=60.1)


def test_a_zone_counts_entries_and_the_time_inside() -> None:
    """Two seconds outside, three inside, then gone."""
    counter = ZoneCounter(zone=SQUARE)
    events = walk(counter, [(0.1, 0.1)] * 20 + [(0.6, 0.6)] * 31 + [(0.1, 0.1)] * 15)
    assert [(event.kind, event.dwell_s) for event in events] == [("entered", None), ("left", 3.0)]
    assert counter.to_json() == {"inside": 0, "entered": 1, "longest_s": 3.0}


def test_an_object_at_the_edge_of_a_zone_enters_once() -> None:
    """It is outside for less than a second each time."""
    counter = ZoneCounter(zone=SQUARE)
    walk(counter, [(0.6, 0.6), (0.6, 0.81)] * 20)
    assert counter.entered == 1


def test_a_zone_counts_what_is_inside_without_tracking() -> None:
    """Only entries need to know which box is which object."""
    counter = ZoneCounter(zone=SQUARE)
    people = [Seen(class_id=0, track=0, at=(0.6, 0.6))] * 3
    assert not list(counter.update(people, 0.0))
    assert counter.to_json() == {"inside": 3, "entered": 0, "longest_s": 0.0}


def test_a_polygon_with_a_notch() -> None:
    """The notch is outside; so is what lies beside the polygon at the height of a corner."""
    notched = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.3), (0.1, 0.9))
    assert contains(notched, (0.2, 0.5))
    assert contains(notched, (0.8, 0.5))
    assert not contains(notched, (0.5, 0.6))
    assert not contains(notched, (0.95, 0.3))


def test_the_anchor_is_where_someone_stands() -> None:
    """The middle of the lower edge, or the centre, as shares of the picture."""
    found = detections([(20, 10, 60, 90)])
    assert seen_in(found, (7,), (100, 200), "bottom")[0].at == pytest.approx((0.2, 0.9))
    assert seen_in(found, (7,), (100, 200), "center")[0].at == pytest.approx((0.2, 0.5))
    assert seen_in(found, (), (100, 200), "center")[0].track == 0


def test_counting_takes_frames_and_tells_events() -> None:
    """A box that moves down through the line is one crossing, told once to each listener."""
    counting, events = Counting(Layout(lines=(MIDDLE,), zones=(SQUARE,)), print, is_tracked=True), list[Event]()
    counting.on_event(events.append)
    for index in range(10):
        bottom = 20 + 7 * index
        counting.shown(shown(detections([(80, bottom - 20, 120, bottom)]), index / 10, track_ids=(4,)))
    assert [event.kind for event in events] == ["entered", "crossed"]
    assert events[1].to_json() == {"kind": "crossed", "name": "door", "class_id": 0, "track": 4, "direction": "in"}
    expected = {"door": {"in": 1, "out": 0}}, {"desk": {"inside": 0, "entered": 1, "longest_s": 0.5}}
    counts = counting.counts()
    assert counts["lines"] == expected[0]
    assert counts["zones"]["desk"]["entered"] == 1


def test_a_new_layout_keeps_the_counts_of_what_stays() -> None:
    """A zone is added on the page: the line goes on counting. A line that moved begins anew."""
    counting = Counting(Layout(lines=(MIDDLE,)), print, is_tracked=True)
    for time_s, bottom in ((0.0, 20), (0.1, 90)):
        counting.shown(shown(detections([(80, bottom - 20, 120, bottom)]), time_s, track_ids=(4,)))
    counting.change(Layout(lines=(MIDDLE,), zones=(SQUARE,)))
    assert counting.counts()["lines"]["door"]["in"] == 1
    counting.change(Layout(lines=(Line(name="door", start=(0.2, 0.6), end=(0.8, 0.6)),)))
    assert counting.counts()["lines"]["door"]["in"] == 0


def test_a_listener_that_fails_does_not_stop_frames() -> None:
    """It is said once, and counted."""
    said: list[str] = []
    counting = Counting(Layout(zones=(SQUARE,)), said.append, is_tracked=True)
    counting.on_event(lambda _: 1 / 0)
    for track in range(1, 4):
        counting.shown(shown(detections([(100, 40, 120, 60)]), track / 10, track_ids=(track,)))
    assert counting.faults.lost == 3
    assert said == ["Counting: ZeroDivisionError: division by zero. The camera goes on, and tries again."]


def test_lines_need_tracking() -> None:
    """Without it nobody knows which box was where before; zones count what is inside."""
    with pytest.raises(SlimError, match="Lines can't count without tracking") as caught:
        Counting(Layout(lines=(MIDDLE,)), print, is_tracked=False)
    assert caught.value.culprits == ("door",)
    assert "--track" in caught.value.remedy
    assert Counting(Layout(zones=(SQUARE,)), print, is_tracked=False).layout.zones == (SQUARE,)


def test_a_layout_survives_its_file(tmp_path: Path) -> None:
    """What is saved is what is loaded; without a file there are no lines and zones."""
    layout = Layout(lines=(MIDDLE,), zones=(SQUARE,), anchor="center")
    path = tmp_path / "new" / "zones.json"
    assert load_layout(path) == Layout()
    save_layout(path, layout)
    assert load_layout(path) == layout
    assert [one.name for one in path.parent.iterdir()] == ["zones.json"]


def zone(**changes: Any) -> dict[str, Any]:
    """A file with one zone, some keys of which are others."""
    one = {"name": "a", "points": [[0, 0], [1, 0], [1, 1]], **changes}
    return {"schema": 1, "zones": [one]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "got []; expected an object"),
        ({"schema": 2}, "schema: got 2; expected 1"),
        ({"schema": 1, "lins": []}, "lins: unknown key"),
        ({"schema": 1, "anchor": "top"}, "anchor: got 'top'; expected bottom or center"),
        ({"schema": 1, "lines": {}}, "lines: expected a list of at most 64"),
        ({"schema": 1, "zones": [3]}, "zones[0]: expected an object with a name"),
        (zone(name=""), "zones[0]: expected an object with a name"),
        (zone(name="x" * 65), "zones[0]: expected an object with a name"),
        (zone(name="a\nb"), "zones[0]: expected an object with a name"),
        (zone(points=[[0, 0], [1, 1]]), "zones[0].points: expected 3 to 64 points"),
        (zone(points=[[0, 0], [1, 0], [1, 1.5]]), "zones[0].points: expected 3 to 64 points"),
        (zone(points=[[0, 0], [1, 0], [1, float("nan")]]), "zones[0].points: expected 3 to 64 points"),
        (zone(points=[[0, 0], [0.5, 0.5], [1, 1]]), "zones[0].points: the polygon has no area"),
        ({"schema": 1, "lines": [{"name": "a", "start": [0, 0]}]}, "lines[0].end: got None; expected [x, y]"),
        ({"schema": 1, "lines": [{"name": "a", "start": [0, 0], "end": [0, 0]}]}, "start and end are the same point"),
        ({"schema": 1, "zones": zone()["zones"] * 2}, "'a': several lines or zones have this name"),
    ],
)
def test_an_impossible_layout_is_refused(value: object, said: str) -> None:
    """Each problem is named with its place."""
    with pytest.raises(SlimError) as caught:
        Layout.from_json(value)
    assert any(said in culprit for culprit in caught.value.culprits)


def test_all_problems_are_named_at_once() -> None:
    """Whoever writes the file by hand mends it once."""
    value = {"schema": 1, "anchor": "x", "zones": [{"name": "a", "points": []}, 4]}
    with pytest.raises(SlimError) as caught:
        Layout.from_json(value)
    assert len(caught.value.culprits) == 3


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000, '{"schema": 3}'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    """The message begins with the path."""
    path = tmp_path / "zones.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SlimError, match=r"zones\.json"):
        load_layout(path)


def test_a_folder_for_a_file_is_refused(tmp_path: Path) -> None:
    """For reading and for writing, without a traceback."""
    with pytest.raises(SlimError, match="can't be read"):
        load_layout(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SlimError):
        save_layout(tmp_path / "file" / "zones.json", Layout())


@dataclass(frozen=True)
class Drawn:
    """What the page sends."""

    name: str
    kind: str
    points: tuple[Point, ...]


def test_the_page_shows_and_sends_a_layout() -> None:
    """What is shown and sent back is the same layout; the anchor stays; an impossible one is refused."""
    layout = Layout(lines=(MIDDLE,), zones=(SQUARE,), anchor="center")
    sent = [Drawn(one["name"], one["kind"], tuple(map(tuple, one["points"]))) for one in layout.to_page()]
    assert Layout.from_page(sent, "center") == layout
    with pytest.raises(SlimError):
        Layout.from_page([*sent, Drawn("door", "zone", SQUARE.points)])


def test_counts_by_name_are_for_the_page() -> None:
    """One object for lines and zones."""
    counting = Counting(Layout(lines=(MIDDLE,), zones=(SQUARE,)), print, is_tracked=True)
    assert counting.by_name() == {
        "door": {"in": 0, "out": 0},
        "desk": {"inside": 0, "entered": 0, "longest_s": 0.0},
    }


def test_a_layout_as_json_is_plain() -> None:
    """It is what a page sends and shows."""
    assert json.loads(json.dumps(Layout(lines=(MIDDLE,)).to_json())) == {
        "schema": 1,
        "anchor": "bottom",
        "lines": [{"name": "door", "start": [0.2, 0.5], "end": [0.8, 0.5]}],
        "zones": [],
    }
