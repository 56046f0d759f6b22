"""One line of JSON for every shown frame, to standard output or to a file that is rotated by its size."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.runtime.camera.frame import Shown
from yolo_slim.runtime.camera.outputs.record import Context, record
from yolo_slim.runtime.camera.outputs.refusal import refusals_explained
from yolo_slim.runtime.camera.outputs.worker import Faults, Say, Worker

ROOM = 256
"""Lines that wait for the disk at most."""
_REMEDY = "Check that the folder exists and has space, or write to another file with --jsonl."
Extra = Callable[[], JsonObject]


def no_extra() -> JsonObject:
    """Nothing is counted."""
    return {}


@dataclass(frozen=True, kw_only=True)
class JsonlSettings:
    """Where the lines go."""

    target: str
    """A path; ``-`` is standard output."""
    rotate_mb: float = 100.0
    """Megabytes after which ``FILE`` becomes ``FILE.1``, that one ``FILE.2``, and so on."""
    kept: int = 4
    """Older files that are kept."""


class JsonLines:
    """Writes a line for every frame, in a thread of its own."""

    def __init__(self, settings: JsonlSettings, context: Context, say: Say, extra: Extra = no_extra) -> None:
        """Open the file.

        Args:
            settings: where the lines go.
            context: names of source and classes.
            say: gets a line for people when lines are lost, and when they aren't any more.
            extra: keys that every line gets besides, such as the counts of lines and zones.

        Raises:
            SlimError: the file can't be written.
        """
        self.faults = Faults("JSON lines", say)
        self._context = context
        self._extra = extra
        self._file = _StandardOutput() if settings.target == "-" else _Rotated(settings)
        self._worker: Worker[JsonObject] = Worker(self._write, self.faults, room=ROOM)

    def shown(self, shown: Shown) -> None:
        """Take a frame's results."""
        with self.faults.guarded():
            self._worker.put({**record(shown, self._context), **self._extra()})

    def close(self) -> None:
        """Write what is left."""
        self._worker.close()
        with suppress(OSError):
            self._file.close()

    def _write(self, value: JsonObject) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")


class _StandardOutput:
    """A pipe or a terminal. Whoever reads it may go away."""

    def write(self, line: str) -> None:
        try:
            sys.stdout.write(line)
            sys.stdout.flush()
        except BrokenPipeError:
            raise SlimError("Nobody reads standard output any more.") from None

    def close(self) -> None:
        """It isn't ours to close."""


class _Rotated:
    """A file, and the older ones beside it."""

    def __init__(self, settings: JsonlSettings) -> None:
        self._path = Path(settings.target)
        self._limit = settings.rotate_mb * 1e6
        self._kept = settings.kept
        self._stream: FileIO | None = None
        if self._path.is_dir():
            raise SlimError(f"A folder where a file is wanted: {self._path}", remedy=_REMEDY)
        with refusals_explained(self._path, _REMEDY):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._open()

    def write(self, line: str) -> None:
        with refusals_explained(self._path, _REMEDY):
            try:
                self._append(line.encode())
            except OSError:
                # The next line tries anew: the disk may be another one by then.
                self.close()
                raise

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _append(self, line: bytes) -> None:
        stream = self._stream = self._stream or self._open()
        size = stream.tell()
        if size and size + len(line) > self._limit:
            self._rotate()
            stream, size = self._open(), 0
            self._stream = stream
        if stream.write(line) != len(line):
            # A full disk takes a part of a line: cut it off, so that every line of the file can be read.
            stream.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _open(self) -> FileIO:
        stream = self._path.open("ab", buffering=0)
        stream.seek(0, os.SEEK_END)
        return stream

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if not self._kept:
            self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path
