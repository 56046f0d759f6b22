"""Hatchling's hook: a wheel or sdist that is built from a clone says which commit it is of (`yolo-slim --version`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Adds yolo_slim/commit.txt."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the commit beside the archive that is being built; an editable install asks git itself."""
        sys.path.insert(0, self.root)
        from yolo_slim.commit import WRITTEN, git_commit

        commit = git_commit(Path(self.root))
        if version == "editable" or not commit:
            return
        path = Path(self.directory) / WRITTEN
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{commit}\n", encoding="utf-8")
        build_data["force_include"][str(path)] = f"yolo_slim/{WRITTEN}"
