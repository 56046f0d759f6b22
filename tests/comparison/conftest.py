"""A finished comparison, made once for every file that asks for it, because tests add to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.comparisons import command


@pytest.fixture(scope="module")
def finished(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder and the output of a comparison of ours with the smaller input, two seeds."""
    project = tmp_path_factory.mktemp("compare")
    code, out, err = run_cli(*command(trained, signs, project, "--methods", "small-input", "--seeds", "0,1"))
    assert code == 0, err
    return project / "small", out
