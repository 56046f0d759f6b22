"""Ids of objects that move, hide, meet and leave."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.shown_frames import Box, detections
from yolo_slim.runtime.boxes import iou
from yolo_slim.runtime.camera.outputs.motion import moved, observed, predicted_boxes, started
from yolo_slim.runtime.camera.outputs.tracking import NO_TRACK, Tracker, TrackerSettings, best_pairs


def box_at(x: float, y: float = 50) -> Box:
    """A box of 40 x 60 pixels around a point."""
    return (x - 20, y - 30, x + 20, y + 30)


def test_an_object_keeps_its_id() -> None:
    """From the second frame on it has one, and one only."""
    tracker = Tracker()
    ids = [tracker.update(detections([box_at(100 + 8 * i)]), i / 30) for i in range(60)]
    assert ids == [(NO_TRACK,), *[(1,)] * 59]


def test_ids_do_not_depend_on_the_frame_rate() -> None:
    """At five irregular frames per second a moving object keeps its id."""
    tracker, times = Tracker(), np.cumsum(np.random.default_rng(0).uniform(0.1, 0.3, 30))
    ids = [tracker.update(detections([box_at(100 + 60 * t)]), t) for t in times.tolist()]
    assert set(ids[1:]) == {(1,)}


def test_an_object_that_hides_comes_back_as_itself() -> None:
    """For half a second it isn't seen, and moves on as before meanwhile."""
    tracker = Tracker()
    seen = {i: tracker.update(detections([box_at(100 + 5 * i)] if not 20 <= i < 35 else []), i / 30) for i in range(60)}
    assert seen[19] == seen[35] == seen[59] == (1,)


def test_an_object_that_stays_away_is_another_one() -> None:
    """Negative control: after longer than a track waits, the id is a new one."""
    tracker = Tracker(TrackerSettings(keep_s=0.4))
    seen = {i: tracker.update(detections([box_at(100 + 5 * i)] if not 20 <= i < 35 else []), i / 30) for i in range(60)}
    assert (seen[19], seen[35], seen[59]) == ((1,), (NO_TRACK,), (2,))


def test_two_objects_that_meet_keep_their_ids() -> None:
    """They pass each other with half of their boxes in common, in whatever order the detector lists them."""
    tracker, ids = Tracker(), []
    for i in range(80):
        boxes = [box_at(100 + 5 * i, 50), box_at(500 - 5 * i, 80)]
        order = [0, 1] if i % 3 else [1, 0]
        found = tracker.update(detections([boxes[o] for o in order]), i / 30)
        ids.append((found[order.index(0)], found[order.index(1)]))
    assert set(ids[2:]) in ({(1, 2)}, {(2, 1)})


def test_a_box_of_one_frame_gets_no_id() -> None:
    """An error of the detector isn't an object."""
    tracker = Tracker()
    ids = [tracker.update(detections([box_at(300)] if i % 2 else []), i / 30) for i in range(10)]
    assert {one for found in ids for one in found} == {NO_TRACK}


def test_a_weak_box_continues_a_track_and_starts_none() -> None:
    """ByteTrack's idea: a hidden object's score falls, its track stays."""
    tracker = Tracker()
    scores = [0.9, 0.9, 0.3, 0.3, 0.3]
    ids = [tracker.update(detections([box_at(100)], [score]), i / 30) for i, score in enumerate(scores)]
    assert ids[1:] == [(1,)] * 4
    alone = Tracker()
    assert {alone.update(detections([box_at(100)], [0.3]), i / 30) for i in range(5)} == {(NO_TRACK,)}


def crowd(frames: int) -> Iterator[tuple[list[int], list[Box], float]]:
    """Twelve people who walk about, with noise, and one of ten boxes missing; who, where, when."""
    random = np.random.default_rng(3)
    at, speed = random.uniform([0, 0], [1280, 720], (12, 2)), random.normal(0, 80, (12, 2))
    for frame in range(frames):
        at = at + speed / 30
        noisy = at + random.normal(0, 1.5, at.shape)
        who = [int(one) for one in random.permutation(12) if random.random() > 0.1]
        yield who, [box_at(*noisy[one].tolist()) for one in who], frame / 30


def test_a_crowd_keeps_its_ids() -> None:
    """In ten seconds of a simulated crowd at most two ids change, and nearly every box has one."""
    tracker, last, changes, without = Tracker(), dict[int, int](), 0, 0
    for who, boxes, time_s in crowd(300):
        for one, track in zip(who, tracker.update(detections(boxes), time_s), strict=True):
            if track == NO_TRACK:
                without += 1
                continue
            changes += last.get(one, track) != track
            last[one] = track
    assert changes <= 2
    assert without <= 30


def kalman_filter() -> Any:
    """Ultralytics' filter; from its file, because its package needs another one that we don't have."""
    package = importlib.util.find_spec("ultralytics")
    if package is None or package.origin is None:
        pytest.skip("ultralytics isn't installed")
    path = Path(package.origin).parent / "trackers/utils/kalman_filter.py"
    spec = importlib.util.spec_from_file_location("kalman_filter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KalmanFilterXYWH()


def test_motion_equals_ultralytics() -> None:
    """At 30 frames per second the filter is KalmanFilterXYWH, for a moving and for a lost object."""
    kalman = kalman_filter()
    box = np.array([[80.0, 20, 120, 80]])
    mean, covariance = kalman.initiate(np.array([100.0, 50, 40, 60]))
    ours = started(box)
    for step in range(12):
        is_lost = step in (4, 5)
        if is_lost:
            mean[6:] = 0
        mean, covariance = kalman.predict(mean, covariance)
        ours = moved(ours, 1 / 30, np.array([is_lost]))
        if not is_lost:
            box = np.add(box, [3, -1, 4, 1])
            center = np.array([(box[0, 0] + box[0, 2]) / 2, (box[0, 1] + box[0, 3]) / 2, *(box[0, 2:] - box[0, :2])])
            mean, covariance = kalman.update(mean, covariance, center)
            ours = observed(ours, box)
        assert np.allclose(ours[0, :2].ravel(), mean, rtol=1e-9)
        assert np.allclose(ours[0, 2], np.diag(covariance)[:4], rtol=1e-9)


def test_two_half_steps_move_as_far_as_one() -> None:
    """The time between frames counts, not their number."""
    state = observed(
        moved(started(np.array([[0.0, 0, 40, 40]])), 1 / 30, np.array([False])), np.array([[5.0, 0, 45, 40]])
    )
    whole = moved(state, 0.2, np.array([False]))
    halves = moved(moved(state, 0.1, np.array([False])), 0.1, np.array([False]))
    assert np.allclose(predicted_boxes(whole), predicted_boxes(halves))


def test_overlap_and_pairs() -> None:
    """IoU of known boxes; the largest overlaps are paired, each box once, none that is too small."""
    first = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    second = np.array([[0.0, 0, 10, 5], [0, 0, 10, 10], [29, 0, 39, 10]])
    overlap = iou(first, second)
    assert overlap == pytest.approx(np.array([[0.5, 1, 0], [0, 0, 10 / 190]]))
    assert best_pairs(overlap, 0.2) == [(0, 1)]
    assert best_pairs(overlap, 0.05) == [(0, 1), (1, 2)]
    assert best_pairs(np.zeros((0, 3)), 0.2) == []


def test_a_box_without_area_is_harmless() -> None:
    """Detectors give such boxes at the edge of a picture."""
    tracker = Tracker()
    ids = [tracker.update(detections([(10, 10, 10, 10), box_at(100)]), i / 30) for i in range(5)]
    assert ids[-1] == (NO_TRACK, 1)
