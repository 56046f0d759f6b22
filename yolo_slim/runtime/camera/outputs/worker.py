"""How an output stays out of the frames' way: a thread of its own, and one message for a fault that lasts."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from yolo_slim.errors import SlimError

Item = TypeVar("Item")
Say = Callable[[str], object]
CALM_S = 10.0
"""Seconds without a loss before a fault is over: on a full disk short lines fit and long ones don't, in turns."""


class Faults:
    """Counts what an output lost. A fault is said when it begins and when it is over, not for every frame."""

    def __init__(self, name: str, say: Say) -> None:
        self.lost = 0
        """Items that didn't get through since the start."""
        self._name = name
        self._say = say
        self._present = ""
        self._before = 0
        self._lost_at_s = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Turn every exception of the block into one lost item."""
        before = self.lost
        with self.guarded():
            yield
        if self.lost == before:
            self.works()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """The same, for a block whose success says nothing: it doesn't end a fault."""
        try:
            yield
        except SlimError as error:
            self.lose(error.fact)
        except Exception as error:  # an output must never stop the frames
            self.lose(f"{type(error).__name__}: {error}.")

    def lose(self, reason: str) -> None:
        """Count one lost item; says the reason if it is the first one."""
        with self._lock:
            is_new = not self._present
            self._before = self.lost if is_new else self._before
            self._present = reason
            self._lost_at_s = time.monotonic()
            self.lost += 1
        if is_new:
            self._say(f"{self._name}: {reason} The camera goes on, and tries again.")

    def works(self) -> None:
        """An item got through."""
        with self._lock:
            is_over = bool(self._present) and time.monotonic() - self._lost_at_s >= CALM_S
            self._present = "" if is_over else self._present
        if is_over:
            self._say(f"{self._name}: works again; {self.lost - self._before} lost.")


class Worker(Generic[Item]):
    """Does the slow part of an output in its own thread. What doesn't fit into its room is lost, and counted."""

    def __init__(self, work: Callable[[Item], object], faults: Faults, *, room: int) -> None:
        self._work = work
        self._faults = faults
        self._room = room
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        # A daemon: a disk that hangs can't keep the process alive.
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Leave something to do; never waits."""
        with self._changed:
            is_full = len(self._items) >= self._room
            if not is_full:
                self._items.append(item)
                self._changed.notify()
        if is_full:
            self._faults.lose("It is too slow for the frames.")

    @property
    def pending(self) -> int:
        """Items that wait."""
        return len(self._items)

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish what was left to do, if that takes no longer than the time limit."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            with self._faults.counted():
                self._work(item)

    def _next(self) -> Item | None:
        with self._changed:
            while not self._items and not self._is_closing:
                self._changed.wait()
            return self._items.popleft() if self._items else None
