"""How long a fresh process takes until its first detection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from yolo_slim import machine
from yolo_slim.sensors import read_text

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """From the start of a process to its first detection, milliseconds. The files may be in the system's cache."""

    start_ms: float | None
    """Start of the process until the bundle is opened: Python, NumPy and OpenCV. Null: the system doesn't say."""
    load_ms: float
    """Bundle verified, runtime imported, model loaded."""
    first_frame_ms: float
    """First frame, from the decoded image to the list of boxes."""
    total_ms: float
    """All of it, without ``start_ms`` where that is null."""


class Stopwatch:
    """Times the first load and the first frame of this process; what happens in between, such as decoding, isn't."""

    def __init__(self) -> None:
        self._start_ms = process_age_ms()
        self._load_ms = 0.0

    def load(self, step: Callable[[], Value]) -> Value:
        """Make one step of loading."""
        begin = time.perf_counter()
        value = step()
        self._load_ms += (time.perf_counter() - begin) * 1000
        return value

    def first_frame(self, detect: Callable[[Any], object], image: Any) -> ColdStart:
        """Detect in the first image, and say how long everything took."""
        begin = time.perf_counter()
        detect(image)
        frame_ms = (time.perf_counter() - begin) * 1000
        total_ms = (self._start_ms or 0.0) + self._load_ms + frame_ms
        return ColdStart(start_ms=self._start_ms, load_ms=self._load_ms, first_frame_ms=frame_ms, total_ms=total_ms)


def process_age_ms() -> float | None:
    """How long this process exists, milliseconds (to 10); None where the system doesn't say.

    Field 22 of /proc/self/stat is the start of the process in clock ticks since boot (proc(5)).
    """
    # The second field is the program's name in brackets, which may contain spaces.
    later = read_text(machine.ROOT / "proc/self/stat").rpartition(")")[2].split()
    if len(later) < 20 or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(later[19]) / os.sysconf("SC_CLK_TCK")
    # In some sandboxes the field is zero, or counts from another moment.
    return age_s * 1000 if int(later[19]) and age_s >= 0 else None
