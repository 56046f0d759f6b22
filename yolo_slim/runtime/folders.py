"""The images of a folder, and what else lies in it: nothing is left out without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yolo_slim.errors import SlimError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in [
        *("3gp", "asf", "avi", "flv", "gif", "h264", "m2ts", "m4v", "mkv", "mov"),
        *("mp4", "mpeg", "mpg", "mts", "ts", "webm", "wmv"),
    ]
)
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder contains."""

    images: tuple[Path, ...] = ()
    """Image files, sorted."""
    left_out: tuple[str, ...] = ()
    """What isn't an image: one line a reason, with the number of files."""


def find_images(source: Path) -> Found:
    """The image files of a folder and of all folders in it, linked ones too; or the one file given.

    Hidden files, such as macOS' ``._x.jpg``, are left out. Each folder is read once, whatever links lead to it.

    Raises:
        SlimError: nothing there, or no image.
    """
    if source.is_file():
        return Found(images=(source,))
    if not source.is_dir():
        raise SlimError(f"Source not found: {source}", remedy="Give an image, a folder of images or a video.")
    real = Path(os.path.realpath(source))
    walk = _Walk(root=source, seen={str(folder) for folder in (real, *real.parents)})
    images = tuple(sorted(walk.images()))
    left_out = tuple(walk.lines())
    if not images:
        known = f"Known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}."
        raise SlimError(f"No image in {source} or below it.", culprits=left_out, remedy=known)
    return Found(images=images, left_out=left_out)


@dataclass(kw_only=True)
class _Walk:
    """One walk through a folder; it notes what it leaves out."""

    root: Path
    seen: set[str]
    """Real paths of the folders that were read and of those above the root: a link may lead back to any of them."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """What is left out, to its paths below the root."""

    def images(self) -> Iterator[Path]:
        """The images, in any order."""
        for folder, folders, files in os.walk(self.root, onerror=self._refused, followlinks=True):
            # In a fixed order, because the first of several links to one folder is the one that is followed.
            folders[:] = [name for name in sorted(folders) if self._is_entered(Path(folder, name))]
            yield from (path for name in sorted(files) if self._is_image(path := Path(folder, name)))

    def lines(self) -> Iterator[str]:
        """What was left out, one line a reason."""
        for reason, files in sorted(self.reasons.items()):
            more = ", ..." if len(files) > _SHOWN else ""
            yield f"{reason}: {len(files)} ({', '.join(sorted(files)[:_SHOWN])}{more})"

    def _is_entered(self, folder: Path) -> bool:
        if _is_hidden(folder.name):
            return self._leave_out("hidden files and folders", folder)
        real = os.path.realpath(folder)
        if real in self.seen:
            return self._leave_out("folders that were read already", folder)
        self.seen.add(real)
        return True

    def _is_image(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if _is_hidden(path.name):
            return self._leave_out("hidden files and folders", path)
        if suffix in VIDEO_SUFFIXES:
            return self._leave_out("videos (give each by itself)", path)
        if suffix not in IMAGE_SUFFIXES:
            return self._leave_out(f"{suffix} files" if suffix else "files without a suffix", path)
        problem = _file_problem(path)
        return not problem or self._leave_out(problem, path)

    def _refused(self, error: OSError) -> None:
        self._leave_out("folders that can't be opened", Path(str(error.filename)))

    def _leave_out(self, reason: str, path: Path) -> bool:
        self.reasons.setdefault(reason, []).append(path.relative_to(self.root).as_posix())
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _file_problem(path: Path) -> str:
    """Why a name isn't a file that can be opened; empty: it is one."""
    try:
        return "" if path.is_file() else "broken links" if path.is_symlink() else "files that can't be opened"
    except OSError:  # a folder that may be listed, but not entered
        return "files that can't be opened"
