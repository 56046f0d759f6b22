"""Signs of life to systemd, with the standard library alone (``man sd_notify``)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from yolo_slim.runtime.camera.outputs.health import Health

SHORTEST_S = 0.05


def notify(message: str) -> bool:
    """Send a message to the service manager; false where there is none or it doesn't listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ stands for the zero byte of an abstract socket.
    target = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto(message.encode(), target)
        return True
    return False


def watchdog_s() -> float | None:
    """Seconds in which the service manager wants a sign of life; None: it wants none of this process."""
    owner, microseconds = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    is_ours = not owner or owner == str(os.getpid())
    return int(microseconds) / 1e6 if is_ours and microseconds.isdigit() and int(microseconds) else None


class Watchdog:
    """Says that the camera is ready, and then that it is alive, as long as it doesn't hang."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Say that the camera is ready. Outside a service nothing happens."""
        if notify("READY=1\nSTATUS=started"):
            self._thread.start()

    def close(self) -> None:
        """Say that the camera stops."""
        self._is_closing.set()
        notify("STOPPING=1")
        if self._thread.is_alive():
            self._thread.join(1)

    def _run(self) -> None:
        every_s = max((watchdog_s() or 20.0) / 4, SHORTEST_S)
        while not self._is_closing.wait(every_s):
            # A figure that can't be had is a hang as well: no sign of life.
            with suppress(Exception):
                notify(_sign(self._health()))


def _sign(found: Health) -> str:
    """The message about a camera: a state for ``systemctl status``, and a sign of life unless it hangs."""
    age = "no frame yet" if found.age_s is None else f"newest frame {found.age_s:.1f} s old"
    status = " ".join(f"STATUS={found.state}, {age}. {found.reason}".split())
    return status if found.is_stuck else f"{status}\nWATCHDOG=1"
