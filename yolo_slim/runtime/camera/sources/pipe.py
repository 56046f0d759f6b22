"""Frames that another program writes: a process of its own, which ends with its source."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import SourceLost

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINES_KEPT = 8
_END_S = 2.0
"""Longest wait after each of the signals that end the program."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that writes raw frames of one known size to its standard output."""

    name: str
    command: Sequence[str]
    frame_bytes: int
    to_image: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """From ``frame_bytes`` bytes to (H, W, 3) uint8 BGR."""
    remedy: str = ""
    """What to check where it ends by itself."""


class PipeFeed:
    """Frames of a running program."""

    def __init__(self, name: str, program: Program) -> None:
        """Start the program.

        Raises:
            SlimError: it can't be started.
        """
        self._name, self._program = name, program
        self._said: deque[str] = deque(maxlen=_LINES_KEPT)
        try:
            # In a session of its own: Ctrl-C reaches us alone, and we end the program in good order.
            self._process = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise SlimError(f"{program.name} can't be started: {error.strerror}.") from None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._frames: IO[bytes] = self._process.stdout
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 BGR.

        Raises:
            SourceLost: the program ended.
        """
        raw = np.empty(self._program.frame_bytes, np.uint8)
        if self._fill(raw.data) < raw.size:
            raise self._ended()
        return self._program.to_image(raw)

    def interrupt(self) -> None:
        """End the program, and all that it started; a blocked read ends with it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            with suppress(OSError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)

    def close(self) -> None:
        """End the program, and close its pipes."""
        self.interrupt()
        self._listener.join(_END_S)
        with suppress(OSError):
            self._frames.close()

    def _fill(self, room: memoryview) -> int:
        """Read until the room is full or the program's output ends."""
        filled = 0
        while filled < len(room):
            count = self._frames.readinto(room[filled:])  # type: ignore[attr-defined]
            if not count:
                break
            filled += count
        return filled

    def _ended(self) -> SourceLost:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._listener.join(_END_S)
        code = self._process.poll()
        how = "closed its output" if code is None else f"ended with exit code {code}"
        fact = f"{self._name}: {self._program.name} {how}."
        return SourceLost(fact, culprits=tuple(self._said), remedy=self._program.remedy)

    def _listen(self, stream: IO[bytes]) -> None:
        """Keep the last lines that the program says: they explain its end, and a full pipe would stop it."""
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").strip()
                if text:
                    self._said.append(text)
