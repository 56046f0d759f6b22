"""Temperature, clocks, throttling and memory, read beside the frames: some boards start a program for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from yolo_slim.machine import MachineState, memory_mb, read_state, throttled_now

EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The machine at one moment. None or empty: it doesn't say."""

    celsius: float | None = None
    cpu_mhz: float | None = None
    """Fastest core."""
    gpu_mhz: float | None = None
    throttled: tuple[str, ...] = ()
    rss_mb: float | None = None


class Sensors:
    """Reads the machine every two seconds in a thread of its own; ``reading`` never waits for it."""

    def __init__(self, read: Callable[[], MachineState] = read_state, every_s: float = EVERY_S) -> None:
        self.reading = Reading()
        self._read, self._every_s = read, every_s
        self._over_current: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera-sensors", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End; a program that is being read from may run out its time in the background."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.reading = self._reading_of(self._read())
            self._stopped.wait(self._every_s)

    def _reading_of(self, state: MachineState) -> Reading:
        before, self._over_current = self._over_current, state.over_current
        # This counter only grows, so the clocks were cut when it grew since the reading before.
        is_cut = before is not None and (state.over_current or 0) > before
        return Reading(
            celsius=state.celsius,
            cpu_mhz=max(state.cpu_mhz, default=None),
            gpu_mhz=state.gpu_mhz,
            throttled=(*throttled_now(state), *(("over-current",) if is_cut else ())),
            rss_mb=memory_mb(),
        )
