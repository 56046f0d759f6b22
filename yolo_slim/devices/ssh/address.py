"""Where a device is, and what a user may say of how it is reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import SlimError

FOLDER = "$XDG_CACHE_HOME/yolo_slim/device"
"""Folder on the device that contains everything of yolo_slim; without the variable ``~/.cache/yolo_slim/device``."""
LAST_PORT = 65535
CHOOSE_FOLDER = "yolo-slim device add NAME HOST --target TARGET --folder FOLDER"
# A user, a name or an IPv6 number in brackets, a port. ssh would read a name that begins with - as an option.
_TEXT = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<number>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^-@:\s\[\]][^@:\s]*))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """A device; what is None is decided by the user's ssh configuration."""

    name: str
    """What people call it: its name in the inventory, or what was typed."""
    host: str
    """Name or number, or a ``Host`` of the ssh configuration."""
    user: str | None = None
    port: int | None = None
    identity: Path | None = None
    """File of the private key."""
    folder: str = FOLDER
    """Folder on the device for everything of yolo_slim."""
    python: str | None = None
    """Python on the device that has the packages already; None: an environment is made."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``[user@]host[:port]``.

        Raises:
            SlimError: it isn't one.
        """
        found = _TEXT.fullmatch(text)
        if found and found["port"] and not 0 < int(found["port"]) <= LAST_PORT:
            raise SlimError(
                f"Port {found['port']} of '{text}' is not a port.",
                remedy=f"Give a number from 1 to {LAST_PORT}; SSH's own is 22, which may be left out.",
            )
        if not found:
            raise SlimError(
                f"Not an address of a device: '{text}'.",
                remedy="Write [user@]host[:port], such as pi@raspberrypi.local, or a name of `yolo-slim device list`.",
            )
        port = int(found["port"]) if found["port"] else None
        return cls(name=text, host=found["number"] or found["host"], user=found["user"], port=port)

    @property
    def typed(self) -> str:
        """The address as arguments of the ssh command."""
        words = [f"-p {self.port}"] if self.port else []
        words += [f"-i {self.identity}"] if self.identity else []
        return " ".join([*words, f"{self.user}@{self.host}" if self.user else self.host])
