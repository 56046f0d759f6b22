"""The one exception that users see: a fact, the culprits, a remedy.

Standard library only: the device half raises it too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

EXIT_OK, EXIT_FAIL, EXIT_BAD_INPUT, EXIT_UNPROVEN = 0, 1, 2, 3
"""Exit codes of every command: pass, a gate failed, bad input, unproven."""

MAX_CULPRITS_SHOWN = 8
MAX_MEANT = 4
"""Most words of a did-you-mean."""
LETTERS_PER_EDIT, MAX_EDITS = 3, 3
"""A mistyped word has one wrong letter in so many, and no more in all."""
SHORTEST = 3
"""Fewest letters that a word may be shortened to."""
TROUBLESHOOTING = "docs/troubleshooting.md"
"""Page with a section for every topic of an error: what it means and what else to try."""
CHECK_PATH = "Check the path; yolo_slim downloads nothing."
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
"""The system's words for it; such an error names no file."""
MAKE_READABLE = "Give yourself permission to read it: chmod u+r FILE, as its owner."


Kind = TypeVar("Kind", bound="SlimError")


class SlimError(Exception):
    """A problem that the user can solve: reported as one message with exit code 2, never as a traceback.

    Args:
        fact: what is wrong.
        culprits: the files, layers or values that it is wrong with.
        remedy: what to do.
        topic: heading of the troubleshooting page, as the anchor of a link; empty: it has none.
    """

    def __init__(self, fact: str, *, culprits: Sequence[str] = (), remedy: str = "", topic: str = "") -> None:
        self.fact = fact
        self.culprits = tuple(culprits)
        self.remedy = remedy
        self.topic = topic
        super().__init__(self._text())

    def as_kind(self, kind: type[Kind], *, fact: str | None = None, culprits: Sequence[str] | None = None) -> Kind:
        """The same problem as a kind of error, with its remedy and topic; what isn't given stays as it is."""
        made = kind(
            self.fact if fact is None else fact, culprits=self.culprits if culprits is None else culprits,
            remedy=self.remedy, topic=self.topic,
        )  # fmt: skip
        if type(self) is kind:
            # What that kind says besides stays too.
            vars(made).update({key: value for key, value in vars(self).items() if key not in PARTS})
        return made

    def _text(self) -> str:
        lines = [self.fact]
        lines += [f"  - {culprit}" for culprit in self.culprits[:MAX_CULPRITS_SHOWN]]
        if len(self.culprits) > MAX_CULPRITS_SHOWN:
            lines.append(f"  - ... and {len(self.culprits) - MAX_CULPRITS_SHOWN} more")
        if self.remedy:
            lines.append(self.remedy)
        if self.topic:
            lines.append(f"More: {TROUBLESHOOTING}#{self.topic}")
        return "\n".join(lines)


PARTS = tuple(vars(SlimError("")))
"""Attributes that every such error has."""


def not_found(files: Mapping[str, object], remedy: str) -> SlimError:
    """The error of files that aren't there: what named each, such as ``--data``, to its path."""
    lines = [f"{path} ({name})" for name, path in files.items()]
    if len(lines) == 1:
        return SlimError(f"File not found: {lines[0]}", remedy=remedy)
    return SlimError(f"{len(lines)} files are not found.", culprits=lines, remedy=remedy)


class MachineError(SlimError):
    """A problem of the machine at the moment, such as a full disk: it says nothing of what was tried."""


class StorageError(MachineError):
    """Nothing can be recorded on this machine at the moment: the disk is full, or another program has the file."""


class DeviceGone(MachineError):
    """A device elsewhere doesn't answer, or doesn't answer any more."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known word or words, or an empty string."""
    return meant(nearest(word, known))


def meant(words: Sequence[str]) -> str:
    """Ask whether one of some words was meant; empty where there are none."""
    *others, last = [f"'{word}'" for word in words[:MAX_MEANT]] or [""]
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words that a mistyped or shortened one may stand for: several where they are equally near."""
    ranks = {one: rank for one in known if (rank := _rank(_bare(word), _bare(one)))}
    return [one for one, rank in ranks.items() if rank == min(ranks.values())]


def _bare(word: str) -> str:
    """A word without what doesn't tell it from others: an option's dashes, and capitals."""
    return word.strip("-").casefold()


def _rank(word: str, known: str) -> tuple[int, int, bool] | None:
    """How near two words are, the smaller the nearer; None: neither mistyped nor shortened."""
    edits, has_other_letters = _edits(word, known), sorted(word) != sorted(known)
    if edits <= min(max(len(word), len(known)) // LETTERS_PER_EDIT, MAX_EDITS):
        return 0, edits, has_other_letters
    return (1, edits, has_other_letters) if _is_short_for(word, known) or _is_short_for(known, word) else None


def _edits(one: str, other: str) -> int:
    """Fewest letters to change, add, leave out, or exchange with the next one (optimal string alignment distance)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            edits = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != wanted))
            if min(i, j) > 1 and one[i - 2 : i] == other[j - 1] + other[j - 2]:
                edits = min(edits, rows[-2][j - 2] + 1)
            row.append(edits)
        rows.append(row)
    return rows[-1][-1]


def _is_short_for(short: str, long: str) -> bool:
    """Whether a word begins another, or has its first letter and at least half of the others in their order."""
    if len(short) < SHORTEST or not long.startswith(short[0]):
        return False
    left = iter(long)
    return long.startswith(short) or (2 * len(short) >= len(long) and all(letter in left for letter in short))


@contextmanager
def os_errors_explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing below ``path`` into a :class:`SlimError`."""
    try:
        yield
    except OSError as error:
        explained = explain_os_error(error, path)
        if explained is None:
            raise
        raise explained from error


def explain_os_error(error: OSError, path: Path) -> SlimError | None:
    """Return the user's version of a full disk, missing permissions or a name that is too long.

    None for any other error.
    """
    if error.errno in DISK_IS_FULL:
        # A copy that fails names its source first.
        return StorageError(
            f"The disk is full: writing to {error.filename2 or error.filename or path} failed.",
            remedy="Free some space or choose another folder (--project, --out); then run the same command again: "
            "finished stages are skipped.",
            topic="the-disk-is-full",
        )
    if error.errno == errno.EACCES and error.filename is not None and _is_unreadable(error.filename):
        return SlimError(f"This can't be read: {error.filename} ({error.strerror}).", remedy=MAKE_READABLE)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return MachineError(
            f"The folder can't be written: {error.filename or path} ({error.strerror}).",
            remedy="Choose another folder (--project, --out), or change its permissions.",
            topic="the-folder-cant-be-written",
        )
    if error.errno == errno.ENAMETOOLONG:
        shown = str(error.filename or path)
        return SlimError(
            f"A name is too long for the file system: {shown[:100]}{'...' * (len(shown) > 100)}",
            remedy="Use shorter names: 255 bytes for a file or a folder at most, 4095 for the complete path.",
        )
    return None


def _is_unreadable(name: str | bytes) -> bool:
    """Whether something is there that this user may not read: then no folder of results is to blame."""
    return os.access(name, os.F_OK) and not os.access(name, os.R_OK)


def explain_path(error: OSError) -> SlimError | None:
    """Return the user's version of a file that is missing or is a folder, None for any other error."""
    if error.errno == errno.ENOENT and error.filename:
        return SlimError(f"File not found: {error.filename}", remedy=CHECK_PATH)
    if error.errno == errno.EISDIR and error.filename:
        return SlimError(f"A folder where a file is wanted: {error.filename}", remedy=CHECK_PATH)
    return None
