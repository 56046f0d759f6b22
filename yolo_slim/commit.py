"""The commit that this yolo_slim is of: asked of git in a clone, written into a wheel when it is built.

Standard library only: it is used before anything is installed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parent
WRITTEN = "commit.txt"
"""File beside this module that scripts/hatch_build.py puts into a wheel."""
DIGITS = 12


def commit_text() -> str:
    """Name the commit for people."""
    commit = git_commit(PACKAGE.parent) or _written()
    return f"commit {commit}" if commit else "no commit known"


def git_commit(folder: Path) -> str:
    """The commit checked out in a clone, and whether files differ from it; empty: no clone, or no git."""
    # Only a clone of its own: a wheel may be installed somewhere inside another project's clone.
    if not (folder / ".git").exists():
        return ""
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit[:DIGITS]}{', with changes' if changed else ''}" if commit else ""


def _written() -> str:
    """The commit that the wheel was built from; empty: none."""
    path = PACKAGE / WRITTEN
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where it fails or is missing."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
