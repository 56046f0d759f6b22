from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.results import SUSTAINED, changed, emulated_result, with_build
from yolo_slim.build_key import BuildName
from yolo_slim.config import targets
from yolo_slim.measuring.latency_cut import LatencyCut, TimedCut
from yolo_slim.reporting.facts import number, signed
from yolo_slim.reporting.text import COLUMNS, summary, table
from yolo_slim.verdict.control import classes_gate, control_gate
from yolo_slim.verdict.estimates import estimate_builds
from yolo_slim.verdict.result import Gate, Result

GOLDEN = Path(__file__).with_name("summary.txt")


def test_summary_is_golden(result: Result) -> None:
    """The terminal text of a complete result, compared to the character with summary.txt."""
    for index, build in enumerate(result.builds):
        assert build.bench is not None
        total = changed(build.bench.stages.total, p50_ms=64.516, p99_ms=93.271)
        result = with_build(result, index, bench={"fps": 15.5, "stages": changed(build.bench.stages, total=total)})
    gates = list(result.verdict.gates)
    gates[2], gates[3] = changed(gates[2], value=15.5), changed(gates[3], value=93.271)
    result = changed(result, verdict=changed(result.verdict, gates=tuple(gates)))
    assert summary(result) + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_summary_names_what_is_missing(unproven: Result) -> None:
    """Speeds, accuracies and rungs without a measurement are called so."""
    lines = summary(unproven).splitlines()
    assert "VERDICT: unproven" in lines
    assert "  not measured: recovered, onnx, onnxruntime-fp32, ncnn-fp16" in lines
    assert [line.split() for line in lines if line.startswith("  slim/ncnn-fp16 ")] == [
        ["slim/ncnn-fp16", "unproven", "-", "unproven", "unproven", "2.18", "unproven"]
    ]
    assert any(line.startswith("  unproven min_fps") and "this machine is no board" in line for line in lines)


def test_summary_gives_reasons_of_invalid_timings(result: Result) -> None:
    """A timing that doesn't count is marked in its row and explained below."""
    lines = summary(with_build(result, 3, bench={"invalid_reasons": ("throttled",)})).splitlines()
    assert "  slim/ncnn-fp16: invalid: throttled" in lines
    assert [line.split()[-1] for line in lines if line.startswith("  slim/ncnn-fp16 ")] == ["invalid"]


def test_summary_says_how_the_winner_starts_and_lasts(result: Result) -> None:
    """Its first detection and its run of minutes have a line, each only where it was measured."""
    text = summary(result.with_sustained(SUSTAINED))
    assert "  slim/ncnn-fp16: first detection 554 ms after the start of its process\n" in text
    assert "10.0 minutes without a pause: 16.0 FPS in the first 30 s" in text
    assert "10.0 minutes" not in summary(result)
    assert "first detection" not in summary(with_build(result, 3, bench={"cold_start": None}))


def test_summary_fits_the_terminal(unproven: Result) -> None:
    """Long paths, reasons and rung names stay within the width."""
    long = changed(
        unproven,
        data=changed(unproven.data, yaml="a long name " * 20),
        notes=("reason " * 40,),
        target=changed(unproven.target, is_measured=False),
        ladder=(unproven.ladder[0], changed(unproven.ladder[1], rung="r" * 60, against="a" * 60)),
    )
    assert max(map(len, summary(long).splitlines())) <= COLUMNS


@pytest.mark.parametrize(
    ("failed", "remedy"),
    [("rung:recovered", "train longer"), ("min_fps", "remove more"), ("max_size_mb", "max_size_mb in the report")],
)
def test_summary_says_what_to_do_about_a_gate(failed: str, remedy: str, result: Result) -> None:
    """A failed gate is named with its reason, and the last line says what changes it."""
    gates = tuple(
        changed(gate, status="fail", reason="off by 1") if gate.name == failed else gate
        for gate in result.verdict.gates
    )
    lines = summary(changed(result, verdict=changed(result.verdict, status="fail", gates=gates))).splitlines()
    assert f"  fail {failed}: off by 1" in lines
    assert remedy in " ".join(lines).rpartition("Next: ")[2]


@pytest.mark.parametrize(("failed", "remedy"), [("rung:recovered", "a lower"), ("min_fps", "a higher")])
def test_summary_of_a_cut_to_a_frame_rate(failed: str, remedy: str, result: Result) -> None:
    """There the last line speaks of --target-fps: --prune would be refused beside it."""
    cut = LatencyCut(
        budget_ms=20.0, build=BuildName("onnxruntime", "fp32"), device="board", unpruned_ms=30.0, overhead_ms=1.0,
        table_error_median=0.01, table_error_worst=0.02, cuts=(TimedCut(predicted_ms=19.0, measured_ms=19.5),), kept=0,
    )  # fmt: skip
    gates = tuple(
        changed(gate, status="fail", reason="off by 1") if gate.name == failed else gate
        for gate in result.verdict.gates
    )
    found = changed(result, latency=cut, verdict=changed(result.verdict, status="fail", gates=gates))
    text = " ".join(summary(found).split()).rpartition("Next: ")[2]
    assert f"ask for {remedy} --target-fps" in text
    assert "--prune" not in text


@pytest.mark.parametrize(("failed", "remedy"), [("rung:recovered", "nothing was cut"), ("min_fps", "--target-fps")])
def test_summary_of_an_uncut_network(failed: str, remedy: str, result: Result) -> None:
    """Only a budget in milliseconds leaves a network uncut, so the last line doesn't speak of --prune either."""
    gates = tuple(
        changed(gate, status="fail", reason="off by 1") if gate.name == failed else gate
        for gate in result.verdict.gates
    )
    size = changed(result.size, slim=result.size.control)
    found = changed(result, size=size, verdict=changed(result.verdict, status="fail", gates=gates))
    text = " ".join(summary(found).split()).rpartition("Next: ")[2]
    assert remedy in text
    assert "--prune" not in text


@pytest.mark.parametrize(
    ("gate", "remedy"),
    [
        (classes_gate({3: "vest"}), "label images of the classes that have none"),
        (control_gate(0.01, 0.02), "take a better model or label more images"),
    ],
)
def test_summary_of_what_measuring_again_does_not_prove(gate: Gate, remedy: str, result: Result) -> None:
    """The last line says what proves the gate; the same command again would not, but a device may be missing too."""
    verdict = changed(result.verdict, status="unproven", gates=(*result.verdict.gates, gate))
    text = " ".join(summary(changed(result, verdict=verdict)).split()).rpartition("Next: ")[2]
    assert text.startswith(remedy)
    assert "same command" not in text
    away = changed(result, verdict=verdict, target=changed(result.target, is_measured=False))
    text = " ".join(summary(away).split()).rpartition("Next: ")[2]
    assert text.startswith(remedy)
    assert "give the same command with --host" in text


def test_summary_ends_with_what_was_won(result: Result) -> None:
    """The last lines say in plain words what was won, what is proven and what comes next."""
    text = " ".join(summary(result).split()).rpartition("VERDICT: pass ")[2]
    assert text == (
        "Won: 50% of the MACs are gone. ncnn-fp16 is 1.88 times as fast as the control on this machine, and loses "
        "0.7 points of mAP50-95 (0.6123 -> 0.6051). Proven: accuracy on 500 test images and speed, on board. Next: "
        "copy the bundle to the device and run `python -m yolo_slim.runtime check BUNDLE`."
    )


def test_summary_of_a_run_without_a_winner(result: Result) -> None:
    """It says that no build is inside the accuracy budget."""
    assert "of the MACs are gone, but no build is inside" in summary(changed(result, winner=None))


def test_summary_fits_a_screen(result: Result) -> None:
    """With every table and every gate unproven, it needs no more than 50 lines."""
    estimates = estimate_builds(targets.load("rpi5"), result.builds, result.size, 640)
    gates = tuple(changed(gate, status="unproven", reason="this is no board") for gate in result.verdict.gates)
    full = changed(
        result, estimates=estimates, emulated=emulated_result().emulated, verdict=changed(result.verdict, gates=gates)
    )
    assert len(summary(full).splitlines()) <= 50


def test_table_aligns() -> None:
    """The first column is aligned to the left, the others to the right, without trailing blanks."""
    assert table(["a", "b", ""], [["long", "1", ""], ["x", "222", "y"]]) == "  a       b\n  long    1\n  x     222  y"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5000"), (0.0, "0.0000"), (None, "not measured"), (float("nan"), "not measured")],
)
def test_number(value: float | None, shown: str) -> None:
    """A missing number is named, a measured zero is a zero."""
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0012, "+0.0012"), (-0.0012, "−0.0012"), (-0.00001, "0.0000"), (0.0, "0.0000"), (None, "not measured")],
)
def test_signed(value: float | None, shown: str) -> None:
    """Drops carry a sign; what rounds to zero has none."""
    assert signed(value) == shown


def test_summary_calls_an_estimate_one(unproven: Result) -> None:
    """Estimated figures stand in a table of their own, with their band, and the width is kept."""
    found = estimate_builds(targets.load("rpi5"), unproven.builds, unproven.size, unproven.imgsz)
    lines = summary(changed(unproven, estimates=found)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Estimated on a Raspberry Pi 5, 640 px"))
    assert "not measured" in lines[start]
    rows = [line.split() for line in lines[start + 3 : start + 7]]
    assert [row[0] for row in rows] == [str(build.key) for build in unproven.builds]
    assert all(float(row[2]) < float(row[1]) < float(row[3]) for row in rows)
    assert max(map(len, lines)) <= COLUMNS
    assert not any(line.startswith("Estimated") for line in summary(unproven).splitlines())
