"""The documentation site is built without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.axe import faults, needs_axe
from tests.helpers.chromium import PATH, Chromium, InBrowser
from tests.helpers.constants import ROOT
from yolo_slim.config.options import CompareOptions, PruneOptions, RunOptions, ValidateOptions

MISSING = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra docs)")


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", str(source), str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built without a warning."""
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", out)
    assert done.returncode == 0, done.stderr
    return out


def test_site_is_complete(site: Path) -> None:
    """Every page is in the site, every function of the API is described, and nothing is fetched from elsewhere."""
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert all((site / page).is_file() for page in pages if "_build" not in page.parts)
    api = (site / "api.html").read_text(encoding="utf-8")
    assert all(f'id="yolo_slim.api.{name}"' in api for name in ("run", "compare", "prune", "recover", "validate"))
    for options in (RunOptions, CompareOptions, PruneOptions, ValidateOptions):
        assert all(f'id="yolo_slim.config.options.{options.__name__}.{key}"' in api for key in options.__annotations__)
    text = " ".join(re.sub(r"<[^>]+>", "", api).split())
    assert "Budget in place of macs_removed: frames per second that the device must reach" in text
    for page in site.rglob("*.html"):
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', page.read_text(encoding="utf-8"))


def test_a_broken_anchor_ends_the_build(tmp_path: Path) -> None:
    """Negative control: a link to a heading that isn't there is an error."""
    source = tmp_path / "docs"
    source.mkdir()
    shutil.copy(ROOT / "docs/conf.py", source)
    (source / "index.md").write_text("# Title\n\n[gone](#no-such-heading)\n")
    done = build(source, tmp_path / "out")
    assert done.returncode != 0
    assert "no-such-heading" in done.stderr


@needs_axe
@pytest.mark.chromium
@pytest.mark.flaky(reruns=1)
@pytest.mark.skipif(PATH is None, reason="no chromium on this machine (Debian: apt install chromium)")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [(390, 844), (1280, 900)])
def test_site_has_no_fault_of_accessibility(
    site: Path, size: tuple[int, int], dark: bool, in_browser: InBrowser
) -> None:
    """axe-core finds nothing in pages of every kind, on a phone and on a desk, each dark and light."""

    async def look(browser: Chromium) -> None:
        tab = await browser.new_tab()
        for name in ("index", "getting-started", "configuration", "api", "troubleshooting", "benchmarks/README"):
            await tab.open((site / f"{name}.html").as_uri(), size=size, dark=dark)
            assert await faults(tab) == [], name

    in_browser(look)
