"""Videos, images and the scene as sources, and how frames are turned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Source
from yolo_slim.runtime.camera.sources import SourceOptions, open_source, parse_source
from yolo_slim.runtime.camera.sources.paced import Clock, PacedSource

FRAMES, FPS = 10, 20.0
AT_ONCE = SourceOptions(paced=False)


class FakeClock(Clock):
    """A clock that only moves when it is told to, or when someone sleeps."""

    def __init__(self) -> None:
        self.time_s = 100.0
        super().__init__(now=lambda: self.time_s, sleep=self.move)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.time_s += seconds


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video whose frames are 0, 20, 40 ... grey."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), number * 20, np.uint8))
    writer.release()
    return path


def opened(text: object, options: SourceOptions = AT_ONCE) -> Source:
    """Parse and open a source."""
    return open_source(parse_source(str(text), options))


def greys(source: Source, count: int = 1000) -> list[int]:
    """Return what the frames of a video show: 0, 1, 2 ..."""
    found = []
    while len(found) < count and (image := source.read()) is not None:
        found.append(round(float(image.mean()) / 20))
    return found


def numbers(count: int) -> list[Callable[[], np.ndarray]]:
    """Return what makes frames that are 0, 1, 2 ... grey."""
    return [lambda value=value: np.full((2, 2, 3), value, np.uint8) for value in range(count)]


def test_video(video: Path) -> None:
    """Without a pace every frame of a video is given once, and it isn't live."""
    source = opened(video)
    assert (source.name, source.is_live) == ("a.avi", False)
    assert greys(source) == list(range(FRAMES))
    source.close()


def test_video_in_a_loop(video: Path) -> None:
    """On request a video begins again at its end."""
    source = opened(video, SourceOptions(paced=False, loop=True))
    assert greys(source, FRAMES + 3) == [*range(FRAMES), 0, 1, 2]


def test_video_at_its_own_rate(video: Path) -> None:
    """The rate is the video's, or the one that is asked for."""
    assert opened(video, SourceOptions()).rate == FPS  # type: ignore[attr-defined]
    assert opened(video, SourceOptions(rate=5)).rate == 5  # type: ignore[attr-defined]
    assert opened(video).rate is None  # type: ignore[attr-defined]


def test_pace_waits() -> None:
    """Frames that are taken at once come at the source's rate."""
    clock = FakeClock()
    source = PacedSource(name="a", frames=iter(numbers(5)), rate=10, clock=clock)
    times = [(source.read()[0, 0, 0], round(clock.time_s - 100, 6)) for _ in range(5)]
    assert times == [(0, 0), (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert source.read() is None


def test_pace_skips_what_nobody_took() -> None:
    """After 0.35 s of other work the frame of that moment is given, as by a camera; without a pace the next one is."""
    given = []
    for rate in (10, None):
        clock = FakeClock()
        source = PacedSource(name="a", frames=iter(numbers(20)), rate=rate, clock=clock)
        source.read()
        clock.move(0.35)
        given.append([int(source.read()[0, 0, 0]) for _ in range(2)])
    assert given == [[3, 4], [1, 2]]


def test_skipped_frames_are_not_made() -> None:
    """What is skipped isn't rendered."""
    made: list[int] = []
    clock = FakeClock()
    frames = iter([lambda value=value: made.append(value) or np.zeros((2, 2, 3), np.uint8) for value in range(20)])
    source = PacedSource(name="a", frames=frames, rate=10, clock=clock)
    source.read()
    clock.move(0.55)
    source.read()
    assert made == [0, 5]


def test_pace_of_a_slow_file() -> None:
    """A file that decodes slower than it plays is shown all the same: at most a second is skipped at once."""
    clock = FakeClock()

    def slow(value: int) -> Callable[[], np.ndarray]:
        clock.move(0.3)
        return lambda: np.full((2, 2, 3), value, np.uint8)

    source = PacedSource(name="a", frames=map(slow, range(100)), rate=10, clock=clock)
    assert [int(source.read()[0, 0, 0]) for _ in range(3)] == [0, 11, 22]


def test_folder_of_images(tmp_path: Path) -> None:
    """Images of a folder come in order; a damaged one is left out."""
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), number * 20, np.uint8))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert greys(opened(tmp_path)) == [0, 2]


def test_file_without_a_frame(tmp_path: Path) -> None:
    """Nothing readable is said when the source is opened."""
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for path in (tmp_path / "a.mp4", tmp_path):
        with pytest.raises(SlimError, match=r"no readable frame|No image"):
            opened(path)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize(("flip", "axes"), [("", ()), ("h", (1,)), ("v", (0,)), ("hv", (0, 1))])
def test_turned(tmp_path: Path, rotate: int, flip: str, axes: tuple[int, ...]) -> None:
    """Frames are turned clockwise, then mirrored; pixels are those of NumPy's rotation."""
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    source = opened(tmp_path / "a.png", SourceOptions(paced=False, rotate=rotate, flip=flip))
    np.testing.assert_array_equal(source.read(), np.flip(np.rot90(image, -rotate // 90), axes))
    assert (source.name, source.is_live, source.read()) == ("a.png", False, None)
    source.close()


def test_scene_is_deterministic() -> None:
    """The scene is the same for equal options, of the size that is asked, moves, and has no end."""
    options = SourceOptions(paced=False, size=(200, 120), rate=10)
    first, second = (opened("scene", options) for _ in range(2))
    frames = [first.read() for _ in range(60)]
    assert all(np.array_equal(frame, second.read()) for frame in frames)
    assert frames[0].shape == (120, 200, 3)
    assert not np.array_equal(frames[0], frames[1])


def test_scene_is_like_a_camera() -> None:
    """A paced scene is live; one that waits isn't."""
    assert opened("scene", SourceOptions()).is_live
    assert not opened("scene").is_live


def test_scene_shows_what_the_bundle_detects(tiny_bundle: Path) -> None:
    """With the bundle's own images there is something to detect; without a picture in view there is nothing."""
    from yolo_slim.runtime.camera.sources.scene import scene_frame
    from yolo_slim.runtime.detector import Detector

    options = SourceOptions(paced=False, size=(320, 240), rate=1, pictures=tiny_bundle / "selfcheck")
    source = opened("scene", options)
    nothing = [np.zeros((0, 0, 3), np.uint8)]
    with Detector(tiny_bundle) as detector:
        found = [len(detector.detect(source.read())) for _ in range(20)]
        empty = len(detector.detect(scene_frame(0, (320, 240), nothing)))
    assert max(found) > 0
    assert empty == 0


def test_files_that_are_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder's other files don't go by unnoticed."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "clip.mp4").write_bytes(b"no image")
    source = open_source(parse_source(str(tmp_path), AT_ONCE))
    assert source.read() is not None
    assert "left out:" in capsys.readouterr().err
