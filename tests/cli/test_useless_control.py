"""A control that no result can be compared with ends every command that would compare, before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import yolo_slim
from tests.helpers.cli import run_cli
from yolo_slim.errors import SlimError


@pytest.mark.parametrize("command", ["run", "compare"])
def test_it_finds_almost_nothing(command: str, untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Weights that find nothing end the command with exit code 2, and no network is made."""
    given = ["--model", str(untrained("yolov8n")), "--data", str(signs), "--imgsz", "96", "--project", str(tmp_path)]
    code, _, errors = run_cli(command, *given)
    assert code == 2
    assert "finds almost nothing" in errors
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("result.json"))


def test_validate_refuses_it_too(untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Nothing can be judged against it either."""
    with pytest.raises(SlimError, match="finds almost nothing"):
        yolo_slim.validate({}, untrained("yolov8n"), signs, tmp_path / "v", imgsz=96)
    assert not (tmp_path / "v" / "result.json").exists()
