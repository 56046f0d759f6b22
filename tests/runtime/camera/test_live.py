"""The running camera: frames in, shown frames out, changes while it runs, and faults that must not end it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.camera_sources import FakeDetector, Opener, Scripted, endless, frames, until
from tests.helpers.tiny_detector import scene
from yolo_slim.bundle import BUNDLE_JSON
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.runtime.camera.capture import CaptureSettings
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.live import Live, LiveSettings
from yolo_slim.runtime.detector import Detector


def collected(live: Live) -> list[Shown]:
    """The list that every shown frame is added to."""
    found: list[Shown] = []
    live.on_shown(found.append)
    return found


def test_file_is_shown_whole(tiny_bundle: Path) -> None:
    """Every frame of a file goes through both bundles in order; then the camera ends by itself."""
    source = Scripted(frames(40, 128, 192))
    with Detector(tiny_bundle) as slim, Detector(tiny_bundle) as control:
        live = Live(Opener(source), {"slim": slim, "control": control})
        found = collected(live)
        with live:
            assert live.wait(20)
        expected = slim.detect(scene(128, 192))
    assert [shown.frame.index for shown in found] == [shown.sequence for shown in found] == list(range(40))
    assert all(list(shown.answers) == ["slim", "control"] for shown in found)
    assert (found[-1].answers["control"].detections.boxes == expected.boxes).all()
    stats = live.stats()
    assert (stats.totals.shown, stats.totals.dropped, stats.state, source.closed) == (40, 0, "ended", 1)
    assert set(stats.figures.bundles) == {"slim", "control"}
    assert live.names() == {0: "red", 1: "blue"}


@pytest.mark.parametrize("fails", [False, True])
def test_models_run_once_before_the_first_frame(
    fails: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a first run pays for is no frame's; a model that fails there is judged by its frames."""
    events: list[str] = []

    def warmed(_: Detector, image: Any) -> None:
        assert not image.any()
        events.append("warm-up")
        if fails:
            raise RuntimeError("no memory yet")

    monkeypatch.setattr(Detector, "detect", warmed)
    with Detector(tiny_bundle) as slim, Detector(tiny_bundle) as control:
        live = Live(Opener(Scripted(frames(3))), {"slim": slim, "control": control})
        live.on_shown(lambda _: events.append("frame"))
        with live:
            assert live.wait(20)
    assert events == ["warm-up"] * 2 + ["frame"] * 3


def test_live_source_never_queues() -> None:
    """While a slow model works, frames of a camera replace each other: the newest is next, the rest is counted."""
    begun, go = threading.Event(), threading.Event()
    first = lambda: (begun.wait(20), scene())[1]  # noqa: E731
    steps = [scene(), first, *frames(49), lambda: (go.wait(20), None)[1]]

    def work(call: int) -> None:
        begun.set()
        if call == 0:
            until(lambda: live.stats().totals.captured == 51)

    live = Live(Opener(Scripted(steps, is_live=True)), {"slim": FakeDetector(work)})
    found = collected(live)
    with live:
        until(lambda: len(found) == 2)
        go.set()
        assert live.wait(20)
    assert [shown.frame.index for shown in found] == [0, 50]
    assert live.stats().totals.dropped == 49
    assert live.stats().figures.dropped_last_minute == 49


def test_changes_take_effect_at_once() -> None:
    """Threshold and classes hold from the next frame on, for every bundle of a frame alike."""
    detector = FakeDetector()
    step = threading.Semaphore(0)
    steps = [lambda: (step.acquire(timeout=20), scene())[1]] * 3
    live = Live(Opener(Scripted(steps)), {"slim": detector}, LiveSettings(conf=0.5))
    found = collected(live)
    with live:
        for number, change in enumerate(({}, {"conf": 0.4, "classes": [0, 2]}, {"conf": None, "classes": None})):
            live.change(**change)
            step.release()
            until(lambda number=number: len(found) == number + 1)
        assert live.wait(20)
    assert detector.seen == [0.5, 0.4, None]
    ids = [shown.answers["slim"].detections.class_ids.tolist() for shown in found]
    assert ids == [[0, 1, 2], [0, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"conf": 1.5}, "conf must be a number from 0 to 1, got 1.5"),
        ({"conf": "a"}, "conf must be a number"),
        ({"conf": float("nan")}, "conf must be a number"),
        ({"paused": 1}, "paused must be true or false"),
        ({"classes": ["car"]}, "classes must be class numbers"),
        ({"classes": 3}, "classes must be class numbers"),
        ({"cnof": 0.5}, "Did you mean 'conf'"),
        ({"capture": None}, "can't be changed"),
    ],
)
def test_impossible_changes_are_refused(changes: dict[str, Any], text: str) -> None:
    """What the page sends may be anything; a refused change changes nothing."""
    live = Live(Opener(Scripted([])), {"slim": FakeDetector()})
    with pytest.raises(SlimError, match=text):
        live.change(paused=True, **changes) if "paused" not in changes else live.change(**changes)
    assert live.settings == LiveSettings()


def test_pause() -> None:
    """A paused camera shows nothing and drops nothing; a file goes on where it was."""
    live = Live(Opener(Scripted(frames(5))), {"slim": FakeDetector()}, LiveSettings(paused=True))
    found, states = collected(live), []
    live.on_status(lambda status: states.append(status.state))
    with live:
        until(lambda: "paused" in states)
        assert (found, live.stats().state) == ([], "paused")
        live.change(paused=False)
        assert live.wait(20)
    assert [shown.frame.index for shown in found] == [0, 1, 2, 3, 4]
    assert live.stats().totals.dropped == 0
    assert states == ["connecting", "paused", "live", "ended"]


def test_failed_frames_are_counted() -> None:
    """A frame that a bundle fails on is said and left out; the next one is shown."""

    def fail(call: int) -> None:
        if call in (1, 2):
            raise RuntimeError("out of memory")

    live = Live(Opener(Scripted(frames(5))), {"slim": FakeDetector(fail)})
    found, said = collected(live), []
    live.on_message(said.append)
    with live:
        assert live.wait(20)
    assert [shown.frame.index for shown in found] == [0, 3, 4]
    assert live.stats().totals.failed == 2
    assert said == ["A frame failed: RuntimeError: out of memory"]


def test_failures_in_a_row_end_the_camera() -> None:
    """Twenty failures in a row are no accident: one clear error, and the source is closed."""

    def fail(call: int) -> None:
        if call >= 3:
            raise RuntimeError("CUDA error")

    source = Scripted(frames(100))
    with Live(Opener(source), {"slim": FakeDetector(fail)}) as live, pytest.raises(SlimError) as error:
        live.wait(20)
    assert "20 frames in a row failed. The last one: RuntimeError: CUDA error" in str(error.value)
    assert (live.stats().totals.failed, live.stats().state, source.closed) == (20, "ended", 1)
    assert "CUDA error" in live.stats().reason


def test_faults_of_listeners_end_nothing() -> None:
    """An output, a tracker and a listener that raise are counted; every frame is still shown to the others."""

    def broken(*_: object) -> Any:
        raise OSError("disk full")

    live = Live(Opener(Scripted(frames(3))), {"slim": FakeDetector()}, track=broken)
    said: list[str] = []
    for listen in (live.on_shown, live.on_status, live.on_message):
        listen(broken)
    live.on_message(said.append)
    found = collected(live)
    with live:
        assert live.wait(20)
    assert len(found) == 3
    assert {"An output failed: OSError: disk full", "Tracking failed: OSError: disk full"} <= set(said)
    assert live.stats().totals.callback_errors >= 6


def test_tracks() -> None:
    """The tracker sees the first bundle's detections after the class filter, and the time of the frame."""
    seen: list[tuple[list[int], float]] = []

    def track(detections: Any, time_s: float) -> tuple[int, ...]:
        seen.append((detections.class_ids.tolist(), time_s))
        return tuple(7 + number for number in range(len(detections)))

    live = Live(
        Opener(Scripted(frames(2))), {"slim": FakeDetector()}, LiveSettings(classes=frozenset({1, 2})), track=track
    )
    found = collected(live)
    with live:
        assert live.wait(20)
    assert [shown.track_ids for shown in found] == [(7, 8), (7, 8)]
    assert seen == [([1, 2], shown.frame.captured_s) for shown in found]


def test_old_picture_is_said() -> None:
    """With the clock of the frames standing still, a picture is live; seconds later it is stale, then grey."""
    now, free = [100.0], threading.Event()
    steps = [scene(), lambda: (free.wait(20), None)[1]]
    live = Live(Opener(Scripted(steps, is_live=True)), {"slim": FakeDetector()}, clock=lambda: now[0])
    states: list[str] = []
    live.on_status(lambda status: states.append(status.state))
    with live:
        until(lambda: "live" in states)
        now[0] = 101.5
        until(lambda: "stale" in states)
        assert (live.freshness, live.age_s) == ("stale", 1.5)
        now[0] = 104.0
        assert (live.freshness, live.stats().state) == ("grey", "stale")
        free.set()
        assert live.wait(20)
    assert states == ["connecting", "live", "stale", "ended"]


def test_stop_ends_every_thread() -> None:
    """After a stop no thread is left and the source is closed once; a second stop does nothing."""
    before = set(threading.enumerate())
    source = Scripted(endless(), is_live=True)
    live = Live(Opener(source), {"slim": FakeDetector()})
    live.start()
    until(lambda: live.stats().totals.shown > 3)
    live.stop()
    live.stop()
    until(lambda: not set(threading.enumerate()) - before)
    assert (source.closed, live.stats().state, live.stats().reason) == (1, "ended", "Stopped.")
    assert live.wait(0)


def test_stop_from_an_output() -> None:
    """An output may stop the camera, as one that counts frames does."""
    live = Live(Opener(Scripted(endless())), {"slim": FakeDetector()})
    live.on_shown(lambda shown: live.stop() if shown.sequence == 4 else None)
    with live:
        assert live.wait(20)
    assert (live.stats().totals.shown, live.stats().totals.callback_errors) == (5, 0)


def test_settings_have_limits() -> None:
    """Settings from the start are checked like changes."""
    with pytest.raises(SlimError, match="conf must be"):
        Live(Opener(Scripted([])), {"slim": FakeDetector()}, LiveSettings(conf=2, capture=CaptureSettings()))


def test_model_that_hangs_is_not_live() -> None:
    """Frames arrive, but the first one is never shown: the state says so instead of looking live."""
    now, free = [0.0], threading.Event()
    live = Live(Opener(Scripted(frames(1))), {"slim": FakeDetector(lambda _: free.wait(20))}, clock=lambda: now[0])
    states: list[str] = []
    live.on_status(lambda status: states.append(status.state))
    with live:
        until(lambda: "live" in states)
        now[0] = 1.5
        until(lambda: "stale" in states)
        free.set()
        assert live.wait(20)


def test_resumed_camera_is_live_at_once() -> None:
    """The picture from before a long pause doesn't make the state stale."""
    now, go = [0.0], threading.Event()
    steps = [scene(), lambda: (go.wait(20), scene())[1]]
    live = Live(Opener(Scripted(steps)), {"slim": FakeDetector()}, clock=lambda: now[0])
    found, states = collected(live), []
    live.on_status(lambda status: states.append(status.state))
    with live:
        until(lambda: len(found) == 1)
        live.change(paused=True)
        now[0] = 20.0
        assert live.freshness == "grey"
        live.change(paused=False)
        until(lambda: states.count("live") == 2)
        go.set()
        assert live.wait(20)
    assert states == ["connecting", "live", "paused", "live", "ended"]


def test_replaced_bundle_is_followed(own_bundle: Path) -> None:
    """A running camera takes a new bundle from disk between two frames, and says so."""
    said: list[str] = []
    with Detector(own_bundle) as slim:
        live = Live(Opener(Scripted(endless())), {"slim": slim}, LiveSettings(bundles_every_s=0.01))
        live.on_message(said.append)
        with live:
            until(lambda: live.stats().totals.shown > 3)
            path = own_bundle / BUNDLE_JSON
            write_json(path, {**read_json(path), "names": {"0": "crimson", "1": "navy"}})
            until(lambda: live.names("slim")[0] == "crimson")
            shown = live.stats().totals.shown
            until(lambda: live.stats().totals.shown > shown)
            until(lambda: said == ["The bundle was replaced: tiny runs now."])
    assert live.stats().totals.reloaded == 1
