"""Whether there is anything to cut is answered once: a later timing throws no training away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.devices import ModelledDevice
from tests.helpers.latency_tables import outputs_of, table
from tests.helpers.listeners import Remembers
from yolo_slim import preparation
from yolo_slim.api import make_config
from yolo_slim.build_key import BuildName
from yolo_slim.errors import SlimError
from yolo_slim.preparation import Run
from yolo_slim.stages.context import Context
from yolo_slim.uncut import InInt8, is_enough
from yolo_slim.workspace.up_to_date import NotUpToDate

FAST, SLOW = 7.0, 11.0
"""Inference of an unpruned network that reaches the budget of 10 ms with its 2 ms before and after, and of another."""


class Cut:
    """A prune stage: its result is up to date or isn't."""

    def __init__(self, *, is_made: bool = False) -> None:
        self.is_made = is_made

    def __call__(self, context: Context) -> None:
        """Refuse to make anything where that is asked for."""
        if context.only_check and not self.is_made:
            raise NotUpToDate("prune")


@pytest.fixture
def this(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Prepare a run to 10 ms a frame."""
    monkeypatch.setattr(preparation, "connect", lambda *_: ModelledDevice())
    config = make_config(trained, signs, imgsz=96, target="host", latency_ms=10.0)
    return preparation.prepared(config, tmp_path / "run", progress=Remembers(), runs_bundles=True)


def asked(this: Run, control_ms: float, cut: Cut, int8: str = "") -> bool:
    """Ask with a table that says so."""
    tables = outputs_of(table(control_ms=control_ms), this.folder.parent / "tables")
    return is_enough(this, tables, cut, InInt8(reached=lambda: int8))


def test_answer_that_nothing_is_cut_stays(this: Run) -> None:
    """A table that was measured again and is slower changes nothing, until another budget is asked for (control)."""
    assert asked(this, FAST, Cut())
    said = "the unpruned network reaches the budget (111.1 FPS in onnxruntime-fp32); nothing is cut"
    assert said in this.context.progress.said
    assert asked(this, SLOW, Cut())
    prune = this.config.prune.model_copy(update={"latency_ms": 9.5})
    assert not asked(replace(this, config=this.config.model_copy(update={"prune": prune})), SLOW, Cut())


def test_cut_that_was_made_stays(this: Run) -> None:
    """A table that was measured again and is faster drops no cut; without one there is nothing to lose (control)."""
    assert not asked(this, SLOW, Cut())
    assert not asked(this, FAST, Cut(is_made=True))
    assert asked(this, FAST, Cut())


def test_int8_is_asked_last_and_once(this: Run) -> None:
    """It isn't asked where a cut is made, and its answer stays too."""
    takes = "takes 7.00 ms a frame in onnxruntime-int8"
    assert not asked(this, SLOW, Cut(is_made=True), takes)
    assert asked(this, SLOW, Cut(), takes)
    assert f"the unpruned network {takes}; nothing is cut" in this.context.progress.said
    assert asked(this, SLOW, Cut(), "")


def test_int8_that_is_named_and_loses_too_much(this: Run) -> None:
    """A network that is fast enough in the named build, and loses too much there, is no answer: a cut loses more."""
    int8 = table(control_ms=FAST, build=BuildName("onnxruntime", "int8"))
    tables = outputs_of(int8, this.folder.parent / "tables")
    named = this.config.latency.model_copy(update={"runtime": "onnxruntime-int8"})
    this = replace(this, config=this.config.model_copy(update={"latency": named}))
    with pytest.raises(SlimError, match=r"in onnxruntime-int8, but int8 loses \.1") as refused:
        is_enough(this, tables, Cut(), InInt8(too_much=lambda: "int8 loses .1"))
    assert "Leave latency.runtime out" in refused.value.remedy
    # Neither where a cut was made nor where int8 loses little: controls.
    assert not is_enough(this, tables, Cut(is_made=True), InInt8(too_much=lambda: "int8 loses .1"))
    assert is_enough(this, tables, Cut(), InInt8())


def test_call_that_may_make_nothing(this: Run) -> None:
    """Where nothing may be made and nothing is known, no device is asked."""
    with pytest.raises(NotUpToDate, match=r"^uncut$"):
        asked(replace(this, context=replace(this.context, only_check=True)), FAST, Cut())
