"""Data that a test of the command line may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied(signs: Path, tmp_path: Path) -> Path:
    """Return the data.yaml of a copy of the signs."""
    shutil.copytree(signs.parent, tmp_path / "data")
    return tmp_path / "data" / "data.yaml"
