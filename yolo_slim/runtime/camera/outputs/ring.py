"""The last seconds of a camera in memory, as JPEGs."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

JPEG_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class Still:
    """One picture of the ring."""

    jpeg: bytes
    time_s: float
    """``time.monotonic()`` of its capture."""
    size_hw: tuple[int, int]

    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR."""
        # Our own JPEG, so it can be decoded: the answer is never None.
        return np.asarray(cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def still(image: NDArray[np.uint8], time_s: float) -> Still:
    """Compress an image, (H, W, 3) uint8 BGR."""
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return Still(jpeg=jpeg, time_s=time_s, size_hw=(image.shape[0], image.shape[1]))


class Ring:
    """Keeps pictures up to an age and a number of bytes; whatever is older or too much is forgotten."""

    def __init__(self, *, seconds: float, most_bytes: int) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._stills: deque[Still] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, new: Still) -> None:
        """Take the newest picture."""
        with self._lock:
            self._stills.append(new)
            self._bytes += len(new.jpeg)
            while self._stills and self._is_too_much(new.time_s):
                self._bytes -= len(self._stills.popleft().jpeg)

    @property
    def size_bytes(self) -> int:
        """What the pictures take."""
        return self._bytes

    def stills(self) -> tuple[Still, ...]:
        """All pictures, the oldest first."""
        with self._lock:
            return tuple(self._stills)

    def _is_too_much(self, now_s: float) -> bool:
        return self._bytes > self._most_bytes or now_s - self._stills[0].time_s > self._seconds
