"""A live source's frames, read by a thread of its own: the newest one is taken, so that no lag can grow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Slot, SourceLost
from yolo_slim.runtime.camera.sources.options import SourceSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_END_S = 2.0
"""Longest wait for the reading thread when a source is closed."""


class Feed(Protocol):
    """What a camera, a stream or another program gives. Read by one thread, which also closes it."""

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 BGR, as soon as it is there; may block.

        Raises:
            SourceLost: there is none any more.
        """

    def interrupt(self) -> None:
        """End a blocked :meth:`read`, where that is possible; called by another thread."""

    def close(self) -> None:
        """Free everything."""


class NewestFrame:
    """A live :class:`~yolo_slim.runtime.camera.frame.Source` over a feed."""

    is_live = True

    def __init__(self, spec: SourceSpec, feed: Feed) -> None:
        """Start to read, and wait for the first frame.

        Raises:
            SourceLost: none came within ``open_limit_s``, or the feed broke.
        """
        self.name = spec.name
        self._limit_s = spec.options.read_limit_s
        self._feed = feed
        self._is_closed = threading.Event()
        self._slot: Slot[NDArray[np.uint8] | SlimError] = Slot()
        self._problem: SlimError | None = None
        self._thread = threading.Thread(target=self._drain, name=f"camera {spec.name}", daemon=True)
        self._thread.start()
        self._first: NDArray[np.uint8] | None = None
        try:
            self._first = self._take(spec.options.open_limit_s)
        except SlimError:
            self.close()
            raise

    def read(self) -> NDArray[np.uint8]:
        """The newest frame, (H, W, 3) uint8 BGR; waits for one that wasn't taken yet.

        Raises:
            SourceLost: none came within ``read_limit_s``, the feed broke, or the source is closed.
        """
        first, self._first = self._first, None
        if first is None or self._problem:
            return self._take(self._limit_s)
        newer = self._slot.take(0)
        return self._frame(newer) if newer is not None else first

    def close(self) -> None:
        """End the reading; a feed that blocks for good keeps its thread, but the program can end."""
        self._is_closed.set()
        self._feed.interrupt()
        if self._thread is not threading.current_thread():
            self._thread.join(_END_S)

    def _take(self, limit_s: float) -> NDArray[np.uint8]:
        if self._problem:
            raise self._problem
        item = self._slot.take(limit_s)
        if item is None:
            raise SourceLost(f"{self.name} gave no frame for {limit_s:g} s.", remedy="Check the camera and its cable.")
        return self._frame(item)

    def _frame(self, item: NDArray[np.uint8] | SlimError) -> NDArray[np.uint8]:
        if isinstance(item, SlimError):
            raise item
        return item

    def _drain(self) -> None:
        try:
            while not self._is_closed.is_set():
                self._slot.put(self._feed.read())
            self._end(SourceLost(f"{self.name} is closed."))
        except SlimError as error:
            self._end(error)
        # A vendor's module may raise anything; in this thread it would be a traceback that nobody handles.
        except Exception as error:
            self._end(SourceLost(f"{self.name} broke: {type(error).__name__}: {error}"))
        finally:
            self._feed.close()

    def _end(self, problem: SlimError) -> None:
        self._problem = problem
        self._slot.put(problem)
