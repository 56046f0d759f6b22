"""One SSH connection with an agent at its other end."""

from __future__ import annotations

import asyncio
import errno
import json
import shlex
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.devices.ssh import agent
from yolo_slim.devices.ssh.address import CHOOSE_FOLDER, Address
from yolo_slim.devices.ssh.connection import BEAT_S, connected
from yolo_slim.devices.ssh.refusals import unreachable
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import JsonObject

if TYPE_CHECKING:
    import asyncssh

SILENCE_S = 20.0
"""An agent that hears nothing for so long ends."""
HELLO_S = 30.0
"""The agent begins within so many seconds."""
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 9, -1)))
MOST_NOISE = 200
"""Lines that a login script may print before the agent's first."""

_START = r"""
for p in "$@"; do
  case $p in "~/"*) p=$HOME/${p#"~/"} ;; esac
  command -v "$p" >/dev/null 2>&1 || continue
  found="$found $p $("$p" -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>&1 | tail -n 1)"
  "$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || continue
  YOLO_SLIM_PYTHON=$(command -v "$p") exec "$p" -I -u -c '@READ@'
done
echo "no Python 3.10:$found" >&2
exit 97
"""
_READ = """import os
text = b""
while len(text) < @SIZE@: text += os.read(0, @SIZE@ - len(text)) or exit()
exec(compile(text, "yolo_slim_agent", "exec"), {"__name__": "__main__"})
"""
_NO_PYTHON = 97


OnLine = Callable[[str], object]
"""Called with every line that a command prints."""


class LinkLost(Exception):
    """The connection ended before the answer came."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A command for the device, see :meth:`yolo_slim.devices.ssh.agent.Agent.run`."""

    command: list[str]
    environment: dict[str, str]
    answer: str = ""
    limit_s: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the agent answered."""

    values: dict[str, Any]
    body: bytes = b""
    lines: list[str] = field(default_factory=list)
    """What the command printed."""


class Link:
    """A connection; one request at a time."""

    def __init__(self, address: Address, connection: asyncssh.SSHClientConnection) -> None:
        self.address, self.connection = address, connection
        self.about: dict[str, Any] = {}
        self.skew_s = 0.0
        """How far the device's clock is ahead of this one's, seconds."""
        self._process: Any = None
        self._beats: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: Address) -> Link:
        """Connect, start the agent and let it say what the device is.

        Raises:
            SlimError: it can't be reached, isn't trusted, doesn't let the user in, or has no Python.
        """
        connection = await connected(address)
        link = cls(address, connection)
        try:
            await asyncio.wait_for(link._start(), HELLO_S)
        except BaseException as error:
            await link.close()
            if isinstance(error, asyncio.TimeoutError):
                raise unreachable(address, "lets you in, but starts no program in time") from None
            if isinstance(error, LinkLost):
                raise unreachable(address, "closed the connection before its first answer") from None
            raise
        return link

    async def ask(self, do: str, **values: object) -> Reply:
        """Send a message and wait for its answer.

        Raises:
            LinkLost: the connection ended.
            SlimError: the device's system refuses.
        """
        self._send({"do": do, **values})
        return await self._reply(_ignore)

    async def run(self, task: Task, on_line: OnLine | None = None) -> Reply:
        """Run a command and pass its lines on; raises as :meth:`ask`."""
        self._send({"do": "run", **asdict(task)})
        return await self._reply(on_line or _ignore)

    async def send_chunk(self, body: bytes) -> None:
        """Send bytes of a file; returns when the connection takes more."""
        self._send({"do": "chunk", "bytes": len(body)}, body)
        with _losses():
            await self._process.stdin.drain()

    async def close(self) -> None:
        """End the connection, and the agent with it."""
        if self._beats:
            self._beats.cancel()
        if self._process is not None:
            with suppress(Exception):
                self._process.stdin.write_eof()
                # The agent removes its files before it ends.
                await asyncio.wait_for(self._process.wait_closed(), 5)
        self.connection.close()
        with suppress(Exception):
            await asyncio.wait_for(self.connection.wait_closed(), 2)
        self.connection.abort()

    async def _reply(self, on_line: OnLine) -> Reply:
        """Wait for the answer to what was sent."""
        lines: list[str] = []
        while True:
            message, body = await self._read()
            if message["is"] == "line":
                lines.append(message["text"])
                on_line(message["text"])
            elif message["is"] == "error":
                raise _refused(message, self.address)
            else:
                return Reply(values=message, body=zlib.decompress(body) if body else b"", lines=lines)

    async def _start(self) -> None:
        source = Path(agent.__file__).read_bytes()
        script = _START.replace("@READ@", _READ.replace("@SIZE@", str(len(source))))
        pythons = [self.address.python] if self.address.python else PYTHONS
        with _losses():
            command = shlex.join(["exec", "sh", "-c", script, "sh", *pythons])
            self._process = await self.connection.create_process(command, encoding=None)
        self._process.stdin.write(source)
        self._send({"do": "hello", "folder": self.address.folder, "silence_s": SILENCE_S})
        self._beats = asyncio.create_task(self._beat())
        reply = await self._reply(_ignore)
        self.about = reply.values
        self.skew_s = self.about["time"] - time.time()

    async def _read(self) -> tuple[JsonObject, bytes]:
        for _ in range(MOST_NOISE):
            with _losses():
                line = await self._process.stdout.readline()
                if not line.endswith(b"\n"):
                    raise await self._ended()
                if line.startswith(b'{"is": '):
                    message = json.loads(line)
                    return message, await self._process.stdout.readexactly(message["bytes"])
        raise SlimError(
            f"{self.address.name} prints other things than asked for.",
            remedy="Let its login scripts print nothing where no terminal is (.bashrc).",
        )

    async def _ended(self) -> Exception:
        """Why the agent's output ended."""
        with suppress(Exception):
            errors = (await asyncio.wait_for(self._process.stderr.read(), 3)).decode(errors="replace").strip()
            await asyncio.wait_for(self._process.wait_closed(), 3)
            if self._process.exit_status == _NO_PYTHON:
                return _no_python(self.address, errors)
            if self._process.exit_status and not self.about:
                return SlimError(
                    f"{self.address.name} can't run Python (status {self._process.exit_status}).",
                    culprits=errors.splitlines()[-4:],
                    remedy=f"Try: ssh {self.address.typed} python3 --version",
                )
        return LinkLost()

    def _send(self, message: dict[str, object], body: bytes = b"") -> None:
        with _losses():
            self._process.stdin.write(json.dumps(message).encode() + b"\n" + body)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(LinkLost):
                self._send({"do": "beat"})


class _losses:
    """Turn the ways in which a connection ends into :class:`LinkLost`."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Translate."""
        import asyncssh

        ends = (asyncssh.DisconnectError, asyncssh.ChannelOpenError, OSError, asyncio.IncompleteReadError)
        if isinstance(error, ends):
            raise LinkLost from error


def _ignore(_: str) -> None:
    """Ignore a line."""


def _refused(message: JsonObject, address: Address) -> SlimError:
    where = f"{message['path']} on {address.name}" if message["path"] else address.name
    if message["errno"] in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"The disk of {address.name} is full: writing to {message['path']} failed.",
            remedy=f"Free some space there; `yolo-slim device clean {address.name}` removes what yolo_slim keeps.",
        )
    if message["errno"] in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return SlimError(
            f"{where} can't be written: {message['text']}.",
            remedy=f"Choose another folder there: {CHOOSE_FOLDER}",
        )
    if message["errno"] == errno.ENOTEMPTY:
        return SlimError(
            f"{where} contains files that yolo_slim didn't write.",
            remedy=f"Choose a folder there that is empty, or doesn't exist: {CHOOSE_FOLDER}",
        )
    return SlimError(f"{address.name} failed: {message['text']} {message['path']}".rstrip() + ".", remedy="Try again.")


def _no_python(address: Address, errors: str) -> SlimError:
    found = errors.rpartition(":")[2].strip() if "no Python" in errors else ""
    return SlimError(
        f"{address.name} has no Python 3.10 or newer" + (f"; found: {found}." if found else "."),
        remedy="Install one there (Debian, Raspberry Pi OS: sudo apt install python3), or a newer system.",
    )
