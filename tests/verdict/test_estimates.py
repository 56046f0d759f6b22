"""An estimate is shown beside a result and decides nothing in it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel, ValidationError

from tests.helpers.constants import ROOT
from tests.helpers.layers import imports_of
from tests.helpers.results import changed, complete_result, unproven_result
from yolo_slim.build_key import BuildKey
from yolo_slim.config import targets
from yolo_slim.measuring.estimate import Estimate
from yolo_slim.verdict import control, gates, judge
from yolo_slim.verdict.estimates import estimate_builds
from yolo_slim.verdict.gates import device_gates, verdict
from yolo_slim.verdict.result import Build, Gate, Result, Verdict

JUDGES = (gates, judge, control)
RPI5 = targets.load("rpi5")


def estimates(result: Result) -> tuple[Estimate, ...]:
    """Return the estimates of a result's builds on a Raspberry Pi 5."""
    return estimate_builds(RPI5, result.builds, result.size, result.imgsz)


def named_types(annotation: Any, seen: set[Any]) -> Iterator[Any]:
    """Yield every type in an annotation, and those in the fields of its records."""
    for part in get_args(annotation):
        yield from named_types(part, seen)
    if annotation in seen or not isinstance(annotation, type):
        return
    seen.add(annotation)
    yield annotation
    fields = annotation.model_fields if issubclass(annotation, BaseModel) else {}
    for field in fields.values():
        yield from named_types(field.annotation, seen)


def test_what_judges_takes_no_estimate() -> None:
    """No function that makes gates and verdicts has a parameter in which an estimate could be."""
    found: set[Any] = set()
    for module in JUDGES:
        for _, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                hints = get_type_hints(function, localns={"Iterable": Iterator})
                for hint in hints.values():
                    assert Estimate not in set(named_types(hint, found))
    assert {Build, Gate} <= found
    assert Estimate in set(named_types(Result, set()))


@pytest.mark.parametrize("module", JUDGES)
def test_what_judges_does_not_know_estimates(module: Any) -> None:
    """The modules of the judgement import nothing of estimates; the one that assembles a result does."""
    path = Path(module.__file__)
    assert not [one for one in imports_of(path) if "estimate" in one.imported]
    assembled = imports_of(ROOT / "yolo_slim/verdict/assemble.py")
    assert [one for one in assembled if "estimate" in one.imported]


def test_an_estimate_is_no_timing() -> None:
    """It can't stand where a measurement does."""
    result = unproven_result()
    (first, *_) = estimates(result)
    values = {**vars(result.builds[0]), "bench": first}
    with pytest.raises(ValidationError):
        Build(**values)


@pytest.mark.parametrize("imgsz", [32, 640, 6400])
def test_no_estimate_passes_or_fails_a_gate(imgsz: int) -> None:
    """However fast or slow it is, speed stays unproven without a timing on the device."""
    result = changed(unproven_result(), imgsz=imgsz)
    assert estimates(result)
    found = device_gates(RPI5.budget, result.builds[1], 0.0, "no Raspberry Pi is here")
    assert {gate.name: gate.status for gate in found}["min_fps"] == "unproven"
    assert verdict(found, proven=False).status == "unproven"


def test_a_result_with_estimates_keeps_its_verdict(tmp_path: Path) -> None:
    """They are saved and read beside it; results from before there were any are still read."""
    before = unproven_result()
    after = changed(before, estimates=estimates(before))
    assert isinstance(after.verdict, Verdict)
    assert after.verdict == before.verdict
    after.save(tmp_path / "result.json")
    assert Result.load(tmp_path / "result.json") == after
    old = before.to_json()
    del old["estimates"]
    assert Result.from_json(old) == before


def test_builds_with_rows_are_estimated() -> None:
    """Control and slim of each build with rows; the slim one is faster, and a timing of this workstation widens it."""
    timed, untimed = complete_result(), unproven_result()
    found = {one.name: one for one in estimates(timed)}
    assert list(found) == [str(build.key) for build in timed.builds]
    assert found["slim/ncnn-fp16"].infer_ms < found["control/ncnn-fp16"].infer_ms
    plain = {one.name: one for one in estimates(untimed)}
    slim = str(BuildKey.parse("slim/ncnn-fp16"))
    assert found[slim].infer_ms == plain[slim].infer_ms
    assert found[slim].lowest_ms <= plain[slim].lowest_ms
