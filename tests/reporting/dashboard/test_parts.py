"""The dashboard's pure parts."""

from __future__ import annotations

from dataclasses import replace

from tests.helpers.dashboards import Written
from yolo_slim.reporting.dashboard.board import slug
from yolo_slim.reporting.dashboard.events import commit_text, events
from yolo_slim.reporting.dashboard.front import pareto


def test_pareto_front() -> None:
    """Points that another one beats in both values are left out; equal ones count once."""
    assert pareto([(1, 5), (2, 4), (2, 3), (3, 4), (4, 1), (1, 5)]) == [(1, 5), (3, 4), (4, 1)]
    assert pareto([]) == []


def test_file_names_differ_where_names_do() -> None:
    """Names that look alike without their special characters have files of their own."""
    assert slug("a/b") != slug("a b")
    assert slug("a/b").startswith("a-b-")
    assert "/" not in slug("../../etc/passwd")


def test_failures_are_events(written: Written) -> None:
    """A night without a figure is an event with the error's first line."""
    one = written.board.cells[0]
    failed = one.runs[5].model_copy(
        update={"measurement": None, "state": "failed", "judgement": None, "error": "no route\nTraceback"}
    )
    found = events(replace(one, runs=(*one.runs[:5], failed, *one.runs[6:])), written.board.night)
    assert [(event.night, event.text) for event in found if event.kind == "no figure"] == [(6, "failed: no route")]


def test_uncommitted_changes_are_a_change(written: Written) -> None:
    """A commit with local changes is marked; equal code is no event."""
    night = written.board.nights[0]
    dirty = night.model_copy(update={"source": night.source.model_copy(update={"dirty": True})})
    assert commit_text(night, night) == ""
    assert commit_text(night, dirty).startswith("00000000 -> 00000000+")
