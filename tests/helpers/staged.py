"""A board's files and programs, put below another root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest


def stage(root: Path, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files of the system below another root, and let the machine be read from there."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr("yolo_slim.machine.ROOT", root)


def stage_program(root: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in front of the search path."""
    path = root / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
