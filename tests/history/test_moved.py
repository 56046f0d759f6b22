"""What differs between two runs of a cell, told by what it belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from yolo_slim.history.moved import Moved, commit_text, moved_between
from yolo_slim.history.rows import Cell, Digests, Run, Source

CELL = Cell(model="m", data="d", settings="s", target="t", build="ncnn-int8")
SOURCE = Source(commit="a" * 40, branch="main", dirty=False, subject="first")
DIGESTS = Digests(weights="1" * 64, data="2" * 64, bundle="3" * 64, network="4" * 64, calibration="5" * 64)


def run_of(**changes: Any) -> Run:
    """A measured run; ``changes`` replace its facts, those of digests by their own names."""
    digests = {key: changes.pop(key) for key in list(changes) if key in Digests.model_fields}
    facts: dict[str, Any] = {
        "environment": {"python": "3.11", "onnxruntime": "1.31.0"},
        "workstation": {"torch": "2.9.0", "onnxruntime": "1.31.0"},
        "digests": DIGESTS.model_copy(update=digests),
    }
    return Run(uid="r", night=1, cell=CELL, state="measured", recorded_at="2026-01-01", **{**facts, **changes})


def between(after: Run, source: Source = SOURCE, before: Run | None = None) -> Moved:
    """The differences from a run in which nothing was changed."""
    return moved_between(before or run_of(), after, (SOURCE, source))


def test_equal_runs() -> None:
    """Nothing differs."""
    assert between(run_of()).texts == ()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"commit": "b" * 40, "subject": "second"}, "commit: aaaaaaaa -> bbbbbbbb: second"),
        ({"dirty": True, "subject": ""}, "commit: aaaaaaaa -> aaaaaaaa with changes"),
        ({"commit": None, "subject": None}, "commit: aaaaaaaa -> no repository"),
        ({"branch": "other", "subject": "renamed"}, ""),
    ],
)
def test_commit(source: dict[str, Any], text: str) -> None:
    """Another commit and uncommitted changes are differences; the name of the branch is none."""
    found = between(run_of(), SOURCE.model_copy(update=source))
    assert found.texts == ((text,) if text else ())
    assert found.commit == found.texts
    assert commit_text(SOURCE, SOURCE) == ""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"calibration": "6" * 64}, "calibration images: 555555555555 -> 666666666666"),
        ({"calibration": None}, "calibration images: 555555555555 -> not set"),
        ({"data": "7" * 64}, "data: 222222222222 -> 777777777777"),
    ],
)
def test_data(changes: dict[str, Any], text: str) -> None:
    """The images of the calibration count, and those of the data set, which can't be compared besides."""
    found = between(run_of(**changes))
    assert found.data == found.texts == (text,)
    assert bool(found.incomparable) == ("data" in changes)


def test_packages_of_the_workstation_and_of_the_device() -> None:
    """A package of the same name is told apart by whose it is."""
    new = {"torch": "2.9.0", "onnxruntime": "1.32.0"}
    assert between(run_of(workstation=new)).texts == ("workstation's onnxruntime: 1.31.0 -> 1.32.0",)
    device = between(run_of(environment={"python": "3.11", "onnxruntime": "1.32.0"}))
    assert (device.environment, device.workstation) == (("onnxruntime: 1.31.0 -> 1.32.0",), ())


def test_packages_that_were_not_recorded() -> None:
    """An earlier version recorded none: nothing is claimed of them."""
    assert between(run_of(), before=run_of(workstation={})).texts == ()


def test_clock_limits() -> None:
    """A lower limit is a difference; a night that recorded none says nothing of it."""
    slow, fast = ({"python": "3.11", "onnxruntime": "1.31.0", "cpu_max_mhz": mhz} for mhz in ("1500", "2400"))
    before = run_of(environment=fast)
    assert between(run_of(environment=slow), before=before).environment == ("cpu_max_mhz: 2400 -> 1500",)
    assert between(run_of(environment=fast), before=before).environment == ()
    assert between(run_of(environment=slow)).environment == ()
