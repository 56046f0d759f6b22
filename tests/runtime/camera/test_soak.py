"""The camera command for some seconds on a stream that breaks and stalls: what its process uses doesn't grow."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.soak_camera import Stream, Usage, growth, moving, old_called_live, soak

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
    assert old_called_live(seen) == []
    assert stats["totals"]["callback_errors"] == 0
    assert stats["pictures"]["failed"] == 0


FRESH = {"freshness": "live", "age_s": 0.1, "fps": 30.0}


def moments(**each: float) -> list[Usage]:
    """A minute of a camera whose figures grow by so much a second."""
    usual = {"rss_mb": 100.0, "files": 14, "threads": 16}
    return [
        Usage(
            **{key: value + each.get(key, 0) * at_s for key, value in usual.items()}, at_s=at_s, state="live", **FRESH
        )
        for at_s in range(60)
    ]


def test_growth_would_be_seen() -> None:
    """Negative control: memory, a file and a thread that leak; what grows before it settled doesn't count."""
    assert growth(moments(), SETTLED_S) == {"rss_mb": 0, "files": 0, "threads": 0}
    assert growth(moments(rss_mb=0.5, files=1, threads=1), SETTLED_S) == {"rss_mb": 24, "files": 48, "threads": 48}
    settling = [replace(one, rss_mb=20.0) if one.at_s < SETTLED_S else one for one in moments()]
    assert growth(settling, SETTLED_S)["rss_mb"] == 0


def test_an_old_frame_that_is_called_live_would_be_seen() -> None:
    """Negative control: twice in a row counts, once or called stale doesn't."""
    first, *rest = moments()
    assert len(old_called_live([replace(first, freshness="stale")] * 2)) == 1
    assert old_called_live([replace(first, age_s=2.9, fps=1.5)] * 2) == []
    old = replace(first, age_s=5.0)
    assert old_called_live([old, *rest]) == []
    assert old_called_live([old, replace(old, state="stale"), *rest]) == []
    assert len(old_called_live([old, old, *rest])) == 1
