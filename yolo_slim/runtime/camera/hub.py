"""From shown frames to pictures for any number of viewers: each is encoded once, and only the newest is kept."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.details import frame_details
from yolo_slim.runtime.camera.frame import Shown, Slot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VARIANTS = ("plain", "boxes")
"""The picture alone, and with what was found drawn into it."""
QUALITY = 80
_WAIT_S = 0.25
_STOP_S = 5.0

Draw = Callable[[Shown], "NDArray[np.uint8]"]
"""Draws what was found into a copy of the frame; (H, W, 3) uint8 BGR."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One shown frame as JPEG, with what was found in it."""

    sequence: int
    captured_s: float
    jpeg: bytes
    details: str
    """The JSON object of :func:`frame_details`, of the same frame."""


@dataclass(frozen=True, kw_only=True)
class Newest:
    """The newest shown frame and its JSON, made once for all viewers."""

    shown: Shown
    details: str

    @property
    def sequence(self) -> int:
        """Shown frames before it."""
        return self.shown.sequence

    @property
    def captured_s(self) -> float:
        """``time.monotonic()`` when the frame arrived."""
        return self.shown.frame.captured_s


class Hub:
    """Takes shown frames from the camera's thread and encodes them in a thread of its own.

    ``shown`` never waits. A frame that the encoder doesn't reach in time is skipped, so memory stays the same however
    slow the encoder or the viewers are.
    """

    def __init__(self, draw: Draw, quality: int = QUALITY) -> None:
        if not 1 <= quality <= 100:
            raise SlimError(f"The JPEG quality must be from 1 to 100, got {quality}.", remedy=f"{QUALITY} looks good.")
        self._draw = draw
        self._quality = [cv2.IMWRITE_JPEG_QUALITY, quality]
        self._slot: Slot[Shown] = Slot()
        self._newest: Newest | None = None
        self._pictures: dict[str, Picture] = {}
        self._watched: Counter[str] = Counter()
        self._listeners: list[Callable[[], None]] = []
        self._counting, self._encoding = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera-hub", daemon=True)
        self.encoded = 0
        """Pictures that were encoded."""
        self.failed = 0
        """Frames that couldn't be drawn or encoded."""
        self.reason = ""
        """Why the last of them couldn't."""

    def start(self) -> None:
        """Begin to encode."""
        self._thread.start()

    def stop(self) -> None:
        """End the encoder; never raises."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def __enter__(self) -> Hub:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def shown(self, shown: Shown) -> None:
        """Take a frame; for the camera's callback."""
        self._slot.put(shown)

    def on_newest(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` in the hub's thread after every frame; it must not wait."""
        self._listeners.append(listener)

    @contextmanager
    def watching(self, variant: str) -> Iterator[None]:
        """Have a variant encoded while the block runs."""
        with self._counting:
            self._watched[variant] += 1
        try:
            yield
        finally:
            with self._counting:
                self._watched[variant] -= 1

    @property
    def watchers(self) -> dict[str, int]:
        """How many watch each variant."""
        with self._counting:
            return {variant: self._watched[variant] for variant in VARIANTS}

    @property
    def newest(self) -> Newest | None:
        """The newest frame, None before the first."""
        return self._newest

    @property
    def age_s(self) -> float | None:
        """Age of the newest frame, seconds; None before the first."""
        newest = self._newest
        return None if newest is None else time.monotonic() - newest.captured_s

    def ready(self, variant: str) -> Picture | None:
        """The newest picture that is encoded already; never waits."""
        return self._pictures.get(variant)

    def picture(self, variant: str) -> Picture | None:
        """The newest frame as a picture, encoded now if it wasn't; None before the first frame.

        Raises:
            SlimError: it can't be drawn or encoded.
        """
        with self._encoding:
            newest, made = self._newest, self._pictures.get(variant)
            if newest is None or (made is not None and made.sequence == newest.sequence):
                return made
            self._pictures[variant] = made = self._encode(newest, variant)
            return made

    def _encode(self, newest: Newest, variant: str) -> Picture:
        image = self._draw(newest.shown) if variant == "boxes" else newest.shown.frame.image
        is_done, jpeg = cv2.imencode(".jpg", image, self._quality)
        if not is_done:
            raise SlimError(f"OpenCV {cv2.__version__} can't encode a picture of {image.shape} as JPEG.")
        self.encoded += 1
        return Picture(
            sequence=newest.sequence, captured_s=newest.captured_s, jpeg=jpeg.tobytes(), details=newest.details
        )

    def _run(self) -> None:
        while not self._stopped.is_set():
            shown = self._slot.take(_WAIT_S)
            if shown is not None:
                self._take(shown)

    def _take(self, shown: Shown) -> None:
        """Publish one frame. One that can't be drawn is counted: the next may be fine, so the thread goes on."""
        try:
            self._newest = Newest(shown=shown, details=json.dumps(frame_details(shown)))
            for variant, count in self.watchers.items():
                if count:
                    self.picture(variant)
        except Exception as error:
            self.failed += 1
            self.reason = f"{type(error).__name__}: {error}"
        for listener in self._listeners:
            listener()
