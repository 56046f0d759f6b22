"""A shown frame as a picture, and its window."""

from __future__ import annotations

import subprocess
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.camera_sources import FakeDetector, Opener, Scripted, frames, until
from yolo_slim.errors import SlimError
from yolo_slim.runtime import draw as plain
from yolo_slim.runtime.camera import draw, window
from yolo_slim.runtime.camera.frame import Answer, Frame, Shown
from yolo_slim.runtime.camera.live import Live

IMAGE = np.full((120, 160, 3), (40, 90, 160), np.uint8)
NAMES = {0: "red", 1: "blue", 2: "green"}


def shown(*bundles: str, track_ids: tuple[int, ...] = ()) -> Shown:
    """A frame in which every bundle found three objects."""
    detections, times = FakeDetector().timed(IMAGE)
    answers = {name: Answer(detections=detections, times=times) for name in bundles}
    frame = Frame(image=IMAGE, index=0, captured_s=0.0)
    return Shown(frame=frame, answers=answers, sequence=0, ready_s=0.0, track_ids=track_ids)


def test_one_bundle_is_drawn_as_images_are() -> None:
    """The picture is that of the command detect; the frame itself isn't drawn into."""
    one = shown("slim")
    found = draw.picture(one, {"slim": NAMES})
    assert (found == plain.draw(IMAGE, one.answers["slim"].detections, NAMES)).all()
    assert (found != IMAGE).any()
    assert (IMAGE == (40, 90, 160)).all()


def test_tracks_and_shapes_show() -> None:
    """Track ids, lines and zones change the picture, and only the first bundle's."""
    one = shown("slim", "control")
    bare = draw.picture(one, {})
    tracked = draw.picture(shown("slim", "control", track_ids=(1, 2, 3)), {})
    line = draw.Shape(points=((0.5, 0.9), (0.9, 0.9)), text="door 3")
    shaped = draw.picture(one, {}, shapes=[line])
    for found in (tracked, shaped):
        assert (found[:, :160] != bare[:, :160]).any()
        assert (found[:, 160:] == bare[:, 160:]).all()


def test_zone_is_closed() -> None:
    """A zone has its last side, a line has none."""
    points = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8))
    middle = (60, 80)
    for is_closed in (True, False):
        canvas = np.zeros((120, 160, 3), np.uint8)
        draw.draw_shapes(canvas, [draw.Shape(points=points, is_closed=is_closed)])
        row, column = middle
        assert canvas[row - 2 : row + 3, column - 2 : column + 3].any() == is_closed


def test_side_by_side() -> None:
    """Two bundles stand beside each other, each with its own speed."""
    found = draw.picture(shown("slim", "control"), {}, fps={"slim": 40.0, "control": 20.0})
    other = draw.picture(shown("slim", "control"), {}, fps={"slim": 40.0, "control": 21.0})
    assert found.shape == (120, 320, 3)
    assert (found[:, :160] == other[:, :160]).all()
    assert (found[:, 160:] != other[:, 160:]).any()


def test_age() -> None:
    """A live picture stays as it is, a stale one says its age, and later it has no colour but the label's."""
    assert draw.draw_age(IMAGE, 0.1, "live") is IMAGE
    stale, grey = (draw.draw_age(IMAGE, age, how) for age, how in ((2.0, "stale"), (4.0, "grey")))
    assert (stale[:100] == IMAGE[:100]).all()
    assert (stale[-4] != IMAGE[-4]).any()
    assert len({int(value) for value in grey[:100].ravel()}) == 1
    assert (IMAGE == (40, 90, 160)).all()


def test_texts_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that was measured in one frame isn't measured in the next; a new one is."""
    measured: list[str] = []
    measure = cv2.getTextSize

    def count(text: str, *others: Any) -> Any:
        measured.append(text)
        return measure(text, *others)

    monkeypatch.setattr("yolo_slim.runtime.draw.cv2.getTextSize", count)
    for names in ({0: "once"}, {0: "once"}, {0: "another"}):
        draw.picture(shown("slim"), {"slim": {**NAMES, **names}})
    assert [text for text in measured if text.startswith(("once", "another"))] == ["once 0.90", "another 0.90"]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a screen, and an OpenCV that opens windows."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("yolo_slim.runtime.camera.window.cv2.getBuildInformation", lambda: "  GUI:   QT5\n")


def answered(monkeypatch: pytest.MonkeyPatch, code: int, text: str) -> None:
    """Let the process that tries to open a window end in some way."""
    done = subprocess.CompletedProcess([], code, "", text)
    monkeypatch.setattr("yolo_slim.runtime.camera.window.subprocess.run", lambda *_, **__: done)


@pytest.mark.usefixtures("screen")
def test_window_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: nothing is refused where a window opens."""
    answered(monkeypatch, 0, "")
    window.require_window()


@pytest.mark.usefixtures("screen")
def test_screen_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qt would end the whole program; a process of its own ends instead, and its reason is said."""
    answered(monkeypatch, -6, "\nqt.qpa.xcb: could not connect to display :0\nAborted\n")
    with pytest.raises(SlimError, match=r"No window can be opened: qt\.qpa\.xcb: could not connect to display :0"):
        window.require_window()


@pytest.mark.usefixtures("screen")
@pytest.mark.skipif("sys.platform != 'linux'", reason="other systems have no DISPLAY")
def test_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over ssh there is none: it says so, and that the page needs none."""
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SlimError, match=r"DISPLAY isn't set(.|\n)*Leave --display out"):
        window.require_window()


@pytest.mark.usefixtures("screen")
def test_headless_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headless package is named, with the one to install."""
    monkeypatch.setattr("yolo_slim.runtime.camera.window.cv2.getBuildInformation", lambda: "  GUI:    NONE\n")
    with pytest.raises(SlimError, match=r"headless build(.|\n)*Install opencv-python"):
        window.require_window()


@pytest.mark.parametrize(("key", "visible", "pictures"), [(-1, 1.0, True), (ord("q"), 1.0, False), (-1, 0.0, False)])
def test_window_ends(key: int, visible: float, pictures: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows frames until the camera ends, q is pressed or the window is closed; then it is gone."""
    calls: list[str] = []
    answers = {"waitKey": key, "getWindowProperty": visible}
    for name in ("namedWindow", "imshow", "waitKey", "getWindowProperty", "destroyAllWindows"):

        def call(*_: object, name: str = name) -> object:
            calls.append(name)
            return answers.get(name)

        monkeypatch.setattr(f"yolo_slim.runtime.camera.window.cv2.{name}", call)

    def last() -> None:
        until(lambda: "imshow" in calls or "destroyAllWindows" in calls)

    with Live(Opener(Scripted([*frames(1), last])), {"slim": FakeDetector()}) as live:
        window.run_window(live, wait_s=0.01)
        assert live.wait(20) or not pictures
    assert (calls[0], calls[-1], "imshow" in calls) == ("namedWindow", "destroyAllWindows", pictures)
