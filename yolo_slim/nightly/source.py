"""The commit that a night runs in, asked of git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from yolo_slim.history.rows import Source


def source_of(folder: Path) -> Source:
    """Describe the repository around a folder; everything is None where there is none, or no git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return Source()
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    if branch is None and os.environ.get("CI_COMMIT_SHA") == commit:
        # GitLab checks a commit out, and names its branch beside it.
        branch = os.environ.get("CI_COMMIT_BRANCH")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Source(commit=commit, branch=branch, dirty=bool(changed), subject=_git(folder, "log", "-1", "--format=%s"))


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is missing."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
