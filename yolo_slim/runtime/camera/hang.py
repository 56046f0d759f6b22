"""A frame that never comes back: a stuck accelerator or driver. Nothing inside the process can end such a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from yolo_slim.errors import SlimError

MAX_STALL_S = 60.0
"""Seconds that one frame may take before the model counts as hanging."""


class ModelHung(SlimError):
    """The model doesn't answer any more. Its thread can't be ended and its memory can't be freed: leave the process."""


class FrameWatch:
    """The frame that one thread works on, watched by another one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_s: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark the work on one frame."""
        self._since_s = self._clock()
        try:
            yield
        finally:
            self._since_s = None

    def problem(self, limit_s: float) -> ModelHung | None:
        """Why the frame at hand is given up; None: it isn't."""
        since_s = self._since_s
        if since_s is None or self._clock() - since_s < limit_s:
            return None
        return ModelHung(
            f"The model hasn't finished a frame for {limit_s:g} s: it or its driver hangs.",
            remedy="Start the camera again; a service does that by itself. If it hangs again, restart the device. "
            "--max-stall sets the limit.",
        )
