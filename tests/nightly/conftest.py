"""Small matrices, and a device that is as fast as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import tiny_data
from tests.helpers.nights import IMAGES, NightDevice, write_matrix


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of a few images with shapes."""
    return tiny_data.make(tmp_path_factory.mktemp("shapes"), "detect", images=IMAGES)


@pytest.fixture
def device() -> NightDevice:
    """A device of which nothing is asked yet."""
    return NightDevice()


@pytest.fixture
def matrix(tmp_path: Path, shapes: Path) -> Path:
    """A matrix of two cells."""
    return write_matrix(tmp_path, shapes)
