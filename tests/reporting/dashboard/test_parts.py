"""The dashboard's pure parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.dashboards import Written
from yolo_slim.history.moved import commit_text
from yolo_slim.history.rows import Run
from yolo_slim.reporting.dashboard.board import Board, slug
from yolo_slim.reporting.dashboard.devices import device
from yolo_slim.reporting.dashboard.drift import device_latency
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


def test_uncommitted_changes_are_a_change(written: Written) -> None:
    """A commit with local changes is marked; equal code is no event."""
    night = written.board.nights[0]
    dirty = night.model_copy(update={"source": night.source.model_copy(update={"dirty": True})})
    assert commit_text(night.source, night.source) == ""
    assert commit_text(night.source, dirty.source).startswith("00000000 -> 00000000 with changes")


def timed(run: Run, *, bundle_ms: float, reference: str | None, reference_ms: float | None, reason: str = "") -> Run:
    """A run with other latencies."""
    assert run.measurement is not None
    latencies = {"p50_ms": bundle_ms, "reference_p50_ms": reference_ms, "invalid_reasons": (reason,) if reason else ()}
    speed = run.measurement.speed.model_copy(update=latencies)
    return run.model_copy(
        update={"reference": reference, "measurement": run.measurement.model_copy(update={"speed": speed})}
    )


def test_device_is_told_from_its_bundles(written: Written) -> None:
    """A slower device moves the level; slower bundles, a new reference and timings that don't count don't."""
    first, second, third, fourth, fifth = written.board.cells[0].measured[:5]
    runs = [
        timed(first, bundle_ms=10, reference=None, reference_ms=None),
        # The bundle is slower, the device isn't; the night is the next baseline.
        timed(second, bundle_ms=30, reference=first.uid, reference_ms=10),
        # The device is slower by a fifth.
        timed(third, bundle_ms=36, reference=second.uid, reference_ms=36),
        timed(fourth, bundle_ms=99, reference=second.uid, reference_ms=99, reason="throttled"),
        timed(fifth, bundle_ms=36, reference=second.uid, reference_ms=36),
    ]
    nights, level = device_latency(runs, range(20))
    assert nights == [run.night for run in (first, second, third, fifth)]
    assert level == pytest.approx([0, 0, 0.1823, 0.1823], abs=1e-4)
    assert device_latency([], range(20)) == ([], [])
    # Imported nights have higher numbers than the nights after them.
    imported = [run.model_copy(update={"night": number}) for run, number in zip(runs, (18, 19, 1, 2, 3), strict=True)]
    nights, level = device_latency(imported, [18, 19, 1, 2, 3])
    assert nights == [18, 19, 1, 3]
    assert level == pytest.approx([0, 0, 0.1823, 0.1823], abs=1e-4)


def test_imported_nights_are_in_their_place(written: Written) -> None:
    """The newest facts and events are those of the last night, though an earlier, imported one has a higher number."""
    first, *others = written.board.nights
    imported = others[1].model_copy(update={"number": 99, "imported": True})
    runs = [run.model_copy(update={"night": 99}) if run.night == 3 else run for run in written.board.cells[0].runs]
    own = Board((first, others[0], imported, *others[2:]), (replace(written.board.cells[0], runs=tuple(runs)),))
    (cell,) = own.cells
    listed = events(cell, own.night)
    order = [event.night for event in listed]
    assert 99 in order[:-1]
    assert order == sorted(order, key=list(own.night).index)
    assert own.newest_first(listed, lambda event: event.night)[0].night == order[-1]
    assert device(own, [cell], {cell.cell.name: listed}).environment == cell.measured[-1].environment
