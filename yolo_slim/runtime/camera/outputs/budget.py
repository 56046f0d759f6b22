"""How much of a disk clips may take: the oldest ones of ours go, and never another file."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from yolo_slim.errors import SlimError

_CLIP = re.compile(r"yolo_slim-clip-\d{8}T\d{9}Z\.(mp4|avi)")
_PART = re.compile(r"\.yolo_slim-clip-\d{8}T\d{9}Z\.part\.(mp4|avi)")


def clip_name(moment: datetime, suffix: str) -> str:
    """The name of a clip; names sort by time."""
    utc = moment.astimezone(timezone.utc)
    return f"yolo_slim-clip-{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03d}Z{suffix}"


def part_name(name: str) -> str:
    """The name of a clip that isn't finished."""
    stem, _, suffix = name.rpartition(".")
    return f".{stem}.part.{suffix}"


def our_clips(folder: Path) -> list[Path]:
    """Finished clips in a folder, the oldest first. Links and folders aren't ours, whatever their names."""
    return _ours(folder, _CLIP)


def remove_parts(folder: Path) -> None:
    """Remove what a power cut left behind."""
    for path in _ours(folder, _PART):
        path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class DiskBudget:
    """Limits of a folder of clips."""

    folder: Path
    budget_mb: float = 500.0
    """Megabytes of all clips together."""
    free_mb: float = 200.0
    """Megabytes that stay free on the disk."""

    def make_room(self, needed_bytes: int) -> None:
        """Remove the oldest clips until a new one fits.

        Raises:
            SlimError: it doesn't fit without any of them either.
        """
        clips = [(path, path.stat().st_size) for path in our_clips(self.folder)]
        used = sum(size for _, size in clips)
        if needed_bytes > self.budget_mb * 1e6:
            raise SlimError(
                f"A clip of {needed_bytes / 1e6:.0f} MB is larger than the budget of {self.budget_mb:g} MB.",
                remedy="Raise --clip-budget-mb or lower --clip-seconds.",
            )
        while used + needed_bytes > self.budget_mb * 1e6 or self._free() - needed_bytes < self.free_mb * 1e6:
            if not clips:
                fact = f"The disk of {self.folder} has {self._free() / 1e6:.0f} MB free, too few for a clip."
                raise SlimError(fact, remedy=f"Free some space: {self.free_mb:g} MB stay free.")
            oldest, size = clips.pop(0)
            oldest.unlink(missing_ok=True)
            used -= size

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free


def _ours(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    found = (path for path in folder.iterdir() if pattern.fullmatch(path.name))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())
