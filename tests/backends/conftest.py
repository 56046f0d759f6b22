"""Fixtures: the tiny detector's ONNX file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import tiny_detector


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ONNX file; don't change it."""
    return tiny_detector.write_onnx(tmp_path_factory.mktemp("onnx") / "tiny.onnx")
