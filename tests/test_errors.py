"""The error that users see keeps its parts, however often it is raised again."""

from __future__ import annotations

from typing import Any

import pytest

from yolo_slim.errors import MachineError, SlimError, did_you_mean
from yolo_slim.nightly.cells import attempt

WHOLE = MachineError("The disk is full.", culprits=["a", "b"], remedy="Free some.", topic="the-disk-is-full")


def test_same_error_of_another_kind() -> None:
    """What isn't given stays, the topic too; what is given replaces its part alone."""
    plain = WHOLE.as_kind(SlimError)
    assert type(plain) is SlimError
    assert str(plain) == str(WHOLE)
    other = WHOLE.as_kind(MachineError, fact="x: full.", culprits=())
    assert (type(other), other.culprits) == (MachineError, ())
    assert str(other) == "x: full.\nFree some.\nMore: docs/troubleshooting.md#the-disk-is-full"


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("stpes", ["steps", "stride"], "'steps'"),
        ("--onyl", ["--json", "--only"], "'--only'"),
        ("stauts", ["staves", "status"], "'status'"),
        ("abdc", ["abc", "abcd"], "'abcd'"),
        ("RPI5", ["rpi4", "rpi5"], "'rpi5'"),
        ("lr", ["lrf", "lr0", "iou"], "'lrf' or 'lr0'"),
        ("rpi", ["host", "rpi4", "rpi5"], "'rpi4' or 'rpi5'"),
        ("orin", ["orin-a", "orin-b", "orin-c", "orin-d", "orin-e"], "'orin-a', 'orin-b', 'orin-c' or 'orin-d'"),
        ("image_size", ["imgsz", "seed"], "'imgsz'"),
        ("criterium", ["criterion", "schedule"], "'criterion'"),
    ],
)
def test_what_was_meant(word: str, known: list[str], meant: str) -> None:
    """Letters that are exchanged, wrong, missing or left out; what is equally near is named together."""
    assert did_you_mean(word, known) == f" Did you mean {meant}?"


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("epochs", ["export", "emulate", "recover"]),
        ("--onyl", ["--json", "--quiet"]),
        ("tune", ["run", "build"]),
        ("ab", ["ac"]),
        ("", ["scene"]),
    ],
)
def test_what_was_not_meant(word: str, known: list[str]) -> None:
    """Negative control: a word that shares some letters is another word."""
    assert did_you_mean(word, known) == ""


class Timed(SlimError):
    """An error that says more."""

    def __init__(self, *args: Any, ms: float | None = None, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self.ms = ms


def test_what_a_kind_says_besides_stays() -> None:
    """Only where the kind stays; a plain error has nothing more."""
    error = Timed("Too slow.", ms=3.0, remedy="Wait.")
    again = error.as_kind(type(error), culprits=["x"])
    assert (again.ms, again.culprits, again.remedy) == (3.0, ("x",), "Wait.")
    assert not hasattr(error.as_kind(SlimError), "ms")


def test_error_of_a_cell_keeps_its_topic() -> None:
    """What a night records of a failed cell names the section of the troubleshooting page."""

    def fail(_: object) -> None:
        raise WHOLE

    with pytest.raises(MachineError, match="#the-disk-is-full"):
        attempt(fail, None)
