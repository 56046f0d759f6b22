"""What happens to the camera: counted, and told in order by one thread, so that no frame waits for a listener."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from yolo_slim.runtime.camera.stats import Totals
from yolo_slim.runtime.camera.status import Status

REPEAT_S = 10.0
"""The same message is told again after so many seconds at the earliest; it is counted every time."""
MOST_TEXTS = 100
"""Different messages that are remembered for that."""

Told = TypeVar("Told")


class Journal:
    """Counts, and news for listeners. Every thread may write; :meth:`tell` is for one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.last_error = ""
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._news: queue.SimpleQueue[Status | str] = queue.SimpleQueue()
        self._told_at_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._on_status: list[Callable[[Status], object]] = []
        self._on_message: list[Callable[[str], object]] = []

    def on_status(self, callback: Callable[[Status], object]) -> None:
        """Call back at each change of state."""
        self._on_status.append(callback)

    def on_message(self, callback: Callable[[str], object]) -> None:
        """Call back with each message for people."""
        self._on_message.append(callback)

    def count(self, key: str, number: int = 1) -> None:
        """Add to one of the :class:`~yolo_slim.runtime.camera.stats.Totals`."""
        with self._lock:
            self._counts[key] += number

    def totals(self) -> Totals:
        """All counts."""
        with self._lock:
            return Totals(**self._counts)

    def status(self, status: Status) -> None:
        """Note a new state."""
        self._news.put(status)

    def say(self, text: str) -> None:
        """Note a message."""
        now_s = self._clock()
        with self._lock:
            is_new = now_s - self._told_at_s.get(text, float("-inf")) >= REPEAT_S
            if is_new:
                self._told_at_s.pop(text, None)
                self._told_at_s[text] = now_s
            if len(self._told_at_s) > MOST_TEXTS:
                del self._told_at_s[next(iter(self._told_at_s))]
        if is_new:
            self._news.put(text)

    def error(self, key: str, text: str) -> None:
        """Count a failure and note its message."""
        self.count(key)
        self.last_error = text
        self.say(text)

    def tell(self, timeout_s: float) -> bool:
        """Give the next news to its listeners; false: there was none within the time."""
        try:
            news = self._news.get(timeout=timeout_s)
        except queue.Empty:
            return False
        if isinstance(news, Status):
            self._call(self._on_status, news)
        else:
            self._call(self._on_message, news)
        return True

    def _call(self, listeners: list[Callable[[Told], object]], news: Told) -> None:
        for listener in listeners:
            try:
                listener(news)
            except Exception as error:  # a listener's fault must not end the camera
                self.error("callback_errors", f"A listener failed: {describe(error)}")


def describe(error: BaseException) -> str:
    """An error in a line or more: its message, or its kind where it has none."""
    kind = type(error).__name__
    text = " ".join(str(error).split())
    return text if text and type(error).__module__.startswith("yolo_slim") else f"{kind}: {text}" if text else kind
