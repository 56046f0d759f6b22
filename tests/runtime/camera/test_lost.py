"""Sources that vanish, stall, block for ever, break or change: the camera opens them again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tests.helpers.camera_sources import FakeDetector, Opener, Scripted, blocker, endless, frames, lost, until
from tests.helpers.tiny_detector import scene
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.capture import CaptureSettings
from yolo_slim.runtime.camera.live import Live, LiveSettings
from yolo_slim.runtime.camera.status import Status

QUICK = CaptureSettings(back_off_s=(0.01,))


def camera(opener: Opener, capture: CaptureSettings = QUICK, **options: Any) -> tuple[Live, list[Status], list[str]]:
    """A camera, and the states and messages that it tells."""
    live = Live(opener, {"slim": FakeDetector()}, LiveSettings(capture=capture), **options)
    states: list[Status] = []
    said: list[str] = []
    live.on_status(states.append)
    live.on_message(said.append)
    return live, states, said


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lost(), "The camera was unplugged. Plug it in again."),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_lost_source_is_opened_again(error: Exception, reason: str) -> None:
    """Whatever a driver raises, the source is closed, the reason is said, and its next frame is live again."""
    first, second = Scripted([*frames(2), error]), Scripted(frames(2))
    opener = Opener(first, second)
    live, states, _ = camera(opener)
    with live:
        assert live.wait(20)
    assert [one.state for one in states] == ["connecting", "live", "lost", "connecting", "live", "ended"]
    assert (states[2].reason, states[3].reason, states[4].reason) == (reason, reason, "")
    assert states[2].next_try_s is not None
    assert (first.closed, second.closed, live.stats().totals.lost) == (1, 1, 1)
    assert live.stats().totals.shown == 4


def test_each_try_waits_longer_until_a_frame_comes() -> None:
    """Tries that fail wait by the steps; after a frame they begin with the first step again."""
    opener = Opener(Scripted([scene(), lost()]), lost(), lost(), Scripted([scene(), lost()]), Scripted([]))
    live, states, _ = camera(opener, CaptureSettings(back_off_s=(0.01, 0.02, 0.03)), clock=lambda: 0.0)
    with live:
        assert live.wait(20)
    waits = [one.next_try_s for one in states if one.state == "lost"]
    assert waits == [0.01, 0.02, 0.03, 0.01]


def test_source_that_is_back_is_live_at_once() -> None:
    """After a long time without a source, its first frame makes it live: the old picture doesn't make it stale."""
    now, states = [0.0], []

    def come_back() -> Scripted:
        now[0] = 20.0
        return Scripted(frames(1))

    def wait_until_told(call: int) -> None:
        if call == 1:
            until(lambda: states.count("live") == 2)

    detector = FakeDetector(wait_until_told)

    def break_off() -> None:
        until(lambda: "live" in states)
        raise lost()

    opener = Opener(Scripted([scene(), break_off]), come_back)
    live = Live(opener, {"slim": detector}, LiveSettings(capture=QUICK), clock=lambda: now[0])
    live.on_status(lambda status: states.append(status.state))
    with live:
        assert live.wait(20)
    assert states == ["connecting", "live", "lost", "connecting", "live", "ended"]


@pytest.mark.parametrize("opener", [Opener(lost("No such camera.")), Opener(Scripted([lost("No such camera.")]))])
def test_source_that_never_worked_ends_the_camera(opener: Opener) -> None:
    """A wrong address is a mistake, not a disturbance: it is said at once instead of being tried for ever."""
    live, states, _ = camera(opener)
    with live, pytest.raises(SlimError, match=r"No such camera\.\nPlug it in again\."):
        live.wait(20)
    assert [one.state for one in states] == ["connecting", "ended"]
    assert len(opener.opened) == 1


def test_driver_fault_at_the_first_try_is_one_message() -> None:
    """An error that is none of ours doesn't reach the user as a traceback."""
    live, _, _ = camera(Opener(OSError(16, "Device or resource busy")))
    with live, pytest.raises(SlimError, match=r"The source can't be used: OSError: .* busy"):
        live.wait(20)


def test_service_waits_for_its_source() -> None:
    """Negative control: where it was asked for, a camera that isn't there yet is waited for."""
    opener = Opener(lost(), lost(), Scripted(frames(1)))
    live, _, _ = camera(opener, CaptureSettings(back_off_s=(0.01,), wait_for_source=True))
    with live:
        assert live.wait(20)
    assert (live.stats().totals.shown, live.stats().totals.lost) == (1, 2)


def test_frames_that_are_no_images() -> None:
    """A corrupt frame is counted and left out; twenty in a row lose the source, which is opened again."""
    bad = [np.zeros((0, 0, 3), np.uint8), np.zeros((8, 8), np.uint8), "text"]
    opener = Opener(Scripted([scene(), *bad, scene(), *bad * 7, scene()]), Scripted(frames(1)))
    live, states, said = camera(opener)
    with live:
        assert live.wait(20)
    assert (live.stats().totals.shown, live.stats().totals.bad, live.stats().totals.lost) == (3, 3 + 20, 1)
    assert "A frame of the source is no image: Expected an image array (H, W, 3) uint8, got str." in said
    assert next(one.reason for one in states if one.state == "lost").startswith("20 frames in a row are no images.")


def test_size_may_change() -> None:
    """Frames of another size are shown from then on, and it is said once."""
    live, _, said = camera(Opener(Scripted([*frames(2), *frames(3, 32, 128)])))
    sizes: list[tuple[int, ...]] = []
    live.on_shown(lambda shown: sizes.append(shown.frame.image.shape[:2]))
    with live:
        assert live.wait(20)
    assert sizes == [(64, 64)] * 2 + [(32, 128)] * 3
    assert said == ["The frames have another size now: 128 x 32 pixels."]


def test_blocked_read_is_given_up() -> None:
    """A read that never returns is left behind: closed from outside, opened anew; what it gives later is not shown."""
    now, (block, free) = [0.0], blocker()
    stuck, fresh = Scripted([scene(), block], is_live=True), Scripted(endless(), is_live=True)
    live, states, _ = camera(Opener(stuck, fresh), CaptureSettings(back_off_s=(0.01,)), clock=lambda: now[0])
    with live:
        until(lambda: live.stats().totals.shown == 1)
        now[0] = 29.0
        live.stats()
        assert (stuck.closed, live.stats().totals.abandoned) == (0, 0)
        now[0] = 31.0
        until(lambda: live.stats().totals.shown > 3)
        assert (stuck.closed, live.stats().totals.abandoned) == (1, 1)
        shown_before = live.stats().totals
        free.set()
        until(lambda: live.stats().totals.shown > shown_before.shown + 3)
        assert live.stats().totals.lost == 1
        assert not any(one.state == "ended" for one in states)
    assert "The source didn't answer for 30 s." in [one.reason for one in states]


def test_blocked_open_is_given_up() -> None:
    """The same holds for opening; a source that arrives late is closed at once."""
    now, free, late = [0.0], threading.Event(), Scripted(endless(), is_live=True)
    opener = Opener(Scripted([scene(), lost()]), lambda: (free.wait(20), late)[1], Scripted(endless(), is_live=True))
    live, _, _ = camera(opener, CaptureSettings(back_off_s=(0.01,)), clock=lambda: now[0])
    with live:
        until(lambda: len(opener.opened) == 2)
        now[0] = 31.0
        until(lambda: live.stats().totals.shown > 3)
        free.set()
        until(lambda: late.closed == 1)
        assert live.stats().totals.abandoned == 1


def test_too_many_blocked_threads_end_the_camera() -> None:
    """A source that blocks again and again doesn't fill the process with threads: the fourth one is refused."""
    now, (block, free) = [0.0], blocker()
    opener = Opener(Scripted([scene(), block], is_live=True), lambda: Scripted([block], is_live=True))
    live, _, _ = camera(opener, CaptureSettings(back_off_s=(0.01,)), clock=lambda: now[0])
    with live:
        for turn in range(1, 5):
            until(lambda turn=turn: len(opener.opened) == turn)
            # The read must have begun before the clock goes on.
            until(lambda: live.stats().state in ("live", "connecting", "stale"))
            while live.stats().totals.abandoned < turn:
                now[0] += 31.0
                threading.Event().wait(0.05)
        with pytest.raises(SlimError, match="The source blocked 4 times and never gave its threads back"):
            live.wait(20)
    free.set()
    assert live.stats().totals.abandoned == 4


def test_stop_does_not_wait_for_a_blocked_source() -> None:
    """A camera whose source blocks can still be stopped; its source is closed from outside."""
    block, free = blocker()
    source = Scripted([scene(), block], is_live=True)
    live, _, _ = camera(Opener(source))
    live.start()
    until(lambda: live.stats().totals.shown == 1)
    live.stop()
    until(lambda: source.closed == 1)
    assert live.stats().state == "ended"
    free.set()


def test_close_that_raises_is_survived() -> None:
    """A driver's fault in closing doesn't end the thread that opens the source again."""

    class Broken(Scripted):
        """Raises in close."""

        def close(self) -> None:
            super().close()
            raise OSError("no such device")

    live, _, _ = camera(Opener(Broken([scene(), lost()]), Scripted(frames(1))))
    with live:
        assert live.wait(20)
    assert live.stats().totals.shown == 2
