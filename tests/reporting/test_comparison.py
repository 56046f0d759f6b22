"""The page and the texts of a comparison, also when pruning lost."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.reporting.conftest import MACHINE, make_bench
from yolo_slim.comparison.summary import Row, value
from yolo_slim.reporting.comparison_html import render
from yolo_slim.reporting.comparison_text import HEAD, markdown, text
from yolo_slim.reporting.plots import Mark, accuracy_vs_latency
from yolo_slim.reporting.text import COLUMNS

KEY = "onnxruntime-fp32"
ABOUT = ("name", "command", "model", "target", "data", "imgsz", "training", "runtimes", "machine")


def rows(arm: str, removed: float, maps: tuple[float, ...], imgsz: int = 320) -> list[Row]:
    """Return one arm's rows, one a seed."""
    return [
        Row(
            arm=arm,
            removed=removed,
            seed=seed if len(maps) > 1 else -1,
            reason="",
            imgsz=imgsz,
            implementation=f"made of {arm} & <weights>",
            macs=round((1 - removed) * 1e9),
            params=1_000_000,
            scores={KEY: {"map50_95": found, "map50": found + 0.2}},
            timed={KEY: arm},
            folder=f"{arm}/50/seed-{seed}",
        )
        for seed, found in enumerate(maps)
    ]


def bench(ms: float) -> dict[str, Any]:
    """Return a merged timing of five rounds."""
    rounds = [ms * share for share in (0.99, 0.995, 1, 1.005, 1.01)]
    return {**make_bench(ms, 1), "round_p50_ms": rounds, "round_network_p50_ms": rounds}


@pytest.fixture
def lost() -> dict[str, Any]:
    """Return a comparison that pruning lost to the smaller input and won against random channels."""
    grid = rows("ours", 0.5, (0.50, 0.51, 0.505)) + rows("random", 0.5, (0.40, 0.42, 0.41))
    grid += rows("small-input", 0.5, (0.55, 0.56, 0.555), 224) + rows("control", 0.0, (0.6,))
    timings = {"ours": bench(5.0), "random": bench(5.2), "small-input": bench(4.0), "control": bench(8.0)}
    about = {
        "name": "hardhat",
        "command": "yolo-slim compare --model best.pt",
        "model": {"file": "best.pt", "sha256": "0" * 64},
        "target": {"name": "host", "description": "this machine", "is_this_machine": True},
        "data": {"yaml": "data.yaml", "split": "test", "images": 200},
        "imgsz": 320,
        "training": {"epochs": 10, "batch": 16, "distill": 3.0, "overrides": {}, "images_seen": 10000},
        "runtimes": [KEY],
        "machine": MACHINE,
    }
    return value(about, grid, timings)


def test_a_loss_is_said_in_plain_words(lost: dict[str, Any]) -> None:
    """Terminal, Markdown, JSON and page all say that pruning lost, and to whom."""
    words = "Pruning lost: small-input is more accurate and no slower"
    assert lost["verdict"]["status"] == "lost"
    assert words in lost["verdict"]["text"]
    for shown in (" ".join(text(lost).split()), markdown(lost), render(lost)):
        assert words in shown
    assert '<section class="verdict fail">' in render(lost)


def test_a_throttled_timing_is_marked(lost: dict[str, Any]) -> None:
    """Figures of a timing that doesn't count never stand as ordinary ones, and its reasons are told."""
    timings = {arm: bench(5.0) for arm in ("ours", "random", "control")}
    timings["random"] |= {"valid": False, "invalid_reasons": ["throttled"]}
    grid = rows("ours", 0.5, (0.5,)) + rows("random", 0.5, (0.4,)) + rows("control", 0.0, (0.6,))
    found = value({key: lost[key] for key in ABOUT}, grid, timings)
    for shown in (text(found), markdown(found), render(found)):
        assert "(invalid)" in shown
        assert f"Timings in {KEY} that don't count (throttled): random." in " ".join(unescape(shown).split())
    assert "(invalid)" not in text(lost)


def test_nobody_was_taught(lost: dict[str, Any]) -> None:
    """Where distillation was off, no arm says that it had it."""
    assert [arm["distilled"] for arm in lost["arms"]] == [True, True, False, False]
    off = {**lost, "training": {**lost["training"], "distill": 0.0}}
    assert not any(
        arm["distilled"] for arm in value(off, rows("ours", 0.5, (0.5,)) + rows("control", 0, (0.6,)), {})["arms"]
    )


def test_page_opens_offline(lost: dict[str, Any]) -> None:
    """One file without scripts or addresses; what arms say of themselves is escaped."""
    page = render(lost)
    HTMLParser().feed(page)
    assert "http" not in page
    assert "<script" not in page
    assert "&lt;weights&gt;" in page
    assert page == render(lost)


def test_plot_has_every_arm(lost: dict[str, Any]) -> None:
    """A mark, two error bars and a label for each arm; a ring for each on the frontier."""
    plot = render(lost).split('<div class="plot">')[1].split("</div>")[0]
    assert plot.count('class="spread"') == 2 * 4
    assert plot.count('class="ring"') == sum(a["runtimes"][KEY]["on_frontier"] for a in lost["arms"]) == 2
    for name in ("ours -50 %", "random -50 %", "small-input -50 %", "control"):
        assert f">{name}</text>" in plot


def test_texts(lost: dict[str, Any]) -> None:
    """Every arm is a row of both tables; the terminal's prose stays within its width."""
    lines = text(lost).splitlines()
    for name in ("ours -50 %", "random -50 %", "small-input -50 %", "control"):
        assert [line for line in lines if line.startswith(f"  {name} ")]
        assert f"| {name} |" in markdown(lost)
    assert all(len(line) <= COLUMNS for line in lines if "  " not in line.strip())
    assert markdown(lost).count(f"| {' | '.join(['---'] * len(HEAD))} |") == 1


def test_what_was_not_timed_is_unproven(lost: dict[str, Any]) -> None:
    """Without a timing there is no plot and no figure in its place."""
    for entry in lost["arms"]:
        entry["runtimes"][KEY] |= {"bench": None, "speedup": None}
    assert "unproven" in text(lost)
    assert "Speed is unproven: nothing was timed." in render(lost)


def test_a_label_far_from_its_marker_has_a_line() -> None:
    """Where arms lie close together, a line tells whose a label is; a label beside its marker needs none."""
    alone = Mark(
        name="ours", kind="slim", x=5.0, x_range=(5.0, 5.0), y=0.5, y_range=(0.5, 0.5), ringed=True, hollow=False
    )
    crowd = [replace(alone, name=f"arm-{n}", x=5.0 + 0.1 * n) for n in range(5)]
    assert 'class="lead"' not in str(accuracy_vs_latency([alone]))
    assert 'class="lead"' in str(accuracy_vs_latency([alone, *crowd]))
