"""Where an MQTT broker is: ``mqtt://user:password@host:1883/base/topic``."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from yolo_slim.errors import SlimError

PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "Write it like mqtt://user:password@192.168.1.5:1883/home/door; mqtts:// is encrypted."


@dataclass(frozen=True, kw_only=True)
class BrokerAddress:
    """A broker, and the topic below which the camera publishes."""

    host: str
    port: int
    base: str
    is_encrypted: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What people call it; without a password."""
        return f"{self.host}:{self.port}"


def parse_address(text: str) -> BrokerAddress:
    """Read an address; without a topic the base is ``yolo_slim/HOSTNAME``.

    Raises:
        SlimError: it isn't one. The message doesn't repeat a password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _bad("Its host or port can't be read; a port is a number from 1 to 65535.") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise _bad("It needs mqtt:// or mqtts://, and a host.")
    base = unquote(parts.path).strip("/") or f"yolo_slim/{_host_name()}"
    if re.search(r"[+#\0]", base) or parts.query or parts.fragment or len(base.encode()) > 200:
        raise _bad("The topic behind the host must have at most 200 bytes, and none of + # ?.")
    return BrokerAddress(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        base=base,
        is_encrypted=parts.scheme == "mqtts",
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _bad(why: str) -> SlimError:
    return SlimError(f"The address of the MQTT broker can't be used. {why}", remedy=_EXAMPLE)


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname()) or "camera"
