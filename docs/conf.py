"""Settings of the documentation site (`make docs`): Sphinx with MyST and the theme Furo. Nothing is fetched."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from yolo_slim.version import __version__  # noqa: E402

project = "yolo_slim"
copyright = "the authors of yolo_slim"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
EXAMPLE = "nightly-example"
"""Folder of finished pages, which the site gets as they are."""
exclude_patterns = ["workflows/*", "benchmarks/records/*", f"{EXAMPLE}/*"]

# Headings get the anchors that GitHub gives them, so the same links work in both.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings have code in single backquotes too, as the command line's help has.
default_role = "code"
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False

html_theme = "furo"
html_title = f"yolo_slim {__version__}"
html_copy_source = False
html_show_sphinx = False

ACCESSIBLE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="All pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="This page">',
}
"""What axe-core finds in the theme's pages, and how it is mended: wide blocks must be reached by the keyboard."""


def mend(app: Sphinx, error: Exception | None) -> None:
    """Mend the written pages, and add those that were made elsewhere."""
    if error is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            for theirs, ours in ACCESSIBLE.items():
                text = text.replace(theirs, ours)
            page.write_text(text, encoding="utf-8")
        if (Path(app.srcdir) / EXAMPLE).is_dir():
            shutil.copytree(Path(app.srcdir) / EXAMPLE, Path(app.outdir) / EXAMPLE, dirs_exist_ok=True)


def whole(_: Sphinx, what: str, *about: Any) -> None:
    """Keep an attribute's text in one piece: napoleon would take the words before a colon for its type."""
    lines: list[str] = about[-1]
    if what == "attribute" and lines:
        lines[0] = f": {lines[0]}"


def setup(app: Sphinx) -> None:
    """Let Sphinx call this file's functions."""
    # Before napoleon's own, which has 500.
    app.connect("autodoc-process-docstring", whole, priority=400)
    app.connect("build-finished", mend)
