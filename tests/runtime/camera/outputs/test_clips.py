"""Clips of what happened, and the disk that they may take."""

from __future__ import annotations

import os
from collections import namedtuple
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.shown_frames import CONTEXT, detections, shown
from tests.helpers.waiting import wait_until
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs import budget, movie
from yolo_slim.runtime.camera.outputs.budget import DiskBudget, clip_name, our_clips
from yolo_slim.runtime.camera.outputs.clips import Clips, ClipSettings
from yolo_slim.runtime.camera.outputs.layout import Zone
from yolo_slim.runtime.camera.outputs.movie import FORMATS, Format, write_movie
from yolo_slim.runtime.camera.outputs.ring import Ring, still
from yolo_slim.runtime.camera.outputs.trigger import Trigger, TriggerSettings
from yolo_slim.runtime.camera.outputs.zones import Seen

NOBODY, SOMEONE = detections([]), detections([(50, 20, 90, 90)])
Usage = namedtuple("Usage", "total used free")


def clips_in(folder: Path, said: list[str], **settings: Any) -> Clips:
    """Clips of four seconds about people."""
    trigger = TriggerSettings(class_ids=frozenset({0}), least_s=0.3)
    usual = {"trigger": trigger, "seconds": 4.0, "free_mb": 0.0, "rate": 10.0}
    return Clips(ClipSettings(folder=folder, **{**usual, **settings}), CONTEXT, said.append)


def play(clips: Clips, *parts: tuple[Any, int], start_s: float = 0.0) -> float:
    """Let frames through, twenty each second, as fast as they are compressed; the time after them."""
    for found, count in parts:
        for _ in range(count):
            clips.shown(shown(found, start_s))
            start_s += 0.05
            wait_until(lambda: not clips.pending)
    return start_s


def test_a_clip_shows_what_was_before_and_after(tmp_path: Path) -> None:
    """A person comes after five seconds: one clip of four seconds at ten pictures per second, person and none."""
    said: list[str] = []
    clips = clips_in(tmp_path, said)
    play(clips, (NOBODY, 100), (SOMEONE, 100))
    clips.close()
    (path,) = our_clips(tmp_path)
    assert said == [f"Clip: {path}"]
    reader = cv2.VideoCapture(str(path))
    pictures = [reader.read()[1] for _ in range(int(reader.get(cv2.CAP_PROP_FRAME_COUNT)))]
    assert reader.get(cv2.CAP_PROP_FPS) == 10
    assert 38 <= len(pictures) <= 41
    has_box = [bool(np.ptp(picture[30:80, 45:95]) > 60) for picture in pictures]
    assert not any(has_box[:15])
    assert all(has_box[-15:])
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_someone_who_stays_gives_one_clip_and_someone_who_returns_another(tmp_path: Path) -> None:
    """Not a clip every few seconds."""
    clips = clips_in(tmp_path, [])
    play(clips, (SOMEONE, 300), (NOBODY, 40), (SOMEONE, 100))
    clips.close()
    assert len(our_clips(tmp_path)) == 2


def test_a_clip_whose_second_half_is_missing_is_written_at_the_end(tmp_path: Path) -> None:
    """The camera is stopped while someone is there."""
    clips = clips_in(tmp_path, [])
    play(clips, (SOMEONE, 20))
    assert not our_clips(tmp_path)
    clips.close()
    assert len(our_clips(tmp_path)) == 1


def test_a_source_that_is_lost_after_an_event_does_not_lose_its_clip(tmp_path: Path) -> None:
    """The next frame comes a minute later: what was before it is written."""
    clips = clips_in(tmp_path, [])
    after_s = play(clips, (SOMEONE, 20))
    play(clips, (NOBODY, 1), start_s=after_s + 60)
    clips.close()
    (path,) = our_clips(tmp_path)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) >= 9


def test_a_clip_on_request(tmp_path: Path) -> None:
    """Without any trigger; before the first picture there is none."""
    clips = clips_in(tmp_path, [], trigger=None)
    with pytest.raises(SlimError, match="no picture yet"):
        clips.save()
    play(clips, (SOMEONE, 30))
    path = clips.save()
    clips.close()
    assert our_clips(tmp_path) == [path]


def test_what_starts_a_clip() -> None:
    """The class, in the zone, long enough, once."""
    zone = Zone(name="x", points=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))

    def fired(seen: Seen, count: int = 20, **settings: Any) -> int:
        trigger = Trigger(TriggerSettings(class_ids=frozenset({0}), **settings))
        return sum(trigger.update([seen], index / 10) for index in range(count))

    left, right = (Seen(class_id=0, track=0, at=(x, 0.5)) for x in (0.2, 0.8))
    assert fired(left) == fired(left, zone=zone) == 1
    assert fired(right, zone=zone) == fired(Seen(class_id=1, track=0, at=(0.2, 0.5))) == 0
    assert fired(left, count=5) == fired(left, least_s=3.0) == 0


def test_the_ring_is_bounded_in_time_and_bytes() -> None:
    """Hours of pictures take as much memory as seconds."""
    noise = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)
    size = len(still(noise, 0.0).jpeg)
    by_time, by_bytes = Ring(seconds=2, most_bytes=10**9), Ring(seconds=10**6, most_bytes=10 * size + 5)
    for index in range(200):
        by_time.add(still(noise, index / 10))
        by_bytes.add(still(noise, index / 10))
    assert len(by_time.stills()) == 21
    assert len(by_bytes.stills()) == 10
    assert by_bytes.size_bytes == 10 * size
    too_small = Ring(seconds=9, most_bytes=10)
    too_small.add(still(noise, 0.0))
    assert (too_small.stills(), too_small.size_bytes) == ((), 0)


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.fourcc)
def test_a_movie_has_the_time_of_its_pictures(known: Format, tmp_path: Path) -> None:
    """A gap of a second is a second in the video; odd sizes work; pictures of another size are left out."""
    small = np.zeros((31, 41, 3), np.uint8)
    times = [0.0, 0.1, 0.2, 1.2, 1.3]
    stills = [still(np.zeros((90, 90, 3), np.uint8), -1.0), *(still(small, one) for one in times)]
    path = tmp_path / f"a{known.suffix}"
    write_movie(path, stills, known, 10.0)
    reader = cv2.VideoCapture(str(path))
    assert (reader.get(cv2.CAP_PROP_FRAME_COUNT), reader.read()[1].shape[0]) == (14, 30)


def test_a_movie_that_is_not_complete_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV says nothing on a full disk: the frames are counted, and the part is removed."""
    stills = [still(np.zeros((32, 32, 3), np.uint8), index / 10) for index in range(10)]
    monkeypatch.setattr(movie, "frames_in", lambda _: 6)
    with pytest.raises(SlimError, match="wrote 6 of the 10 frames"):
        write_movie(tmp_path / "a.mp4", stills, FORMATS[0], 10.0)
    assert not list(tmp_path.iterdir())


def old_clips(folder: Path, sizes: list[int]) -> list[Path]:
    """Clips of earlier hours, the oldest first."""
    paths = [folder / clip_name(datetime(2026, 1, 1, hour, tzinfo=timezone.utc), ".mp4") for hour in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(b"x" * size)
    return paths


def test_the_oldest_clips_go_and_nothing_else(tmp_path: Path) -> None:
    """Files of others, links and folders stay, whatever their names."""
    first, _, third = old_clips(tmp_path, [400, 400, 400])
    outside = tmp_path.with_name("outside.mp4")
    outside.write_bytes(b"x" * 400)
    link, folder = (tmp_path / clip_name(datetime(2020, 1, day), ".mp4") for day in (1, 2))
    link.symlink_to(outside)
    folder.mkdir()
    others = [tmp_path / name for name in ("holiday.mp4", "yolo_slim-clip-mine.mp4", f"{first.name}.bak")]
    for other in others:
        other.write_bytes(b"x" * 400)
    DiskBudget(folder=tmp_path, budget_mb=0.001, free_mb=0).make_room(500)
    assert set(tmp_path.iterdir()) == {third, link, folder, *others}
    assert outside.exists()


def test_some_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it isn't free without our clips, nothing is written: other programs need the rest."""
    paths = old_clips(tmp_path, [100, 100])
    monkeypatch.setattr(budget.shutil, "disk_usage", lambda _: Usage(1, 1, 10**6 - 100 * len(our_clips(tmp_path))))
    disk = DiskBudget(folder=tmp_path, budget_mb=1, free_mb=0.9)
    disk.make_room(99_850)
    assert our_clips(tmp_path) == paths[1:]
    with pytest.raises(SlimError, match="1 MB free, too few for a clip"):
        disk.make_room(200_000)


def test_a_clip_larger_than_the_budget_is_refused(tmp_path: Path) -> None:
    """It would remove all others and still not fit."""
    paths = old_clips(tmp_path, [100])
    with pytest.raises(SlimError, match="larger than the budget of 1 MB"):
        DiskBudget(folder=tmp_path, budget_mb=1, free_mb=0).make_room(2_000_000)
    assert our_clips(tmp_path) == paths


def test_a_clip_without_room_does_not_stop_frames(tmp_path: Path) -> None:
    """It is said and counted."""
    said: list[str] = []
    clips = clips_in(tmp_path, said, free_mb=1e9)
    play(clips, (SOMEONE, 100))
    clips.close()
    assert clips.faults.lost == 1
    assert "too few for a clip" in said[0]
    assert not list(tmp_path.iterdir())


def test_parts_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    """A power cut leaves one behind; whole clips stay."""
    (path,) = old_clips(tmp_path, [10])
    (tmp_path / budget.part_name(path.name)).write_bytes(b"x")
    (tmp_path / ".hidden.part.mp4").write_bytes(b"x")
    clips_in(tmp_path, []).close()
    assert {one.name for one in tmp_path.iterdir()} == {path.name, ".hidden.part.mp4"}


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """With a message, before the camera opens."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SlimError, match="can't be written") as caught:
        clips_in(tmp_path / "file", [])
    assert "--clips" in caught.value.remedy


def test_a_full_disk_at_the_start_is_not_the_fault_of_opencv(tmp_path: Path) -> None:
    """The message names the disk, not packages to install."""
    (tmp_path / movie.PROBE).symlink_to("/dev/full")
    with pytest.raises(SlimError, match="disk is full"):
        clips_in(tmp_path, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").is_dir(), reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_at_the_start() -> None:
    """As root too: nobody may make folders in /proc."""
    with pytest.raises(SlimError):
        clips_in(Path("/proc/self/clips"), [])


def test_an_opencv_that_writes_no_videos_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first format that works is taken; without any the message says what to install."""
    monkeypatch.setattr(movie, "FORMATS", (Format(suffix=".mp4", fourcc="XXXX"), FORMATS[1]))
    assert movie.usable_format(tmp_path) == FORMATS[1]
    monkeypatch.setattr(movie, "FORMATS", (Format(suffix=".mp4", fourcc="XXXX"),))
    with pytest.raises(SlimError, match="can't write videos here"):
        movie.usable_format(tmp_path)
    assert not list(tmp_path.iterdir())
