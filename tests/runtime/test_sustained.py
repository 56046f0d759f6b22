"""A run of minutes on a clock that a test turns: nothing waits, and nothing depends on how fast this machine is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.results import BUSY, QUIET
from yolo_slim.machine import MachineState
from yolo_slim.runtime import readings, sustained
from yolo_slim.runtime.load import Load
from yolo_slim.runtime.sustained import MAX_POINTS, Sustained, sustain

COOL = MachineState(governors=(), cpu_mhz=(2400.0,), celsius=50.0, throttled=0)


class Board:
    """A detector whose frames take as long as a test says, on a clock of its own."""

    def __init__(self, frame_ms: Callable[[float], float]) -> None:
        self.seconds, self.uncounted = 0.0, 0
        self._frame_ms = frame_ms

    def timed(self, image: Any) -> tuple[None, SimpleNamespace]:
        """Take one frame's time."""
        ms = self._frame_ms(self.seconds)
        self.seconds += ms / 1000
        return None, SimpleNamespace(total_ms=ms)

    def detect(self, image: Any) -> None:
        """Note a frame that isn't timed."""
        self.uncounted += 1

    def describe(self) -> SimpleNamespace:
        """Say how many threads run."""
        return SimpleNamespace(threads=4)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sustained]:
    """Return a function that runs a board for so many seconds, on a machine with these states and this load."""

    def run_on(
        board: Board, seconds: float, load: Load = QUIET, state: Callable[[float], MachineState] = lambda _: COOL
    ) -> Sustained:
        monkeypatch.setattr(readings, "read_state", lambda: state(board.seconds))
        monkeypatch.setattr(sustained, "start", lambda: None)
        monkeypatch.setattr(sustained, "load_since", lambda _begin, _threads: load)
        return sustain(board, [None], seconds, clock=lambda: board.seconds)  # type: ignore[arg-type]

    return run_on


def test_a_board_that_slows_down(run: Callable[..., Sustained]) -> None:
    """What is left is the median FPS of the last half minute against the first, not a mean over all."""
    found = run(Board(lambda seconds: 50.0 if seconds < 200 else 100.0), 300)
    assert (found.first_fps, found.last_fps, found.retention) == pytest.approx((20.0, 10.0, 0.5))
    assert found.window_s == 30.0
    assert len(found.first_ms) == pytest.approx(600, abs=1)
    assert len(found.last_ms) == pytest.approx(300, abs=1)
    assert found.points[0].fps == pytest.approx(20.0)
    assert found.points[-1].fps == pytest.approx(10.0)
    assert sum(point.frames for point in found.points) == found.frames
    assert (found.invalid_reasons, found.limited_by) == ((), ())


def test_a_steady_board_keeps_its_speed(run: Callable[..., Sustained]) -> None:
    """Negative control."""
    assert run(Board(lambda _: 20.0), 120).retention == pytest.approx(1.0)


def test_a_frame_longer_than_half_of_the_run(run: Callable[..., Sustained]) -> None:
    """A slow device ends too: its first frame is the first part, its last the last."""
    found = run(Board(lambda seconds: 1000.0 + seconds), 1.2)
    assert (found.frames, found.first_ms, found.last_ms) == (2, (1000.0,), (1001.0,))


def test_a_short_run_compares_its_halves(run: Callable[..., Sustained]) -> None:
    """The two parts never overlap."""
    found = run(Board(lambda _: 10.0), 20)
    assert found.window_s == 10.0
    assert len(found.first_ms) + len(found.last_ms) <= found.frames + 1


@pytest.mark.parametrize("hours", [1, 8])
def test_memory_is_bounded(hours: int, run: Callable[..., Sustained]) -> None:
    """However long it runs, what is kept of it doesn't grow: two windows of frames, and a fixed number of points."""
    found = run(Board(lambda _: 400.0), hours * 3600)
    assert len(found.points) <= MAX_POINTS + 1
    assert len(found.first_ms) + len(found.last_ms) <= 2 * 30 / 0.4 + 2
    assert found.frames == pytest.approx(hours * 9000, abs=2)


def test_throttling_is_what_it_looks_for(run: Callable[..., Sustained]) -> None:
    """A board that throttles in between is described, not refused; the slower reference kernel is its consequence."""
    hot = replace(COOL, throttled=0x40004, celsius=85.0, cpu_mhz=(1500.0,))
    slower = replace(QUIET, reference_after_ms=9.0)
    found = run(Board(lambda s: 50.0 if s < 60 else 80.0), 120, slower, lambda s: COOL if s < 60 else hot)
    assert found.limited_by == ("throttled after the run", "throttled during the run")
    assert found.invalid_reasons == ()
    assert found.points[-1].limits == ("throttled",)
    assert (found.points[0].celsius, found.points[-1].celsius, found.points[-1].cpu_mhz) == (50.0, 85.0, 1500.0)
    assert found.sensors.celsius == readings.Range(lowest=50.0, highest=85.0)


def test_a_machine_that_slows_down_without_a_reason(run: Callable[..., Sustained]) -> None:
    """Where nothing says that it throttled, a slower reference kernel makes the run invalid."""
    found = run(Board(lambda _: 50.0), 60, replace(QUIET, reference_after_ms=9.0))
    assert found.is_disturbed
    assert "the machine became slower" in found.invalid_reasons[0]


def test_other_programs_make_it_invalid(run: Callable[..., Sustained]) -> None:
    """Throttling is no excuse for a busy machine."""
    hot = replace(COOL, throttled=0x4)
    found = run(Board(lambda _: 50.0), 60, BUSY, lambda _: hot)
    assert found.invalid_reasons[0] == "other processes used 2.9 of 4 cores during the run"
    assert found.limited_by


def test_the_frame_after_a_reading_is_not_timed(run: Callable[..., Sustained]) -> None:
    """Reading sensors pauses the network, and a frame after a pause is slower."""
    board = Board(lambda _: 50.0)
    found = run(board, 60)
    assert board.uncounted == len(found.points) - 1
