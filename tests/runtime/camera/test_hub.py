"""The hub: one encoding for all viewers, only the newest frame, and a bad frame is no end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.helpers.camera_scene import draw_slim, make_shown
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.details import frame_details
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.hub import Hub


def wait_until(is_true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.002)


def give(hub: Hub, index: int) -> None:
    """Give a frame and wait for the hub to publish it."""
    hub.shown(make_shown(index))
    wait_until(lambda: hub.newest is not None and hub.newest.sequence == index)


@pytest.mark.parametrize("viewers", [1, 40])
def test_a_frame_is_encoded_once(viewers: int) -> None:
    """However many watch and ask."""
    with Hub(draw_slim) as hub:
        for _ in range(viewers):
            hub.watching("plain").__enter__()
        give(hub, 0)
        pictures = [hub.picture("plain") for _ in range(viewers)]
    assert hub.encoded == 1
    assert len({id(picture) for picture in pictures}) == 1


def test_what_nobody_watches_is_not_encoded() -> None:
    """Both variants only while someone watches both, none without viewers."""
    with Hub(draw_slim) as hub:
        give(hub, 0)
        assert hub.encoded == 0
        with hub.watching("plain"), hub.watching("boxes"):
            assert hub.watchers == {"plain": 1, "boxes": 1}
            give(hub, 1)
            wait_until(lambda: hub.encoded == 2)
        give(hub, 2)
    assert hub.encoded == 2
    assert hub.watchers == {"plain": 0, "boxes": 0}


def test_variants_differ_by_the_boxes() -> None:
    """The plain picture is the frame; the other one has boxes in it. Details belong to the same frame."""
    shown = make_shown(7)
    with Hub(draw_slim, quality=95) as hub:
        hub.shown(shown)
        wait_until(lambda: hub.newest)
        plain, boxes = hub.picture("plain"), hub.picture("boxes")
    assert plain is not None
    assert boxes is not None
    images = [cv2.imdecode(np.frombuffer(one.jpeg, np.uint8), cv2.IMREAD_COLOR) for one in (plain, boxes)]
    assert np.abs(images[0].astype(int) - shown.frame.image).mean() < 3
    assert np.abs(images[0].astype(int) - images[1]).max() > 100
    details = json.loads(boxes.details)
    assert (details["sequence"], details["size"], boxes.sequence) == (7, [640, 360], 7)
    found = shown.answers["slim"].detections
    scaled = np.array(details["answers"]["slim"]["boxes"]) * [640, 360, 640, 360]
    np.testing.assert_allclose(scaled, found.boxes, atol=0.01)


def test_details_are_json_whatever_a_model_gives() -> None:
    """NaN and infinity aren't JSON, and would end every page."""
    shown = make_shown(0)
    found = shown.answers["slim"].detections
    found.boxes[0, 0], found.boxes[1, 2], found.scores[0] = np.nan, np.inf, np.nan
    text = json.dumps(frame_details(shown), allow_nan=False)
    assert json.loads(text)["answers"]["slim"]["boxes"][0][0] == 0


def test_a_slow_encoder_skips_frames() -> None:
    """While one frame is drawn, only the newest of those that come is kept, and giving one never waits."""
    may_draw, drawn = threading.Event(), []

    def slowly(shown: Shown) -> np.ndarray:
        may_draw.wait(60)
        drawn.append(shown.sequence)
        return shown.frame.image

    with Hub(slowly) as hub, hub.watching("boxes"):
        give(hub, 0)
        for index in range(1, 50):
            hub.shown(make_shown(index, size=(32, 32)))
        may_draw.set()
        wait_until(lambda: len(drawn) == 2)
    assert drawn == [0, 49]


def test_a_frame_that_cannot_be_drawn_is_no_end() -> None:
    """It is counted with its reason, and the next one is shown."""

    def fails_once(shown: Shown) -> np.ndarray:
        if shown.sequence == 0:
            raise ValueError("no such colour")
        return shown.frame.image

    with Hub(fails_once) as hub, hub.watching("boxes"):
        hub.shown(make_shown(0))
        wait_until(lambda: hub.failed)
        assert hub.reason == "ValueError: no such colour"
        give(hub, 1)
        wait_until(lambda: hub.ready("boxes"))
    assert (hub.failed, hub.encoded) == (1, 1)


def test_quality_out_of_range_is_refused() -> None:
    """OpenCV would take it silently."""
    with pytest.raises(SlimError, match="from 1 to 100, got 0"):
        Hub(draw_slim, quality=0)


def test_before_the_first_frame_there_is_nothing() -> None:
    """No picture, no age."""
    hub = Hub(draw_slim)
    assert hub.picture("plain") is None
    assert hub.age_s is None
    hub.stop()


def test_objects_without_a_track_have_none() -> None:
    """The page shows no number for them."""
    tracked = replace(make_shown(0), track_ids=(0, 7))
    assert frame_details(tracked)["track_ids"] == [None, 7]
    assert frame_details(make_shown(0))["track_ids"] == []
