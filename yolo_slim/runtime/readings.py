"""The machine's sensors during a timing, read between two frames: no frame's time contains a reading."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from yolo_slim.machine import MachineState, read_state, throttled_now
from yolo_slim.sensors import total_watts, watts_between

EVERY_S = 2.0
"""Seconds between two readings: some boards start two programs for one, which takes some 20 ms."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The smallest and the largest of several readings."""

    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """Readings before, during and after a timing. Null: the machine doesn't say."""

    readings: int
    """Number of readings."""
    celsius: Range | None
    """Temperature of the hottest thermal zone."""
    cpu_mhz: Range | None
    """Clock of a core, over all cores."""
    gpu_mhz: Range | None
    """Clock of a Jetson's GPU."""
    watts: Range | None
    """Power: of the whole board where one rail carries all of it, else of all rails, or of the processor packages."""
    fan_rpm: Range | None
    """Speed of the fastest fan, revolutions per minute."""
    limits: tuple[str, ...]
    """What limited the clocks at any of these moments: under-voltage, throttled, ..."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reading."""

    seconds: float
    """When it was made; only differences have a meaning."""
    state: MachineState


class Watch:
    """Collects readings of one timing."""

    def __init__(
        self,
        read: Callable[[], MachineState] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read, self._clock = read or read_state, clock
        self.readings: list[Reading] = []

    def read(self) -> MachineState:
        """Read now."""
        self.readings.append(Reading(seconds=self._clock(), state=self._read()))
        return self.readings[-1].state

    def read_if_due(self) -> bool:
        """Read if the last reading is old enough; whether it was."""
        is_due = not self.readings or self._clock() - self.readings[-1].seconds >= EVERY_S
        if is_due:
            self.read()
        return is_due

    @property
    def states(self) -> list[MachineState]:
        """What was read."""
        return [reading.state for reading in self.readings]

    def extremes(self) -> Extremes:
        """The smallest and largest values of all readings."""
        return extremes(self.readings)


def extremes(readings: Sequence[Reading]) -> Extremes:
    """The smallest and largest values of some readings."""
    states = [reading.state for reading in readings]
    return Extremes(
        readings=len(states),
        celsius=range_of(state.celsius for state in states),
        cpu_mhz=range_of(mhz for state in states for mhz in state.cpu_mhz),
        gpu_mhz=range_of(state.gpu_mhz for state in states),
        watts=range_of(watts(readings)),
        fan_rpm=range_of(state.fan_rpm for state in states),
        limits=tuple(dict.fromkeys(name for state in states for name in throttled_now(state))),
    )


def watts(readings: Sequence[Reading]) -> list[float]:
    """Power at every reading; where a machine only counts energy, the mean between two readings."""
    measured = [total_watts(reading.state.watts) for reading in readings]
    if not any(value is not None for value in measured):
        measured = [
            watts_between(first.state.joules, second.state.joules, second.seconds - first.seconds)
            for first, second in pairwise(readings)
        ]
    return [value for value in measured if value is not None]


def range_of(values: Iterable[float | None]) -> Range | None:
    """The extremes of the values that are known, None where none is."""
    known = [value for value in values if value is not None]
    return Range(lowest=min(known), highest=max(known)) if known else None


def widest(parts: Iterable[Extremes]) -> Extremes | None:
    """The extremes of several timings together; None where there is none."""
    found: Extremes | None = None
    for part in parts:
        found = part if found is None else _joined(found, part)
    return found


def _joined(first: Extremes, second: Extremes) -> Extremes:
    names = ("celsius", "cpu_mhz", "gpu_mhz", "watts", "fan_rpm")
    ranges = {name: _spanned(getattr(first, name), getattr(second, name)) for name in names}
    limits = tuple(dict.fromkeys(first.limits + second.limits))
    return replace(first, readings=first.readings + second.readings, limits=limits, **ranges)


def _spanned(first: Range | None, second: Range | None) -> Range | None:
    return range_of(value for one in (first, second) if one for value in (one.lowest, one.highest))
