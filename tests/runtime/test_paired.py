"""Two bundles timed in turns: what is compared is the same round, whatever the machine does in between."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.results import BUSY, QUIET
from yolo_slim.backends import RuntimeFacts
from yolo_slim.bundle import open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import read_state
from yolo_slim.runtime import paired
from yolo_slim.runtime.load import Load, busy_reasons
from yolo_slim.runtime.paired import ROUNDS_A_LOAD, WARMUP, Paired, pair_bundles, precision_of, time_paired


class _Named:
    """A session that notes its name for every frame."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def infer(self, blob: Any) -> Any:
        self.seen.append(self.name)
        return blob

    def describe(self) -> RuntimeFacts:
        return RuntimeFacts(runtime="none", versions={}, provider="", threads=3, precision="fp32")

    def close(self) -> None:
        pass


def test_order_alternates() -> None:
    """Both networks run the same frames in every round, and the one that begins changes."""
    seen: list[str] = []
    found = time_paired(
        lambda: _Named("a", seen), lambda: _Named("b", seen), [np.zeros(1, np.float32)], rounds=2, frames=2
    )
    frames = WARMUP + 2
    assert seen == ["a"] * frames + ["b"] * 2 * frames + ["a"] * frames
    assert len(found.before) == len(found.after) == 2
    assert found.threads == 3
    assert Paired.from_json(found.to_json()) == found


def test_networks_are_loaded_again() -> None:
    """A place in memory may suit one network: every third round both get another; each is closed as often."""
    loaded: list[str] = []
    closed: list[str] = []

    class Counted(_Named):
        def __init__(self, name: str) -> None:
            super().__init__(name, [])
            loaded.append(name)

        def close(self) -> None:
            closed.append(self.name)

    found = time_paired(
        lambda: Counted("a"), lambda: Counted("b"), [np.zeros(1, np.float32)], rounds=2 * ROUNDS_A_LOAD + 1, frames=1
    )
    assert loaded == ["a", "b"] * 3
    assert sorted(closed) == sorted(loaded)
    assert len(found.before) == len(found.after) == 2 * ROUNDS_A_LOAD + 1


class _Clock:
    """A machine on which a frame takes a second, and threads wait for a core while they rest and while they work."""

    def __init__(self, *, resting: float, working: float) -> None:
        self.resting, self.working = resting, working
        self.now, self.waited = 0.0, 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waited += self.resting

    def frame(self, blob: Any) -> Any:
        self.now += 1.0
        self.waited += self.working
        return blob

    def perf_counter(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e9)


@pytest.mark.parametrize(
    ("load", "working", "resting", "reasons"),
    [
        (BUSY, 0.41 * 3, 0.0, tuple(busy_reasons(BUSY))),
        (QUIET, 0.0, 0.0, ()),
        # A session that rested waits for its threads to be spread over the cores; no frame that counts does.
        (QUIET, 0.0, 5.0, ()),
        (QUIET, 0.41 * 3, 0.0, ("its threads waited for a core 41% of the time",)),
    ],
)
def test_a_busy_machines_gain_does_not_count(
    load: Load, working: float, resting: float, reasons: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other programs used, and what threads waited in timed frames, is named; a quiet machine has no reasons."""
    clock = _Clock(resting=resting, working=working)
    monkeypatch.setattr(paired, "load_since", lambda _start, _threads: load)
    monkeypatch.setattr(paired, "waiting_seconds", lambda: clock.waited)
    monkeypatch.setattr(paired, "time", clock)
    session = _Named("a", [])
    monkeypatch.setattr(session, "infer", clock.frame)
    found = time_paired(lambda: session, lambda: session, [np.zeros(1, np.float32)], rounds=2, frames=4)
    assert found.invalid_reasons == reasons
    assert found.before == (1000.0, 1000.0)


def test_hot_machines_gain_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine above the limit at either end spoils the timing; one below it, or without a limit, doesn't."""
    state = replace(read_state(), celsius=81.0, throttled=None, over_current=None, throttle_alerts=())
    monkeypatch.setattr(paired, "read_state", lambda: state)
    monkeypatch.setattr(paired, "busy_reasons", lambda _: [])
    session = _Named("a", [])

    def reasons(max_celsius: float | None) -> tuple[str, ...]:
        blobs = [np.zeros(1, np.float32)]
        return time_paired(
            lambda: session, lambda: session, blobs, rounds=1, frames=1, max_celsius=max_celsius
        ).invalid_reasons

    assert reasons(80.0) == ("81.0 C before the run, above 80 C", "81.0 C after the run, above 80 C")
    assert reasons(82.0) == reasons(None) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("round_ms", {"control": [1.0, 2.0], "cut": [1.0]}), ("round_ms", {"control": [], "cut": []}),
        ("round_ms", {"control": [1.0], "cut": [math.nan]}), ("round_ms", {"control": ["1.0"], "cut": [1.0]}),
        ("round_ms", {"control": "12", "cut": "12"}), ("round_ms", {"control": [0.0], "cut": [1.0]}),
        ("round_ms", []), ("threads", "2"), ("threads", None), ("invalid_reasons", "busy"),
    ],
)  # fmt: skip
def test_damaged_answer_is_refused(key: str, value: Any) -> None:
    """A device's answer with texts, gaps or impossible numbers is one message; the whole answer is read."""
    whole = Paired(before=(1.0, 2.0), after=(1.0, 1.5), threads=2, invalid_reasons=("busy",))
    assert Paired.from_json(whole.to_json()) == whole
    with pytest.raises(SlimError, match="paired timing is damaged"):
        Paired.from_json(whole.to_json() | {key: value})


def test_gain_ignores_a_machine_that_slows_down() -> None:
    """The difference is taken round by round, so minutes that are slower for both hide nothing."""
    found = Paired(before=(10.0, 10.0, 31.0), after=(9.0, 9.0, 30.0), threads=1).to_json()
    assert (found["ms_gain"], found["ms_gain_lowest"], found["ms_gain_highest"]) == (1.0, 1.0, 1.0)
    assert np.mean([10.0, 10.0, 31.0]) - np.median([9.0, 9.0, 30.0]) > 7


@pytest.mark.parametrize("change", [{"threads": 3}, {"imgsz": (32, 32)}])
def test_unequal_bundles_are_refused(own_bundle: Path, change: dict[str, Any]) -> None:
    """Two bundles with other threads or another input differ in more than their network."""
    bundle = open_bundle(own_bundle)
    other = replace(bundle, spec=replace(bundle.spec, **change))
    with pytest.raises(SlimError, match="different"):
        pair_bundles(bundle, other, [np.zeros((8, 8, 3), np.uint8)], rounds=1, frames=1)


def test_runtimes_that_can_be_timed() -> None:
    """ONNX Runtime is timed in fp32, NCNN in what it has; an engine or an unknown name is refused."""
    assert precision_of("onnxruntime") == "fp32"
    assert precision_of("ncnn") == "fp16"
    with pytest.raises(SlimError, match="on the device"):
        precision_of("tensorrt")
    with pytest.raises(SlimError, match="Did you mean 'onnxruntime'"):
        precision_of("onnxruntim")
