"""Settings of the documentation site (`make docs`): Sphinx with MyST and the theme Furo. Nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from yolo_slim.version import __version__  # noqa: E402

project = "yolo_slim"
copyright = "the authors of yolo_slim"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["workflows/*", "benchmarks/records/*"]

# Headings get the anchors that GitHub gives them, so the same links work in both.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False

html_theme = "furo"
html_title = f"yolo_slim {__version__}"
html_copy_source = False
html_show_sphinx = False
