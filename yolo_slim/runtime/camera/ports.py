"""The socket that the page listens on, and who has the port when it isn't free."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.guard import bracketed

_LISTENING = "0A"
_BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; port 0 takes a free one.

    Raises:
        SlimError: the port is in use or not allowed, or the host is no address of this machine.
    """
    if not 0 <= port <= 65535:  # the system would take the last 16 bits
        raise SlimError(f"{port} is no port.", remedy="Choose one from 1024 to 65535: --port.")
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _explained(error, host, port) from error
    listener.setblocking(False)
    return listener


def own_address() -> str:
    """The address of this machine in its network; 127.0.0.1 where there is none."""
    # Connecting a UDP socket sends nothing: it only asks the routing table. The address is reserved for examples.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _explained(error: OSError, host: str, port: int) -> SlimError:
    code = error.errno
    if isinstance(error, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        return SlimError(f"{host} is no address of this machine.", remedy="Use --listen 127.0.0.1 or --listen 0.0.0.0.")
    if code == errno.EADDRINUSE:
        return SlimError(
            f"Port {port} of {bracketed(host)} is in use by {owner_of(port) or 'another program'}.",
            remedy="Stop that program, or choose another port: --port.",
            topic="the-port-is-in-use",
        )
    if code in (errno.EACCES, errno.EPERM):
        return SlimError(f"This user may not open port {port}.", remedy="Choose a port above 1023: --port.")
    return SlimError(f"Port {port} of {host} can't be opened: {error}.", remedy="Choose others: --listen, --port.")


def owner_of(port: int, proc: Path = Path("/proc")) -> str:
    """``NAME (process ID)`` of who listens on a TCP port; empty where /proc doesn't show it, as for other users'."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(proc / "net" / table, port)}
    for process in proc.glob("[0-9]*") if inodes else ():
        if inodes & _links(process / "fd"):
            return f"{_read(process / 'comm').strip()} (process {process.name})"
    return ""


def _listening(table: Path, port: int) -> list[str]:
    """Inodes of the sockets that listen on a port; see proc_net_tcp in the kernel's documentation."""
    rows = [line.split() for line in _read(table).splitlines()[1:]]
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _links(folder: Path) -> set[str]:
    try:
        return {_link(path) for path in folder.iterdir()}
    except OSError:
        return set()


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - "socket:[1]" is no path
    except OSError:  # closed meanwhile
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
