"""Timings in rounds: nothing is lost when they are put together, and a slow minute doesn't change a ratio."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.results import BUSY, QUIET, SUSTAINED, bench_of, make_build
from yolo_slim.build_key import Model
from yolo_slim.devices.answers import Bench
from yolo_slim.measuring.rounds import merged, ratios, time_in_rounds
from yolo_slim.runtime.breakdown import Breakdown
from yolo_slim.runtime.cold_start import ColdStart
from yolo_slim.runtime.readings import Range
from yolo_slim.verdict.judge import speedups
from yolo_slim.verdict.result import Build

STAGES = ("pre", "infer", "post", "total")


def one_round(milliseconds: float, reasons: tuple[str, ...] = (), memory: float | None = 100.0) -> Bench:
    """Return a round of ten frames of constant latency."""
    samples = {stage: [milliseconds] * 10 for stage in STAGES}
    return bench_of(samples, invalid_reasons=reasons, peak_memory_mb=memory)


def build(model: Model, rounds: list[float], name: str = "onnxruntime-fp32") -> Build:
    """Return a timed build."""
    return make_build(model, name, 0.5).model_copy(update={"bench": merged([one_round(ms) for ms in rounds])})


def test_merged_keeps_every_sample() -> None:
    """All frames of all rounds count; statistics are over all of them."""
    found = merged([one_round(10.0), one_round(20.0), one_round(60.0, memory=140.0)])
    assert found.samples_ms.total == (10.0,) * 10 + (20.0,) * 10 + (60.0,) * 10
    assert found.stages.total.p50_ms == 20.0
    assert found.fps == 50.0
    assert (found.queries, found.peak_memory_mb, found.is_valid) == (30, 140.0, True)
    assert found.round_p50_ms == (10.0, 20.0, 60.0)
    assert found.round_network_p50_ms == (20.0, 40.0, 120.0)


def test_one_round_merges_to_itself() -> None:
    """Statistics are computed anew from the samples, and come out the same."""
    assert merged([one_round(10.0)]) == one_round(10.0)


def test_one_invalid_round_spoils_the_timing() -> None:
    """A round that was throttled can't hide behind the others, and each reason is named once."""
    found = merged([one_round(10.0), one_round(10.0, ("throttled",)), one_round(10.0, ("throttled",))])
    assert not found.is_valid
    assert found.invalid_reasons == ("throttled",)


def test_what_was_seen_beside_the_frames() -> None:
    """Of several rounds: the median start, and the extremes of all; rounds of earlier versions have neither."""
    starts = [ColdStart(start_ms=None, load_ms=ms, first_frame_ms=1.0, total_ms=ms + 1) for ms in (300.0, 100.0, 200.0)]
    rounds = [
        one_round(10.0).model_copy(
            update={
                "cold_start": start,
                "sensors": replace(SUSTAINED.sensors, celsius=Range(lowest=celsius, highest=celsius)),
                "p50_spread_ms": Range(lowest=10.0 - index, highest=10.0 + index),
            }
        )
        for index, (start, celsius) in enumerate(zip(starts, (50.0, 70.0, 60.0), strict=True))
    ]
    found = merged(rounds)
    assert found.cold_start == starts[2]
    assert found.sensors is not None
    assert (found.sensors.celsius, found.sensors.readings) == (Range(lowest=50.0, highest=70.0), 12)
    assert found.p50_spread_ms == Range(lowest=8.0, highest=12.0)
    old = merged([one_round(10.0)])
    assert (old.cold_start, old.sensors, old.p50_spread_ms) == (None, None, None)


def test_a_busy_round_spoils_the_ratio() -> None:
    """A round beside other programs makes the ratio invalid, and its load stands for all; figures aren't repeated."""
    reasons = [f"other processes used {cores} of 2 cores during the run" for cores in ("1.9", "1.4")]
    rounds = [
        one_round(10.0).model_copy(update={"load": QUIET}),
        one_round(10.0, (reasons[0],)).model_copy(update={"load": BUSY}),
        one_round(10.0, (reasons[1],)).model_copy(update={"load": replace(BUSY, other_cores=1.4)}),
    ]
    found = merged(rounds)
    assert found.invalid_reasons == (reasons[0],)
    assert found.load == BUSY
    assert found.is_disturbed
    assert not ratios(found, merged(rounds[:1] * 3)).valid
    assert not ratios(merged(rounds[:1] * 3), found).valid
    assert ratios(*[merged(rounds[:1] * 3)] * 2).valid


def test_order_is_reversed_every_other_round() -> None:
    """No build is always the first of a round; every timing is announced."""
    order: list[str] = []
    steps: list[tuple[int, int]] = []

    def bench(key: str) -> Bench:
        order.append(key)
        return one_round(len(order))

    found = time_in_rounds(["a", "b"], 3, bench, lambda done, total: steps.append((done, total)))
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert found["a"].round_p50_ms == (2.0, 3.0, 6.0)
    assert steps == [(done, 6) for done in range(7)]


def test_ratio_ignores_a_machine_that_slows_down() -> None:
    """The ratio is computed round by round: a machine three times slower in two rounds changes nothing."""
    control, slim = (merged([one_round(ms) for ms in rounds]) for rounds in ([20.0, 60.0, 60.0], [10.0, 30.0, 30.0]))
    found = ratios(control, slim)
    assert (found.ratio, found.lowest, found.highest, found.rounds) == (2.0, 2.0, 2.0, 3)
    naive = np.median(control.samples_ms.total) / np.median([10.0, 10.0, 10.0])
    assert naive == pytest.approx(6.0)


def test_no_speedup_without_a_timed_control() -> None:
    """A slim build is only compared with a control of its own runtime and precision."""
    assert [row.ratio for row in speedups([build("control", [10.0]), build("slim", [5.0])])] == [2.0]
    assert speedups([build("control", [10.0], "ncnn-fp16"), build("slim", [5.0])]) == ()
    untimed = build("control", [10.0]).model_copy(update={"bench": None})
    assert speedups([untimed, build("slim", [5.0])]) == ()


def test_one_round_divides_for_all() -> None:
    """The breakdown of the round that has one is the timing's."""
    told = Breakdown(frames=30, shares={"convolutions": 1.0}, frame_ms=9.0, covered=1.0)
    rounds = [one_round(10.0), one_round(10.0).model_copy(update={"breakdown": told}), one_round(10.0)]
    assert merged(rounds).breakdown == told
    assert merged([one_round(10.0)]).breakdown is None
