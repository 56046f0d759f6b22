"""Frames from a source that may vanish, stall or block for ever: opened again and again, and never waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Frame, Slot, Source, SourceLost
from yolo_slim.runtime.camera.journal import Journal, describe
from yolo_slim.runtime.camera.stats import LastMinute
from yolo_slim.runtime.camera.status import SourceStatus, back_off_s
from yolo_slim.runtime.letterbox import require_bgr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOOK_S = 0.1
"""How often a thread that waits looks whether it shall end."""
READ_S = 1.0
"""Longest wait for a read in progress when the camera is stopped."""
CLOSE_S = 3.0
"""Longest wait for a source that is being closed then."""


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """How a source is kept alive."""

    back_off_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 10.0)
    """Seconds before each new try; the last one is used again and again."""
    stuck_after_s: float = 30.0
    """A call of the source that takes longer is given up. Sources have shorter limits of their own."""
    max_blocked: int = 3
    """Most threads that may be left behind in blocked calls at once."""
    max_bad: int = 20
    """So many frames in a row that aren't images lose the source."""
    wait_for_source: bool = False
    """Whether a source that can't be opened at the start is waited for; else that ends the camera."""


class _Turn:
    """One thread's turn at the source. A turn that blocks is given up, and another thread has the next one."""

    def __init__(self) -> None:
        self.is_given_up = False
        self.busy_since_s: float | None = None
        self.thread: threading.Thread | None = None
        self.closed = threading.Event()
        self._source: Source | None = None
        self._lock = threading.Lock()

    @contextmanager
    def busy(self, clock: Callable[[], float]) -> Iterator[None]:
        """Mark a call that may block."""
        self.busy_since_s = clock()
        try:
            yield
        finally:
            self.busy_since_s = None

    def own(self, source: Source) -> None:
        """Take a source that must be closed."""
        with self._lock:
            self._source = source

    def close(self) -> None:
        """Close the source once, whichever thread comes first."""
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            with suppress(Exception):  # a driver's fault in closing must not end the thread that opens it again
                source.close()
            self.closed.set()

    @property
    def is_blocked(self) -> bool:
        """Whether its thread was given up and is still there."""
        return self.is_given_up and self.thread is not None and self.thread.is_alive()


class Capture:
    """Reads a source in a thread and leaves the newest frame in ``room``."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        settings: CaptureSettings,
        journal: Journal,
        minute: LastMinute,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.room: Slot[Frame] = Slot()
        self.status = SourceStatus()
        self.source_name = ""
        self.error: SlimError | None = None
        """Why no more frames come, where that is a problem."""
        self.is_finished = False
        """Whether the source is gone for good, or at its end and its last frame was taken."""
        self.on_change: Callable[[], object] = lambda: None
        """Called after ``status`` changed."""
        self._open_source, self._settings, self._journal = open_source, settings, journal
        self._minute, self._clock = minute, clock
        self._turn = _Turn()
        self._blocked: list[_Turn] = []
        self._failures = 0
        self._frames = 0
        self._bad_in_a_row = 0
        self._size: tuple[int, int] | None = None
        self._stopped = threading.Event()
        self._has_room = threading.Event()
        self._has_room.set()
        # Held for every change that a turn makes: one that is given up changes nothing any more.
        self._lock = threading.RLock()

    def start(self) -> None:
        """Open the source in a new thread."""
        self._begin(wait_s=0.0)

    def stop(self) -> None:
        """End the thread and close the source, from outside where its thread is blocked in it."""
        self._stopped.set()
        turn = self._turn
        if turn.thread is None or turn.is_given_up:
            return
        turn.thread.join(READ_S)
        if turn.thread.is_alive():
            self._leave(turn)
            # Closing may end a program that the source started; at our own end nobody would.
            turn.closed.wait(CLOSE_S)

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame that nobody took yet."""
        frame = self.room.take(timeout_s)
        if frame is not None:
            self._has_room.set()
        return frame

    def watch(self) -> None:
        """Give up a call of the source that takes too long; to be called several times a second."""
        with self._lock:
            turn, since_s = self._turn, self._turn.busy_since_s
            if self._is_over(turn) or since_s is None or self._clock() - since_s < self._settings.stuck_after_s:
                return
            self._leave(turn)
            reason = f"The source didn't answer for {self._settings.stuck_after_s:g} s."
            wait_s = self._lost(SourceLost(reason))
            blocked = [one for one in self._blocked if one.is_blocked]
            if wait_s is not None and len(blocked) > self._settings.max_blocked:
                self._finish(_blocked_for_good(len(blocked)))
            elif wait_s is not None:
                self._begin(wait_s)

    def _begin(self, wait_s: float) -> None:
        turn = self._turn = _Turn()
        turn.thread = threading.Thread(target=self._run, args=(turn, wait_s), name="camera-capture", daemon=True)
        turn.thread.start()

    def _leave(self, turn: _Turn) -> None:
        """Leave a thread behind in its blocked call, and close its source: that may end the call."""
        with self._lock:
            turn.is_given_up = True
            self._blocked = [*(one for one in self._blocked if one.is_blocked), turn]
        self._journal.count("abandoned")
        # Closing may block as well.
        threading.Thread(target=turn.close, name="camera-close", daemon=True).start()

    def _run(self, turn: _Turn, wait_s: float | None) -> None:
        while wait_s is not None and not self._stopped.wait(wait_s) and not self._is_over(turn):
            try:
                self._read_all(turn, self._opened(turn))
                wait_s = None
            except Exception as error:  # whatever a driver raises, the source is gone
                with self._lock:
                    wait_s = None if self._is_over(turn) else self._lost(error)
            finally:
                with turn.busy(self._clock):
                    turn.close()

    def _opened(self, turn: _Turn) -> Source:
        self._set(turn, SourceStatus(phase="connecting", reason=self.status.reason))
        with turn.busy(self._clock):
            source = self._open_source()
            turn.own(source)
        self.source_name = source.name
        return source

    def _read_all(self, turn: _Turn, source: Source) -> None:
        """Hand on every frame until the source is at its end."""
        while not self._is_over(turn):
            with turn.busy(self._clock):
                image = source.read()
            if image is None:
                self._wait_for_room(turn)
                with self._lock:
                    if not self._is_over(turn):
                        self._finish(None)
                return
            if not self._is_image(image):
                continue
            if not source.is_live:
                self._wait_for_room(turn)
            self._hand_on(turn, image)

    def _is_image(self, image: NDArray[np.uint8]) -> bool:
        try:
            require_bgr(image)
        except SlimError as error:
            self._bad_in_a_row += 1
            self._journal.error("bad", f"A frame of the source is no image: {error.fact}")
            if self._bad_in_a_row >= self._settings.max_bad:
                self._bad_in_a_row = 0
                fact = f"{self._settings.max_bad} frames in a row are no images. {error.fact}"
                raise error.as_kind(SourceLost, fact=fact) from None
            return False
        self._bad_in_a_row = 0
        return True

    def _wait_for_room(self, turn: _Turn) -> None:
        """Wait until the frame before was taken: a file loses no frames."""
        while not self._has_room.wait(LOOK_S) and not self._is_over(turn):
            pass

    def _hand_on(self, turn: _Turn, image: NDArray[np.uint8]) -> None:
        now_s = self._clock()
        if self.status.phase != "open":
            self._set(turn, SourceStatus(phase="open", opened_s=now_s))
        with self._lock:
            if self._is_over(turn):
                return
            self._failures = 0
            self._note_size((image.shape[1], image.shape[0]))
            self._minute.captured(now_s)
            self._journal.count("captured")
            self._has_room.clear()
            self.room.put(Frame(image=image, index=self._frames, captured_s=now_s))
            self._frames += 1

    def _note_size(self, size: tuple[int, int]) -> None:
        before, self._size = self._size, size
        if before not in (None, size):
            self._journal.count("resized")
            self._journal.say(f"The frames have another size now: {size[0]} x {size[1]} pixels.")

    def _lost(self, error: Exception) -> float | None:
        """Note that the source is gone; seconds until the next try, None: there is none."""
        self._journal.count("lost")
        if not self._frames and not self._settings.wait_for_source:
            self._finish(error if isinstance(error, SlimError) else SlimError(_unopened(error)))
            return None
        self._failures += 1
        wait_s = back_off_s(self._settings.back_off_s, self._failures)
        self._journal.last_error = describe(error)
        self.status = SourceStatus(phase="lost", reason=describe(error), next_try_at_s=self._clock() + wait_s)
        self.on_change()
        return wait_s

    def _finish(self, error: SlimError | None) -> None:
        self.error = error
        self.is_finished = True

    def _set(self, turn: _Turn, status: SourceStatus) -> None:
        with self._lock:
            if self._is_over(turn):
                return
            self.status = status
        self.on_change()

    def _is_over(self, turn: _Turn) -> bool:
        return self._stopped.is_set() or turn.is_given_up or self.is_finished


def _unopened(error: Exception) -> str:
    return f"The source can't be used: {describe(error)}."


def _blocked_for_good(count: int) -> SlimError:
    return SlimError(
        f"The source blocked {count} times and never gave its threads back.",
        remedy="Unplug the camera and plug it in again, or restart its server; then start the camera again.",
    )
