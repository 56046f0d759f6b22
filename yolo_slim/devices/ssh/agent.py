"""The other end of the link: sent to the device as text and started there by its own Python.

Standard library and Python 3.10 only; nothing of yolo_slim is imported. Standard input brings one JSON message a line,
some followed by raw bytes; standard output answers in the same way. The agent has the device's lock, works on one
message at a time, and ends with the link: the command that it runs is killed with all its processes, its temporary
files are removed, and the system frees the lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another text after each restart of the device."""
SLOWEST_WRITE_S, STALE_PART_S = 300.0, 24 * 3600
"""When a disk is taken for broken; how long an unfinished file waits for the push that would resume it."""
READY, OURS = ".ready", ".yolo_slim"
Message = dict[str, Any]


class Gone(Exception):
    """The workstation is gone."""


def messages(agent: Agent) -> Iterator[tuple[Message, bytes]]:
    """Read messages, each with the bytes that follow it.

    Raises:
        Gone: end of the input, or silence.
    """
    buffer = bytearray()

    def fill() -> None:
        if not select.select([0], [], [], agent.silence_s)[0]:
            raise Gone
        block = os.read(0, 1 << 16)
        if not block:
            raise Gone
        buffer.extend(block)

    while True:
        while b"\n" not in buffer:
            fill()
        line, _, rest = bytes(buffer).partition(b"\n")
        message, buffer = json.loads(line), bytearray(rest)
        count = message.get("bytes", 0)
        while len(buffer) < count:
            fill()
        body = bytes(buffer[:count])
        del buffer[:count]
        yield message, body


def send(value: Message, body: bytes = b"") -> None:
    """Write one message."""
    data = json.dumps({**value, "bytes": len(body)}).encode() + b"\n" + body
    while data:
        data = data[os.write(1, data) :]


def sha256(path: Path) -> str:
    """Hash a file; empty where it isn't one."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def link_or_copy(source: Path, path: Path) -> None:
    """Give a stored file a second name; a file system without hard links gets a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(path)


def die_with_agent() -> None:
    """Let the system kill a child whose agent was killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a command and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def bury(child: subprocess.Popen[bytes]) -> None:
    """Wait for a command, and kill what it leaves running."""
    child.wait()
    kill_group(child)


def size_of(path: Path) -> int:
    """Add up what a folder's files occupy, bytes."""
    found = [item.lstat() for item in path.rglob("*")] if path.is_dir() else []
    # A file of several names counts once.
    return sum({item.st_ino: item.st_size for item in found}.values())


class Agent:
    """What the workstation may ask; each method is a message of that name."""

    def __init__(self) -> None:
        self.silence_s = 60.0
        self.guard = threading.Lock()
        self.is_ending = False
        self.child: subprocess.Popen[bytes] | None = None
        self.folder = Path()
        self.temporary: Path | None = None
        self.lock_file: Any = None
        self.part: Any = None
        self.failure: OSError | None = None

    def hello(self, folder: str, silence_s: float) -> Message:
        """Say what the device is; ``folder`` is for all of yolo_slim, a link silent for ``silence_s`` is lost."""
        self.silence_s = silence_s
        self.folder = Path(
            folder.replace("$XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        ).expanduser()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Caches are emptied here, so a folder of the user's own must never be taken for ours.
        if any(self.folder.iterdir()) and not (self.folder / OURS).is_file():
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(self.folder))
        (self.folder / OURS).write_text("yolo_slim empties this folder.\n")
        disk = os.statvfs(self.folder)
        return {
            "folder": str(self.folder), "user": os.environ.get("USER") or str(os.getuid()),
            "host": platform.node(), "arch": platform.machine(), "bits": 64 if sys.maxsize > 2**32 else 32,
            "system": platform.system(), "python": platform.python_version(),
            "executable": os.environ.get("YOLO_SLIM_PYTHON") or sys.executable,
            "libc": list(platform.libc_ver()), "free_mb": disk.f_bavail * disk.f_frsize // 10**6, "time": time.time(),
            "is_noexec": bool(disk.f_flag & os.ST_NOEXEC), "boot": BOOT.read_text() if BOOT.is_file() else "",
            "uv": shutil.which("uv"), "path": os.environ.get("PATH", ""),
            "has_venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        }  # fmt: skip

    def lock(self, holder: Message) -> Message:
        """Take the device's lock, and write who has it."""
        stream = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            text = stream.read()
            stream.close()
            return {"got": False, "holder": json.loads(text) if text else {}}
        stream.seek(0)
        stream.truncate()
        json.dump(holder, stream)
        stream.flush()
        self.lock_file = stream
        runs = self.folder / "runs"
        # The lock is ours, so whatever lies here was left by an agent that was killed.
        shutil.rmtree(runs, ignore_errors=True)
        runs.mkdir()
        self.temporary = Path(tempfile.mkdtemp(dir=runs))
        return {"got": True}

    def look(self, folder: str, files: dict[str, list[Any]]) -> Message:
        """Find which files (path to SHA-256 and size) of a folder must still be sent."""
        place, store = self.folder / folder, self.folder / "store"
        missing = []
        for name, (digest, size) in files.items():
            path = place / name
            is_there = path.is_file() and path.stat().st_size == size and sha256(path) == digest
            if not is_there and digest not in missing and sha256(store / digest) != digest:
                missing.append(digest)
        return {"missing": missing}

    def begin(self, digest: str, size: int) -> Message:
        """Open the part of a file that an earlier push left, or an empty one."""
        path = self.folder / "store" / f"{digest}.part"
        path.parent.mkdir(exist_ok=True)
        self.part, self.failure = path.open("ab", buffering=0), None
        if self.part.seek(0, os.SEEK_END) > size:
            self.part.truncate(0)
        offset = self.part.seek(0, os.SEEK_END)
        disk = os.statvfs(path)
        if disk.f_bavail * disk.f_frsize < size - offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return {"offset": offset}

    def chunk(self, body: bytes) -> None:
        """Append to the part; not answered, so that the link is always full."""
        if self.failure is None:
            try:
                self.part.write(body)
            except OSError as error:
                # A full disk gets its room back at once.
                self.part.truncate(0)
                self.failure = OSError(error.errno, error.strerror, self.part.name)

    def end(self, digest: str) -> Message:
        """Take the part for whole if its content is the one announced; else remove it."""
        path = Path(self.part.name)
        if self.failure is not None:
            path.unlink()
            raise self.failure
        os.fsync(self.part.fileno())
        self.part.close()
        is_whole = sha256(path) == digest
        if is_whole:
            path.replace(path.with_suffix(""))
        else:
            path.unlink()
        return {"is_whole": is_whole}

    def place(self, folder: str, files: dict[str, list[Any]]) -> Message:
        """Fill a folder with files that were sent."""
        place, store = self.folder / folder, self.folder / "store"
        place.mkdir(parents=True, exist_ok=True)
        for name, (digest, _) in files.items():
            if (store / digest).is_file() and sha256(place / name) != digest:
                link_or_copy(store / digest, place / name)
        os.utime(place)
        return {"path": str(place)}

    def ready(self, folder: str) -> Message:
        """Tell whether a folder was finished; one that wasn't is removed."""
        path = self.folder / folder
        if not (path / READY).is_file():
            shutil.rmtree(path, ignore_errors=True)
            return {"is_ready": False, "path": str(path)}
        os.utime(path)
        return {"is_ready": True, "path": str(path)}

    def mark(self, folder: str) -> Message:
        """Call a folder finished."""
        with (self.folder / folder / READY).open("w") as stream:
            os.fsync(stream.fileno())
        return {}

    def run(self, command: list[str], environment: dict[str, str], answer: str, limit_s: float) -> None:
        """Run a command in a group of its own; pass its lines on, then its status and its answer.

        Args:
            command: ``{answer}`` in it stands for the file that its answer is read from.
            environment: what differs from the agent's own; an empty text removes a variable.
            answer: ``file``, ``stdout``, or empty for none.
            limit_s: it is killed after so many seconds.
        """
        temporary = self.temporary or Path(tempfile.mkdtemp(dir=self.folder))
        path = temporary / "answer"
        path.unlink(missing_ok=True)
        own = {key: text for key, text in {**os.environ, **environment}.items() if text}
        is_output = answer == "stdout"
        with self.guard, path.open("wb") if is_output else contextlib.nullcontext(subprocess.PIPE) as output:
            if self.is_ending:
                raise Gone
            self.child = child = subprocess.Popen(
                [word.replace("{answer}", str(path)) for word in command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE if is_output else subprocess.STDOUT,
                env=own, cwd=temporary, start_new_session=True, preexec_fn=die_with_agent,
            )  # fmt: skip
        timer = threading.Timer(limit_s, kill_group, (child,))
        timer.start()
        # What a command leaves running would keep its output open.
        threading.Thread(target=bury, args=(child,), daemon=True).start()
        for line in child.stderr or child.stdout or ():
            send({"is": "line", "text": line.decode(errors="replace").rstrip()})
        status, is_late = child.wait(), not timer.is_alive()
        timer.cancel()
        # A command that the end of the agent killed has no answer, though the link may still work.
        if self.is_ending:
            raise Gone
        content = zlib.compress(path.read_bytes(), 1) if path.is_file() else b""
        if self.temporary is None:
            shutil.rmtree(temporary, ignore_errors=True)
        send({"is": "done", "status": status, "is_late": is_late}, content)

    def sweep(self, keep: dict[str, int], most_mb: float) -> Message:
        """Remove what wasn't used for longest, and unfinished files of more than a day ago.

        Args:
            keep: folder to the number of entries that stay.
            most_mb: most that the entries of one folder occupy together; the newest always stays.
        """
        before = size_of(self.folder)
        for folder, count in keep.items():
            used = 0
            entries = sorted((self.folder / folder).glob("*"), key=lambda entry: -entry.stat().st_mtime)
            for number, entry in enumerate(entries):
                used += size_of(entry)
                if number >= count or (number and used > most_mb * 1e6):
                    shutil.rmtree(entry, ignore_errors=True)
        for path in (self.folder / "store").glob("*"):
            found = path.stat()
            is_fresh = bool(keep.get("bundles")) and time.time() - found.st_mtime < STALE_PART_S
            # One name left: no folder has the file any more.
            if not is_fresh if path.suffix == ".part" else found.st_nlink == 1:
                path.unlink()
        return {"freed_mb": max(before - size_of(self.folder), 0) / 1e6}

    def usage(self) -> Message:
        """Say what the folder contains, megabytes, which environments are finished, and who has the lock."""
        names = ("bundles", "images", "env", "code", "wheels", "store")
        sizes = {name: round(size_of(self.folder / name) / 1e6, 1) for name in names}
        marks = sorted(self.folder.glob(f"env/*/{READY}"), key=lambda mark: -mark.parent.stat().st_mtime)
        return {"sizes": sizes, "environments": [str(mark.parent) for mark in marks], "holder": self._holder()}

    def finish(self) -> None:
        """End the command and remove what is temporary; the lock goes with the process."""
        with self.guard:
            self.is_ending = True
            if self.child is not None:
                kill_group(self.child)
                self.child.wait(5)
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _holder(self) -> Message | None:
        """Who has the lock; None: nobody, or this agent."""
        if self.lock_file is not None or not (self.folder / "lock").is_file():
            return None
        with (self.folder / "lock").open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = stream.read()
                return dict(json.loads(text)) if text else {}
        return None


def work(agent: Agent, todo: queue.Queue[tuple[Message, bytes]]) -> None:
    """Answer message after message; a refusal of the system is an answer too."""
    while True:
        message, body = todo.get()
        name = message.pop("do")
        message.pop("bytes", None)
        method: Callable[..., Message | None] = getattr(agent, name)
        try:
            answer = method(body) if name == "chunk" else method(**message)
            if answer is not None:
                send({"is": "answer", **answer})
        except (BrokenPipeError, Gone):
            return
        except OSError as error:
            send({"is": "error", "errno": error.errno, "text": error.strerror, "path": str(error.filename or "")})
        except Exception as error:
            send({"is": "error", "errno": None, "text": f"{name}: {error!r}", "path": ""})


def stop(*_: object) -> None:
    """End because the system asks for it."""
    raise Gone


def main() -> None:
    """Work until the link ends."""
    agent = Agent()
    todo: queue.Queue[tuple[Message, bytes]] = queue.Queue(maxsize=16)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        threading.Thread(target=work, args=(agent, todo), daemon=True).start()
        for message, body in messages(agent):
            if message["do"] != "beat":
                todo.put((message, body), timeout=SLOWEST_WRITE_S)
    except (Gone, queue.Full):
        pass
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGTERM, signal.SIGINT))
        agent.finish()
        os._exit(0)


if __name__ == "__main__":
    main()
