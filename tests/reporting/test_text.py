from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolo_slim.reporting.facts import number, signed
from yolo_slim.reporting.text import COLUMNS, summary, table

GOLDEN = Path(__file__).with_name("summary.txt")


def test_summary_is_golden(result: dict[str, Any]) -> None:
    """The terminal text of a complete result, compared to the character with summary.txt."""
    for build in result["builds"]:
        build["bench"] |= {"fps": 15.5}
        build["bench"]["stages"]["total"] = {"p50_ms": 64.516, "p99_ms": 93.271}
    result["verdict"]["gates"][2]["value"], result["verdict"]["gates"][3]["value"] = 15.5, 93.271
    assert summary(result) + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_summary_names_what_is_missing(unproven: dict[str, Any]) -> None:
    """Speeds, accuracies and rungs without a measurement are called so."""
    lines = summary(unproven).splitlines()
    assert lines[-1] == "VERDICT: unproven"
    assert "  not measured: recovered, onnx, onnxruntime-fp32, ncnn-fp16" in lines
    assert [line.split() for line in lines if line.startswith("  slim/ncnn-fp16 ")] == [
        ["slim/ncnn-fp16", "unproven", "-", "unproven", "unproven", "2.18", "unproven"]
    ]
    assert "  min_fps: this machine is no board" in lines


def test_summary_gives_reasons_of_invalid_timings(result: dict[str, Any]) -> None:
    """A timing that doesn't count is marked in its row and explained below."""
    result["builds"][3]["bench"] |= {"valid": False, "invalid_reasons": ["throttled"]}
    lines = summary(result).splitlines()
    assert "  slim/ncnn-fp16: invalid: throttled" in lines
    assert [line.split()[-1] for line in lines if line.startswith("  slim/ncnn-fp16 ")] == ["invalid"]


def test_summary_fits_the_terminal(unproven: dict[str, Any]) -> None:
    """Long paths, reasons and rung names stay within the width."""
    unproven["data"]["yaml"] = "a long name " * 20
    unproven["notes"] = ["reason " * 40]
    unproven["target"]["is_this_machine"] = False
    unproven["ladder"][1] |= {"rung": "r" * 60, "against": "a" * 60}
    unproven["builds"][0]["name"] = "b" * 80
    assert max(map(len, summary(unproven).splitlines())) <= COLUMNS


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
