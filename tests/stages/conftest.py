"""What all tests of stages share."""

from __future__ import annotations

import pytest

from yolo_slim.runtime import bench


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy devices that are invented aren't waited for."""
    monkeypatch.setattr(bench, "PAUSE_S", 0.0)
