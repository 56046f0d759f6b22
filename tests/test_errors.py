"""The error that users see keeps its parts, however often it is raised again."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from tests.helpers.nights import NightDevice, run_night, runs_of, write_matrix
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.nightly import cells
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


def test_error_of_a_cell_keeps_its_topic(tmp_path: Path, shapes: Path) -> None:
    """What a night records of a failed cell names the section of the troubleshooting page."""

    def fail(_: object) -> None:
        raise WHOLE

    with pytest.raises(SlimError, match="#the-disk-is-full") as error:
        attempt(fail, None)
    assert not isinstance(error.value, MachineError)
    with patch.object(cells.Cells, "measure", lambda *_: fail(None)):
        matrix = write_matrix(tmp_path, shapes)
        run_night(matrix, NightDevice())
    assert all("#the-disk-is-full" in str(run.error) for run in runs_of(matrix, 1))
