"""What an emulated processor adds to a verdict."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.results import WINNER, changed, complete_result, emulated_build, emulated_result
from yolo_slim.build_key import BuildKey
from yolo_slim.config import targets
from yolo_slim.measuring.emulated import Emulated
from yolo_slim.reporting.facts import verdict_text
from yolo_slim.reporting.html import render
from yolo_slim.reporting.text import summary
from yolo_slim.verdict.emulated import emulated_gates, emulation_note, failed_builds, proof
from yolo_slim.verdict.gates import verdict
from yolo_slim.verdict.result import Result

HERE = "this machine"
PROOF = "accuracy proven on an emulated Cortex-A76 (8 images), speed unproven"


def emulated(**changes: Any) -> Emulated:
    """Return the emulation of a winner with these changes, and of its control."""
    found = emulated_result().emulated
    assert found is not None
    control = BuildKey("control", WINNER.build)
    return changed(found, builds=(emulated_build(**changes), emulated_build(key=control)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "pass"),
        ({"status": "fail", "problems": ("a score differs by 0.6000, at most 0.05 allowed",)}, "fail"),
        ({"status": "unproven", "problems": ("neither side finds anything in these images",)}, "unproven"),
    ],
)
def test_gate_of_every_slim_build(changes: dict[str, Any], expected: str) -> None:
    """A failed comparison fails the verdict; one of nothing leaves it unproven; the control's isn't judged."""
    (gate,) = emulated_gates(emulated(**changes))
    assert (gate.name, gate.status) == ("emulated:ncnn-fp16", expected)
    assert bool(gate.reason) == (expected != "pass")
    assert verdict([gate], proven=True).status == expected
    assert emulated_gates(None) == []


def test_a_loser_spoils_no_verdict() -> None:
    """A failed build is named, so that it can't win, and has no gate where another one won."""
    failed = emulated(status="fail", problems=("the bundle's self-check failed",))
    assert failed_builds(failed) == [WINNER.build]
    assert emulated_gates(failed, [WINNER.build]) == []
    assert failed_builds(emulated()) == failed_builds(None) == []


def test_what_is_missing_is_said() -> None:
    """A Pi's result without an emulation names the command; elsewhere, and on the Pi itself, nothing is missing."""
    rpi5, host = targets.load("rpi5"), targets.load("host")
    (note,) = emulation_note(None, rpi5, on_target=False, device_name=HERE)
    assert "Cortex-A76" in note
    assert "`yolo-slim device prepare`" in note
    (other,) = emulation_note(None, rpi5, on_target=False, device_name="rpi5-emulated")
    assert "prepare" not in other
    assert "without --host rpi5-emulated" in other
    assert emulation_note(emulated(), rpi5, on_target=False, device_name=HERE) == []
    assert emulation_note(None, rpi5, on_target=True, device_name=HERE) == []
    assert emulation_note(None, host, on_target=False, device_name=HERE) == []


def test_verdict_says_what_is_proven() -> None:
    """Terminal and page say that accuracy is proven there, and speed isn't."""
    result = emulated_result()
    assert proof(result) == PROOF
    end = " ".join(summary(result).split("VERDICT: ")[1].split())
    assert end.startswith("unproven")
    assert "the same detections on an emulated Cortex-A76. Not proven: speed on" in end
    assert "Accuracy proven on an emulated Cortex-A76 (8 images), speed unproven." in verdict_text(result)
    page = render(result, [])
    assert "emulated Cortex-A76 (QEMU 7.2)" in page
    assert "slim/ncnn-fp16" in page.split("On the emulated processor")[1].split("Preflight")[0]


@pytest.mark.parametrize(
    "other",
    [
        complete_result(),
        changed(emulated_result(), winner=None),
        changed(emulated_result(), emulated=emulated(status="fail", problems=("SIGILL",))),
        changed(emulated_result(), emulated=emulated(status="unproven", problems=("nothing",))),
    ],
)
def test_nothing_is_proven_otherwise(other: Result) -> None:
    """Without an emulation, without a winner, or where the winner failed there, no accuracy is claimed."""
    assert proof(other) == ""
    assert "emulated Cortex-A76 (8 images)" not in summary(other).splitlines()[-1]


def test_result_keeps_it() -> None:
    """It is written and read again; a result of before has none."""
    result = emulated_result()
    assert Result.from_json(result.to_json()) == result
    value = {key: item for key, item in complete_result().to_json().items() if key != "emulated"}
    assert Result.from_json(value).emulated is None


def test_problems_are_shown() -> None:
    """The terminal names what differs by its gate; the page has the table of every bundle."""
    found = emulated(status="fail", problems=("a box has IoU 0.300",))
    failed = changed(emulated_result(), emulated=found, verdict=verdict(emulated_gates(found), proven=False))
    assert "fail emulated:ncnn-fp16: a box has IoU 0.300" in summary(failed)
    assert "a box has IoU 0.300" in render(failed, []).split("On the emulated processor")[1]
