"""The one exception that users see: a fact, the culprits, a remedy.

Standard library only: the device half raises it too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

EXIT_OK, EXIT_FAIL, EXIT_BAD_INPUT, EXIT_UNPROVEN = 0, 1, 2, 3
"""Exit codes of every command: pass, a gate failed, bad input, unproven."""

MAX_CULPRITS_SHOWN = 8
TROUBLESHOOTING = "docs/troubleshooting.md"
"""Page with a section for every topic of an error: what it means and what else to try."""
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


class MachineError(SlimError):
    """A problem of the machine at the moment, such as a full disk: it says nothing of what was tried."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known word, or an empty string."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


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
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"The disk is full: writing to {error.filename or path} failed.",
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
        return SlimError(f"File not found: {error.filename}", remedy="Check the path.")
    if error.errno == errno.EISDIR and error.filename:
        return SlimError(f"A folder where a file is wanted: {error.filename}", remedy="Check the path.")
    return None
