"""Sources that do what a script says: give frames, stall, break, change size, end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tests.helpers.tiny_detector import scene
from yolo_slim.runtime.camera.frame import SourceLost
from yolo_slim.runtime.detector import Detections, StageTimes

Step = Any
"""An image or None to give, an exception to raise, or a function that is called and whose answer is given."""


class Scripted:
    """A source that follows its steps; after the last one it is at its end."""

    def __init__(self, steps: Iterable[Step], *, is_live: bool = False, name: str = "script") -> None:
        self.name, self.is_live, self.closed = name, is_live, 0
        self._steps: Iterator[Step] = iter(steps)

    def read(self) -> Any:
        """Do the next step."""
        step = next(self._steps, None)
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


class Opener:
    """Opens one source after another; the last one again and again. A step may be an exception to raise."""

    def __init__(self, *sources: Any) -> None:
        self.opened: list[Any] = []
        self._sources = list(sources)

    def __call__(self) -> Any:
        """Open the next one."""
        source = self._sources[min(len(self.opened), len(self._sources) - 1)]
        self.opened.append(source)
        if isinstance(source, BaseException):
            raise source
        return source() if callable(source) else source


def frames(count: int, height: int = 64, width: int = 64) -> list[Any]:
    """So many images with a red and a blue square."""
    return [scene(height, width)] * count


def endless() -> Iterator[Any]:
    """Images without an end, as fast as they are taken, but never without a pause for other threads."""
    while True:
        time.sleep(0.001)
        yield scene()


def blocker() -> tuple[Callable[[], Any], threading.Event]:
    """A step that blocks until the event is set, and then gives a frame."""
    free = threading.Event()

    def block() -> Any:
        free.wait(60)
        return scene()

    return block, free


def lost(text: str = "The camera was unplugged.") -> SourceLost:
    """What a source raises when it is gone."""
    return SourceLost(text, remedy="Plug it in again.")


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something that other threads bring about; fail when it doesn't come."""
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, "It didn't happen in time."
        time.sleep(0.005)


class FakeDetector:
    """Finds one object of each class 0, 1 and 2 in every frame; ``fail`` may raise, ``seen`` are the thresholds."""

    def __init__(self, fail: Callable[[int], None] = lambda _: None) -> None:
        self.seen: list[float | None] = []
        self._fail = fail

    def timed(self, image: Any, conf: float | None = None) -> tuple[Detections, StageTimes]:
        """Answer as a detector does."""
        self.seen.append(conf)
        self._fail(len(self.seen) - 1)
        boxes = np.array([[0, 0, 8, 8], [8, 8, 16, 16], [16, 16, 24, 24]], np.float32)
        found = Detections(boxes=boxes, scores=np.array([0.9, 0.8, 0.7], np.float32), class_ids=np.arange(3))
        return found, StageTimes(pre_ms=1, infer_ms=2, post_ms=1, total_ms=4)
