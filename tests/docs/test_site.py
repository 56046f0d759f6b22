"""The documentation site is built without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT

MISSING = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra docs)")


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", str(source), str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the site, every function of the API is described, and nothing is fetched from elsewhere."""
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert all((tmp_path / page).is_file() for page in pages if "_build" not in page.parts)
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert all(f'id="yolo_slim.api.{name}"' in api for name in ("run", "compare", "prune", "recover", "validate"))
    for page in tmp_path.rglob("*.html"):
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
