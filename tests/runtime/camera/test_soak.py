"""The camera command for some seconds on a stream that breaks and stalls: what its process uses doesn't grow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.soak_camera import Stream, growth, moving, old_called_live, soak

SETTLED_S = 7.0
"""Until then the last seconds for clips fill up."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_grows(tiny_bundle: Path) -> None:
    """Memory, files and threads stay, with every output, a viewer, and a source that is stale and lost in turns."""
    pytest.importorskip("aiohttp", reason="the page needs aiohttp (extra camera)")
    stream = Stream(pictures=moving(tiny_bundle, frames=60), rate=40, calm_s=2, stall_s=2.5)
    seen, stats = soak(tiny_bundle, stream, 22)
    grown = growth(seen, SETTLED_S)
    assert grown["rss_mb"] < 5
    assert grown["files"] <= 2
    assert grown["threads"] <= 1
    assert min(stream.stalls, stream.breaks, stats["totals"]["lost"]) > 0
    assert {"live", "stale"} <= {one.state for one in seen}
    assert old_called_live(seen) == 0
    assert stats["totals"]["callback_errors"] == 0
    assert stats["pictures"]["failed"] == 0
