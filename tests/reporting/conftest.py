"""Results as the validate stage writes them, and example images."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.results import complete_result, unproven_result
from yolo_slim.reporting.examples import Example
from yolo_slim.verdict.result import Result


@pytest.fixture
def result() -> Result:
    """Return a complete result that passes."""
    return complete_result()


@pytest.fixture
def unproven() -> Result:
    """Return a result without timings, the ladder broken off after two rungs."""
    return unproven_result()


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Return one small image."""
    image = np.tile(np.linspace(40, 220, 96, dtype=np.uint8)[None, :, None], (64, 1, 3))
    return [Example(file="a.jpg", truth=3, control=image, slim=np.ascontiguousarray(image[:, ::-1]))]
