"""The bundles of earlier nights, kept by their content so that they can be timed beside tonight's."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.bundle import BUNDLE_JSON
from yolo_slim.errors import os_errors_explained
from yolo_slim.files import fresh_folder, sha256


@dataclass(frozen=True, kw_only=True)
class KeptBundles:
    """A folder with a bundle for every digest."""

    folder: Path

    def keep(self, bundle: Path) -> str:
        """Copy a bundle and return its digest, that of ``bundle.json``."""
        digest = sha256(bundle / BUNDLE_JSON)
        if self.find(digest) is None:
            with os_errors_explained(self.folder), fresh_folder(self.folder / digest) as temporary:
                shutil.copytree(bundle, temporary, dirs_exist_ok=True)
        return digest

    def find(self, digest: str) -> Path | None:
        """The bundle with a digest; None: it is gone, or isn't what it was."""
        path = self.folder / digest
        whole = (path / BUNDLE_JSON).is_file() and sha256(path / BUNDLE_JSON) == digest
        return path if whole else None

    def tidy(self, needed: Iterable[str]) -> None:
        """Remove the bundles that no digest names."""
        wanted = set(needed)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)
