"""Live HLS: a stream that arrives in files of some seconds each, and must be shown at its own pace.

Read as fast as they come, the frames of a file are there at once, and then none until the next file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2

from yolo_slim.runtime.camera.sources.address import Address
from yolo_slim.runtime.camera.sources.capture import CaptureFeed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_JUMP_S = 10.0
"""A frame that is early or late by more belongs to another timeline: the server left files out."""
_BACK_S = 0.5
"""So does one whose time is so much before that of the frame before: the server began anew."""


def is_hls(address: Address) -> bool:
    """Whether a URL is that of a playlist."""
    return address.target.partition("?")[0].lower().endswith(".m3u8")


class Pace:
    """When each frame is due: as long after the first one as its own time says."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_s = 0.0
        """When the frame of time 0 is or was due."""
        self._last_s = float("inf")

    def wait_s(self, at_s: float) -> float:
        """Seconds until the frame of a time in the stream is due; 0: it is, or is late."""
        now_s = self._clock()
        wait_s = self._start_s + at_s - now_s
        if at_s < self._last_s - _BACK_S or abs(wait_s) > _JUMP_S:
            self._start_s, wait_s = now_s - at_s, 0.0
        self._last_s = at_s
        return max(0.0, wait_s)


class HlsFeed(CaptureFeed):
    """Frames of an open live playlist, each at its time. After a stall the late ones are given at once."""

    def __init__(self, name: str, capture: Any) -> None:
        super().__init__(name, capture)
        self._times = capture
        self._pace = Pace()
        self._is_over = threading.Event()

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 BGR, when it is due.

        Raises:
            SourceLost: the stream broke, or its time limit passed.
        """
        image = super().read()
        self._is_over.wait(self._pace.wait_s(self._times.get(cv2.CAP_PROP_POS_MSEC) / 1000))
        return image

    def interrupt(self) -> None:
        """Don't wait for a frame's time any more."""
        self._is_over.set()
