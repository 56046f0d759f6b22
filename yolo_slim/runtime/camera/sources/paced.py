"""Frames that come from a file or are rendered, given at a steady rate as a camera would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MakeFrame = Callable[[], "NDArray[np.uint8]"]
"""Gives one frame, (H, W, 3) uint8 BGR: a frame that is skipped isn't made."""
_MOST_SKIPPED_S = 1.0


@dataclass(kw_only=True)
class Clock:
    """The time, and a wait: tests give their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


@dataclass(kw_only=True)
class PacedSource:
    """A source over frames that wait for us.

    With a rate, frame number n is given n / rate seconds after the first one; when the next one is due too, it is
    skipped. At most one second is skipped at once: a file that decodes slower than it plays is shown, but slower.
    """

    name: str
    frames: Iterator[MakeFrame]
    rate: float | None
    """Frames per second; None: as fast as they are taken, and none is skipped."""
    is_live: bool = False
    clock: Clock = field(default_factory=Clock)
    _start_s: float | None = None
    """When frame 0 was due; None: the frame at hand decides."""
    _taken: int = 0
    """Frames that were given or skipped."""

    def read(self) -> NDArray[np.uint8] | None:
        """The frame that is due, (H, W, 3) uint8 BGR; None: the end."""
        make = self._next()
        if make is not None and self.rate is not None:
            make = self._due(make, 1 / self.rate)
        return None if make is None else make()

    def close(self) -> None:
        """Close the file."""
        close = getattr(self.frames, "close", None)
        # A generator that another thread runs refuses to be closed; it ends with that thread.
        with suppress(ValueError):
            if close is not None:
                close()

    def _due(self, make: MakeFrame, interval_s: float) -> MakeFrame | None:
        """Skip to the frame that is due, and wait until it is; None: the file ended before."""
        for _ in range(max(1, int(_MOST_SKIPPED_S / interval_s))):
            if self._wait_s(interval_s) > -interval_s:
                break
            following = self._next()
            if following is None:
                return None
            make = following
        else:
            self._start_s = None
        self.clock.sleep(max(0.0, self._wait_s(interval_s)))
        return make

    def _next(self) -> MakeFrame | None:
        self._taken += 1
        return next(self.frames, None)

    def _wait_s(self, interval_s: float) -> float:
        """How long until the frame at hand is due; negative: for how long it has been."""
        now, offset_s = self.clock.now(), (self._taken - 1) * interval_s
        if self._start_s is None:
            self._start_s = now - offset_s
        return self._start_s + offset_s - now
