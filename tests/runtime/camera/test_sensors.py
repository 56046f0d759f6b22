"""Temperature, clocks and throttling of the running camera."""

from __future__ import annotations

import threading
from dataclasses import replace

from tests.helpers.camera_sources import until
from yolo_slim.machine import MachineState, memory_mb, peak_memory_mb, throttled_now
from yolo_slim.runtime.camera.sensors import Reading, Sensors

COOL = MachineState(governors=(), cpu_mhz=(600.0, 1500.0), celsius=48.5, throttled=0, gpu_mhz=306.0, over_current=4)


def read_once(*states: MachineState) -> Reading:
    """The last reading of so many states."""
    left = list(states)
    sensors = Sensors(lambda: left.pop(0), every_s=0.001)
    sensors.start()
    until(lambda: not left)
    until(lambda: sensors.reading.celsius is not None)
    sensors.stop()
    return sensors.reading


def test_reading() -> None:
    """The hottest zone, the fastest core, the GPU and the process's memory."""
    found = read_once(COOL)
    assert (found.celsius, found.cpu_mhz, found.gpu_mhz, found.throttled) == (48.5, 1500.0, 306.0, ())
    assert found.rss_mb is not None
    assert found.rss_mb > 10


def test_throttled_now() -> None:
    """Bits that are set now are named; those of the time since boot are history."""
    assert throttled_now(replace(COOL, throttled=0x50005, throttle_alerts=("gpu-throttle-alert",))) == [
        "under-voltage", "throttled", "gpu-throttle-alert",
    ]  # fmt: skip
    assert throttled_now(replace(COOL, throttled=0x50000)) == []
    assert throttled_now(replace(COOL, throttled=None)) == []


def test_over_current_counts_while_it_grows() -> None:
    """Cuts from before the start are no news."""
    readings: list[tuple[str, ...]] = []
    states = [COOL, replace(COOL, over_current=5), replace(COOL, over_current=5)]
    step = threading.Semaphore(0)

    def read() -> MachineState:
        readings.append(sensors.reading.throttled)
        step.acquire(timeout=20)
        return states.pop(0) if states else COOL

    sensors = Sensors(read, every_s=0.0)
    sensors.start()
    for count in range(1, 4):
        until(lambda count=count: len(readings) == count)
        step.release()
    until(lambda: len(readings) == 4)
    sensors.stop()
    step.release()
    assert readings == [(), (), ("over-current",), ()]


def test_slow_machine_blocks_nothing() -> None:
    """A program that doesn't answer leaves the reading empty; asking for it and stopping don't wait."""
    free = threading.Event()
    sensors = Sensors(lambda: (free.wait(20), COOL)[1])
    sensors.start()
    assert sensors.reading == Reading()
    sensors.stop()
    free.set()


def test_memory_now_is_at_most_the_peak() -> None:
    """Both come from the same place and are in the same unit."""
    now, peak = memory_mb(), peak_memory_mb()
    assert now is not None
    assert peak is not None
    # The kernel adds up what it counted on each core, so both are off by a little.
    assert 10 < now < 1.1 * peak
