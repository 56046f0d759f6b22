"""Nights that are killed at random moments, in processes of their own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers.constants import ROOT

KILLS = 5


@pytest.mark.slow
def test_killed_at_random_moments() -> None:
    """What a night recorded is there after every later one, whole and once; a night that ended has its files."""
    # A fresh process, because a fork of one with threads may stand still.
    command = [sys.executable, "-m", "tests.helpers.killed_nights", "--kills", str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    counts = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", done.stdout)}
    assert counts["kills"] == KILLS
    assert (counts["lost"], counts["doubled"], counts["incomplete"], counts["unwritten"]) == (0, 0, 0, 0)
    assert counts["runs"] >= 8
