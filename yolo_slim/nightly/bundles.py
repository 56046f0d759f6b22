"""The bundles of earlier nights, kept by their content so that they can be timed beside tonight's."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.bundle import BUNDLE_JSON, read_spec
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import fresh_folder, sha256


@dataclass(frozen=True, kw_only=True)
class KeptBundles:
    """A folder with a bundle for every digest."""

    folder: Path

    def keep(self, bundle: Path) -> str:
        """Copy a bundle and return its digest, that of ``bundle.json``."""
        digest = sha256(bundle / BUNDLE_JSON)
        if self.find(digest) is None:
            with os_errors_explained(self.folder), fresh_folder(self.folder / digest, stays=self._has) as temporary:
                shutil.copytree(bundle, temporary, dirs_exist_ok=True, copy_function=_copy)
        return digest

    def find(self, digest: str) -> Path | None:
        """The bundle with a digest; None: it is gone, or a file of it is missing or has another length."""
        path = self.folder / digest
        if not (path / BUNDLE_JSON).is_file() or sha256(path / BUNDLE_JSON) != digest:
            return None
        return path if _is_whole(path) else None

    def _has(self, kept: Path) -> bool:
        return self.find(kept.name) is not None

    def tidy(self, needed: Iterable[str]) -> None:
        """Remove the bundles that no digest names."""
        wanted = set(needed)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)


def _is_whole(bundle: Path) -> bool:
    """Whether every file is there that a kept bundle.json names, as long as it says."""
    try:
        files = read_spec(bundle).files
    except SlimError:
        # It is what it was. Whoever opens it says why this version can't read it.
        return True
    sizes = {bundle / name: entry["size_bytes"] for name, entry in files.items()}
    return all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())


def _copy(source: str, target: str) -> None:
    # The library puts the errors of all files into one of its own, from which a full disk can't be told.
    with os_errors_explained(Path(target)):
        shutil.copy2(source, target)
