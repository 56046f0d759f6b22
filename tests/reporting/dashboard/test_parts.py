"""The dashboard's pure parts."""

from __future__ import annotations

from dataclasses import replace

from tests.helpers.dashboards import Written
from yolo_slim.reporting.dashboard.board import slug
from yolo_slim.reporting.dashboard.events import events
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


def test_new_packages_of_the_workstation_are_an_event(written: Written) -> None:
    """They are told apart from the device's; equal ones are no event."""
    one = written.board.cells[0]
    first, second = (run.model_copy(update={"workstation": {"torch": "2.9.0"}}) for run in one.runs[:2])
    other = second.model_copy(update={"workstation": {"torch": "2.10.0"}})
    texts = [
        [event.text for event in events(replace(one, runs=(first, last)), written.board.night)
         if event.kind == "workstation's SDKs"]
        for last in (second, other)
    ]  # fmt: skip
    assert texts == [[], ["workstation's torch: 2.9.0 -> 2.10.0"]]
