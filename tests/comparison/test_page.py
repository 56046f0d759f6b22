"""The page and the texts of a comparison, also when pruning lost."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from tests.helpers.charts import charts
from tests.helpers.comparisons import KEY, about, bench, network, seeds, timings
from yolo_slim.comparison.networks import Network
from yolo_slim.comparison.page import render
from yolo_slim.comparison.result import CompareResult
from yolo_slim.comparison.summary import summarize
from yolo_slim.comparison.text import HEAD, markdown, text
from yolo_slim.reporting.text import COLUMNS

CONTROL = network("control", maps={KEY: 0.6})


def networks() -> list[Network]:
    """Return ours, a rival that is less accurate, one that is more accurate, and the control."""
    made = {"implementation": "made of & <weights>"}
    return [
        *seeds("ours", (0.50, 0.51, 0.505), **made),
        *seeds("random", (0.40, 0.42, 0.41), **made),
        *seeds("small-input", (0.55, 0.56, 0.555), imgsz=224, **made),
        CONTROL,
    ]


@pytest.fixture
def lost() -> CompareResult:
    """Return a comparison that pruning lost to the smaller input and won against random channels."""
    by_method = {"ours": bench(5.0), "random": bench(5.2), "small-input": bench(4.0), "control": bench(8.0)}
    return summarize(about(distill=3.0), networks(), timings(networks(), by_method))


def test_a_loss_is_said_in_plain_words(lost: CompareResult) -> None:
    """Terminal, Markdown, JSON and page all say that pruning lost, and to whom."""
    words = "Pruning lost: small-input is more accurate and no slower"
    assert lost.verdict.status == "lost"
    assert words in lost.verdict.text
    for shown in (" ".join(text(lost).split()), markdown(lost), render(lost)):
        assert words in shown
    assert '<section class="verdict fail">' in render(lost)


def test_a_throttled_timing_is_marked(lost: CompareResult) -> None:
    """Figures of a timing that doesn't count never stand as ordinary ones, and its reasons are there."""
    by_method = {method: bench(5.0) for method in ("ours", "control")}
    by_method["random"] = bench(5.0, valid=False, invalid_reasons=("throttled",))
    grid = [*seeds("ours", (0.5,)), *seeds("random", (0.4,)), CONTROL]
    found = summarize(about(), grid, timings(grid, by_method))
    for shown in (text(found), markdown(found), render(found)):
        assert "(invalid)" in shown
        assert f"Timings in {KEY} that don't count (throttled): random." in " ".join(unescape(shown).split())
    assert "(invalid)" not in text(lost)


def test_nobody_was_distilled(lost: CompareResult) -> None:
    """Where distillation was off, no method says that it had it."""
    assert [entry.distilled for entry in lost.methods] == [True, True, False, False]
    off = summarize(about(distill=0.0), networks(), {})
    assert not any(entry.distilled for entry in off.methods)


def test_page_opens_offline(lost: CompareResult) -> None:
    """One file that forbids the browser all others; what methods say of themselves is escaped."""
    page = render(lost)
    HTMLParser().feed(page)
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|iframe|img)|<script [^>]*src", page)
    assert "&lt;weights&gt;" in page
    assert page == render(lost)


def test_chart_has_every_method(lost: CompareResult) -> None:
    """A button, a point with its figures and error bars for each method; the frontier goes through those on it."""
    (chart,) = charts(render(lost))
    names = ["ours -50 %", "random -50 %", "small-input -50 %", "control"]
    assert chart.series == ["on the frontier", *names]
    assert [name for name in names if chart.points(name)["tip"][0].startswith(f"{name}\n")] == names
    assert all(len(chart.glyph(name, "Segment")["x0"]) == 2 for name in names)
    on = sum(entry.runtimes[KEY].on_frontier for entry in lost.methods)
    assert len(chart.glyph("on the frontier", "Line")["x"]) == on == 2


def test_texts(lost: CompareResult) -> None:
    """Every method is a row of both tables; the terminal's prose stays within its width."""
    lines = text(lost).splitlines()
    for name in ("ours -50 %", "random -50 %", "small-input -50 %", "control"):
        assert [line for line in lines if line.startswith(f"  {name} ")]
        assert f"| {name} |" in markdown(lost)
    assert all(len(line) <= COLUMNS for line in lines if "  " not in line.strip())
    assert markdown(lost).count(f"| {' | '.join(['---'] * len(HEAD))} |") == 1


def test_what_was_not_timed_is_unproven(lost: CompareResult) -> None:
    """Without a timing there is no plot and no figure in its place."""
    untimed = summarize(about(), networks(), {})
    assert "unproven" in text(untimed)
    assert "unproven" not in text(lost)
    assert "Speed is unproven: nothing was timed." in render(untimed)
