"""What ``validate.busy`` says is done with a timing that other programs disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.helpers.devices import FakeDevice
from tests.helpers.results import BUSY, QUIET, make_bench
from tests.helpers.tiny_detector import build_bundle, write_onnx
from yolo_slim.config import targets
from yolo_slim.config.run import ValidateConfig
from yolo_slim.devices.base import Placed
from yolo_slim.errors import SlimError
from yolo_slim.measuring.timer import Timer, is_kept
from yolo_slim.runtime.load import Load, busy_reasons

Policy = Literal["repeat", "mark", "refuse"]


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Placed:
    """Return a bundle on a device that is far away."""
    folder = tmp_path_factory.mktemp("tiny")
    bundle = build_bundle(write_onnx(folder / "tiny.onnx"), folder / "bundle", "onnxruntime").folder
    return FakeDevice().put(bundle)


def timer(busy: Policy, load: Load, placed: Placed) -> tuple[Timer[str], FakeDevice]:
    """Return what times on a board with a load, and the board."""
    device = FakeDevice(load=load, invalid_reasons=tuple(busy_reasons(load)))
    config, profile = ValidateConfig(busy=busy), targets.load("host")
    return Timer.of(config, device, profile, {"a": placed}, Path("images")), device


def test_a_quiet_device_is_always_asked_to_repeat(placed: Placed) -> None:
    """One quiet timing doesn't use up the repetitions of the next."""
    timed, device = timer("repeat", QUIET, placed)
    assert [timed("a").is_valid for _ in range(3)] == [True] * 3
    assert device.repeats == [2, 2, 2]


def test_a_device_that_stays_busy_is_not_waited_for(placed: Placed) -> None:
    """After one timing that stayed disturbed, the others aren't repeated: they couldn't save the result."""
    timed, device = timer("repeat", BUSY, placed)
    assert [timed("a").is_valid for _ in range(3)] == [False] * 3
    assert device.repeats == [2, 0, 0]


def test_mark_times_once_and_keeps(placed: Placed) -> None:
    """A disturbed timing is marked and kept; one that was hot is never kept, and repeat keeps none."""
    timed, device = timer("mark", BUSY, placed)
    found = timed("a")
    assert device.repeats == [0]
    assert not found.is_valid
    assert is_kept(found, ValidateConfig(busy="mark"))
    assert not is_kept(found, ValidateConfig())
    hot = make_bench(50.0, 1, invalid_reasons=("throttled",), load=QUIET)
    assert not is_kept(hot, ValidateConfig(busy="mark"))


def test_refuse_is_an_error_that_names_the_load(placed: Placed) -> None:
    """The message says what the others used and what to do; a quiet device is timed."""
    timed, device = timer("refuse", BUSY, placed)
    with pytest.raises(SlimError, match=r"Other programs keep board at .* busy") as caught:
        timed("a")
    assert caught.value.culprits[0] == "other processes used 2.9 of 4 cores during the run"
    assert "validate.busy" in caught.value.remedy
    assert device.repeats == [0]
    quiet, _ = timer("refuse", QUIET, placed)
    assert quiet("a").is_valid


def test_only_the_first_timing_of_a_bundle_is_divided(placed: Placed) -> None:
    """Rounds cost no more for it; a comparison, which shows no such table, never asks for it."""
    timed, device = timer("repeat", QUIET, placed)
    timed("a")
    timed.breakdown = True
    for _ in range(2):
        timed("a")
    assert device.breakdowns == [False, True, False]
