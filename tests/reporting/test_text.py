from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.results import (
    SUSTAINED,
    changed,
    complete_result,
    emulated_result,
    latency_cut,
    make_build,
    make_rung,
    sides,
    with_build,
)
from yolo_slim.build_key import BuildName
from yolo_slim.config import targets
from yolo_slim.measuring.latency_cut import LatencyCut, TimedCut
from yolo_slim.reporting.facts import number, signed
from yolo_slim.reporting.text import COLUMNS, LINES, summary, table
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
    assert "  onnxruntime-fp32, ncnn-fp16: unproven: this build was not timed" in lines
    assert [line.split() for line in lines if line.startswith("  ncnn-fp16 ")] == [
        ["ncnn-fp16", "-", "-", "-", "-", "2.18", "unproven"]
    ]
    assert "Gates: 0 of 1 passed; unproven min_fps: this machine is no board" in lines


def test_summary_gives_reasons_of_invalid_timings(result: Result) -> None:
    """A timing that doesn't count is marked in its row and explained below."""
    lines = summary(with_build(result, 3, bench={"invalid_reasons": ("throttled",)})).splitlines()
    assert "  ncnn-fp16: invalid: throttled" in lines
    assert [line.split()[-1] for line in lines if line.startswith("  ncnn-fp16 ")] == ["invalid"]


def test_summary_doubts_a_ratio_to_an_invalid_control(result: Result) -> None:
    """The control has no row, but its timing is explained, and no ratio to it is shown."""
    (gain,) = result.speedups
    found = with_build(result, 2, bench={"invalid_reasons": ("throttled",)})
    text = summary(changed(found, speedups=(changed(gain, valid=False),)))
    assert "  control/ncnn-fp16: invalid: throttled\n" in text
    assert [line.split()[2] for line in text.splitlines() if line.startswith("  ncnn-fp16 ")] == ["invalid"]
    assert "1.88" not in text


def test_summary_shows_the_failed_rungs(result: Result) -> None:
    """Of the rungs behind recovery only those that failed have a row."""
    ladder = tuple(changed(one, status="fail") if one.rung == "onnx" else one for one in result.ladder)
    text = summary(changed(result, ladder=ladder))
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("  onnx ")] == ["fail"]
    assert "\n  onnx " not in summary(result)


def test_summary_says_how_the_winner_lasts(result: Result) -> None:
    """Its run of minutes has a line, only where it was measured."""
    text = " ".join(summary(result.with_sustained(SUSTAINED)).split())
    assert " ncnn-fp16: 10.0 minutes without a pause: 16.0 FPS in the first 30 s" in text
    assert "10.0 minutes" not in summary(result)


def test_summary_says_what_a_cut_to_milliseconds_took(result: Result) -> None:
    """One line has what was asked for and what was measured; a timing that doesn't count is named."""
    cut = latency_cut()
    asked = "  cut before the training: 7.88 ms a frame in ncnn-fp16, 8.00 asked"
    assert f"{asked}\n" in summary(changed(result, latency=cut))
    doubtful = changed(cut, cuts=(cut.cuts[0], changed(cut.cuts[1], invalid_reasons=("throttled",))))
    text = " ".join(summary(changed(result, latency=doubtful)).split())
    assert f"{asked.strip()}; the timing doesn't count: throttled" in text


def test_summary_without_a_slim_build(result: Result) -> None:
    """Where only the control was built, it has the rows."""
    controls = tuple(build for build in result.builds if not build.key.is_slim)
    text = summary(changed(result, builds=controls, winner=None, speedups=()))
    assert "\n  control/ncnn-fp16 " in text
    assert "\n  control/ncnn-fp16 " not in summary(result)


def test_summary_fits_the_terminal(unproven: Result) -> None:
    """Long paths, reasons and rung names stay within the width."""
    long = changed(
        unproven,
        data=changed(unproven.data, yaml="a long name " * 20),
        notes=("reason " * 40,),
        target=changed(unproven.target, is_measured=False),
        ladder=(unproven.ladder[0], changed(unproven.ladder[1], rung="r" * 60, against="a" * 60, status="fail")),
    )
    assert max(map(len, summary(long).splitlines())) <= COLUMNS == 80


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
    assert f"Gates: 5 of 6 passed; fail {failed}: off by 1" in lines
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


@pytest.mark.parametrize("named", ["onnxruntime-int8", None])
def test_summary_of_a_named_build_that_lost(named: str | None, result: Result) -> None:
    """A higher frame rate doesn't help the build that the cut wasn't made for. Control: no build was named."""
    cut = LatencyCut(
        budget_ms=20.0, build=BuildName("onnxruntime", "int8"), device="board", unpruned_ms=30.0, overhead_ms=1.0,
        table_error_median=0.01, table_error_worst=0.02, cuts=(TimedCut(predicted_ms=19.0, measured_ms=19.5),), kept=0,
        named=named,
    )  # fmt: skip
    assert result.winner is not None
    assert result.winner.build != cut.build
    gates = tuple(
        changed(gate, status="fail", reason="off by 1") if gate.name == "min_fps" else gate
        for gate in result.verdict.gates
    )
    found = changed(result, latency=cut, verdict=changed(result.verdict, status="fail", gates=gates))
    text = " ".join(summary(found).split()).rpartition("Next: ")[2]
    assert ("onnxruntime-int8, for which the cut was made, didn't win" in text) == (named is not None)
    assert ("ask for a higher --target-fps" in text) == (named is None)


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
        "run `python -m yolo_slim.runtime check BUNDLE` on the device."
    )


def test_summary_of_a_run_without_a_winner(result: Result) -> None:
    """It says that no build is inside the accuracy budget."""
    assert "of the MACs are gone, but no build is inside" in summary(changed(result, winner=None))


def three_builds(result: Result) -> Result:
    """Add an int8 build."""
    more = make_build("control", "onnxruntime-int8", 0.61), make_build("slim", "onnxruntime-int8", 0.6)
    rung = make_rung("onnxruntime-int8", "bundle onnxruntime-int8", 0.6, "onnx", 0.002)
    return changed(result, builds=(*result.builds, *more), ladder=(*result.ladder, rung))  # type: ignore[no-any-return]


def away() -> Result:
    """Return a result without the device: an estimate, an emulated processor, and no gate that passed."""
    found = three_builds(emulated_result())
    gates = tuple(changed(gate, status="unproven", reason="this is no board") for gate in found.verdict.gates)
    estimates = estimate_builds(targets.load("rpi5"), found.builds, found.size, 640)
    return changed(found, estimates=estimates, verdict=changed(found.verdict, gates=gates))  # type: ignore[no-any-return]


def in_ms() -> Result:
    """Return a result of a budget in milliseconds on the device: a failed gate, and a side that was chosen."""
    found = three_builds(complete_result())
    first, *others = found.verdict.gates
    gates = (changed(first, status="fail", reason="0.0200 is more than the 0.0100 allowed"), *others)
    verdict = changed(found.verdict, status="fail", gates=gates)
    return changed(found, latency=latency_cut(), sides=sides(), verdict=verdict)  # type: ignore[no-any-return]


@pytest.mark.parametrize("notes", [(), ("one",), ("one", "a long note " * 20, "three")])
@pytest.mark.parametrize("found", [away(), in_ms()], ids=["away", "in_ms"])
def test_summary_fits_a_screen(found: Result, notes: tuple[str, ...]) -> None:
    """With and without the device, it, the two lines below it and a prompt are 24 lines of 80 columns."""
    lines = summary(changed(found, notes=notes)).splitlines()
    assert len(lines) <= LINES == 24 - 2 - 1
    assert max(map(len, lines)) <= COLUMNS == 80
    told = "on a Raspberry Pi 5: " if found.estimates else "px, the best of 3 sides)"
    assert any(told in line for line in lines)


def test_summary_counts_the_notes_that_have_no_room(result: Result) -> None:
    """The first notes are shown whole; the others are counted, never dropped in silence."""
    lines = summary(changed(result, notes=("one", "two"))).splitlines()
    assert lines[lines.index("Note: one") + 1] == "Note: two"
    lines = summary(changed(result, notes=("one", "many words " * 60, "three"))).splitlines()
    assert lines[lines.index("Note: one") + 1] == "Notes: 2 more in the report"
    assert not any(line.startswith("Note: many") for line in lines)
    assert "Notes: 1 in the report" in summary(changed(result, notes=("many words " * 60,)))


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


def test_summary_calls_an_estimate_one(result: Result) -> None:
    """The winner's estimate has a line with its band, only where there is one; the control's is in the report."""
    found = estimate_builds(targets.load("rpi5"), result.builds, result.size, result.imgsz)
    lines = [line for line in summary(changed(result, estimates=found)).splitlines() if "estimated" in line]
    (line,) = lines
    match = re.fullmatch(r"  ncnn-fp16 on a Raspberry Pi 5: (\S+) FPS of inference \((\S+) to (\S+)\), estimated", line)
    assert match
    fps, low, high = map(float, match.groups())
    assert low < fps < high
    assert "estimated" not in summary(result)
    assert "estimated" not in summary(changed(result, estimates=found, winner=None))
