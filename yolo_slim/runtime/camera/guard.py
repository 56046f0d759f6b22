"""Which requests the page's server answers: the right host, origin, token and size. Pure, without a web framework."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from yolo_slim.runtime.camera.token import WINDOW_S, WrongTokens, is_same

MOST_HEADER_BYTES = 8192
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the guard looks at in one request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    header_bytes: int
    address: str
    """Of the other end."""
    target: str = "/"
    """What the request's first line asks for, as it was sent."""
    query_token: str | None = None
    cookie_token: str | None = None

    @property
    def changes_something(self) -> bool:
        """Whether it could steer the camera: then only our own page may send it."""
        return self.method not in ("GET", "HEAD") or self.headers.get("upgrade", "").lower() == "websocket"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a request isn't answered."""

    status: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where the server listens, and the secret that opens it."""

    host: str
    port: int
    token: str = ""
    """Empty: none is needed."""

    @property
    def hosts(self) -> frozenset[str]:
        """Host headers that are right on loopback; empty: any.

        A foreign name that resolves to 127.0.0.1 would make another site's page look like ours (DNS rebinding).
        """
        if not is_loopback(self.host):
            return frozenset()
        names = {*LOOPBACK_NAMES, bracketed(self.host).lower()}
        return frozenset({f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set()))


def is_loopback(host: str) -> bool:
    """Whether an address or name is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bracketed(host: str) -> str:
    """A host as links and headers write it: ``[::1]``."""
    return f"[{host}]" if ":" in host else host


class Guard:
    """Says of every request whether it is refused."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door = door
        self._wrong = WrongTokens(clock)

    def refusal(self, asked: Asked) -> Refusal | None:
        """The first reason against a request; None: answer it."""
        return _form(asked) or self._host(asked) or _origin(asked) or self._token(asked)

    def _host(self, asked: Asked) -> Refusal | None:
        hosts, host = self._door.hosts, asked.headers.get("host", "").lower()
        if not hosts or host in hosts:
            return None
        return Refusal(status=421, text=f"This camera isn't called that. Open http://127.0.0.1:{self._door.port}/")

    def _token(self, asked: Asked) -> Refusal | None:
        if not self._door.token:
            return None
        if self._wrong.is_blocked(asked.address):
            return Refusal(status=429, text=f"Too many wrong tokens. Try again in {WINDOW_S:.0f} s.")
        given = [token for token in (asked.query_token, asked.cookie_token) if token]
        if any(is_same(token, self._door.token) for token in given):
            return None
        for token in given:
            self._wrong.add(asked.address, token)
        return Refusal(status=401, text="Open the link with ?token=... that the camera printed when it started.")


def _form(asked: Asked) -> Refusal | None:
    if not asked.target.startswith("/"):  # "GET http://other.example/": a request for a proxy
        return Refusal(status=400, text="The address must be a path.")
    is_large = asked.header_bytes > MOST_HEADER_BYTES
    return Refusal(status=431, text=f"The headers exceed {MOST_HEADER_BYTES} bytes.") if is_large else None


def _origin(asked: Asked) -> Refusal | None:
    """Another site's page may link to ours, but neither steer the camera nor show its picture."""
    host, origin = asked.headers.get("host", "").lower(), asked.headers.get("origin")
    if asked.changes_something and (origin is None or urlsplit(origin).netloc.lower() != host):
        return Refusal(status=403, text="The Origin header must name this server.")
    if asked.path != "/" and asked.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return Refusal(status=403, text="Another site's page asked for this.")
    return None
