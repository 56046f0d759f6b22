"""What the steps of the camera hand to each other: frames in, shown frames out, and only ever the newest one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from yolo_slim.errors import SlimError
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import StageTimes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Item = TypeVar("Item")


class SourceLost(SlimError):
    """A source that gave frames, or should, gives none now: the camera opens it again."""


class Source(Protocol):
    """Where frames come from. Opened and read by one thread."""

    @property
    def name(self) -> str:
        """What people call it; without a password."""

    @property
    def is_live(self) -> bool:
        """Whether time passes without us: frames that aren't taken are gone. A file waits."""

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (H, W, 3) uint8 BGR; None: the source is at its end.

        Raises:
            SourceLost: no frame within the source's time limit, or the connection broke.
        """

    def close(self) -> None:
        """Free the device; never raises."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image of a source."""

    image: NDArray[np.uint8]
    """(H, W, 3) uint8 BGR, turned and flipped as asked."""
    index: int
    """Frames that the source gave before it."""
    captured_s: float
    """``time.monotonic()`` when it arrived."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one bundle found in a frame."""

    detections: Detections
    times: StageTimes


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A frame with what was found in it: what page, window, log and outputs get."""

    frame: Frame
    answers: Mapping[str, Answer]
    """By the name of the bundle: ``slim``, and ``control`` where one runs beside it."""
    sequence: int
    """Shown frames before it."""
    ready_s: float
    """``time.monotonic()`` when the detections were there."""
    track_ids: tuple[int, ...] = ()
    """Of the slim detections, in their order; empty: nothing is tracked."""


@dataclass
class Slot(Generic[Item]):
    """Room for one item between two threads: a newer one takes the place of one that nobody took."""

    _item: Item | None = None
    _replaced: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, item: Item) -> None:
        """Leave an item; counts one that it replaces."""
        with self._changed:
            self._replaced += self._item is not None
            self._item = item
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Item | None:
        """Take the newest item; None: there was none within the time."""
        with self._changed:
            if self._item is None:
                self._changed.wait(timeout_s)
            item, self._item = self._item, None
            return item

    @property
    def replaced(self) -> int:
        """Items that were never taken."""
        return self._replaced
