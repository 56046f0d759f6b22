"""Stream URLs: their parts, and how they are shown without passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from yolo_slim.errors import SlimError

DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_SECRET_FIELDS = re.compile(r"([?&][^=&#]*(?:pass|pwd|token|key|auth|secret|signature)[^=&#]*=)[^&#]*", re.IGNORECASE)
_ENCODE = "Write special characters of a password in percent-encoding: %40 for @, %2F for /, %23 for #, %3F for ?."


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of a stream's URL."""

    scheme: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    bare: str = field(repr=False)
    """The URL without user and password."""
    target: str = field(repr=False)
    """Path and query."""

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL with user and password, percent-encoded as FFmpeg reads it."""
        if not self.user:
            return self.bare
        account = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        scheme, separator, rest = self.bare.partition("://")
        return f"{scheme}{separator}{account}@{rest}"


def redacted(url: str) -> str:
    """A URL as it may be shown: the password, and fields of the query that sound like one, are ``***``."""
    scheme, separator, rest = url.partition("://")
    # Up to the last @: a password that isn't percent-encoded may contain any character.
    user, at, place = rest.rpartition("@")
    shown = f"{user.partition(':')[0]}{':***' if ':' in user else ''}{at}{place}"
    return scheme + separator + _SECRET_FIELDS.sub(r"\1***", shown)


def parse_address(url: str) -> Address:
    """Take a stream's URL apart.

    Raises:
        SlimError: no host, or a port that isn't one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SlimError(
            f"The URL can't be read: {redacted(url)}",
            remedy=f"A port is a number from 1 to 65535, at the end of the host. {_ENCODE}",
        ) from None
    if not parts.hostname:
        raise SlimError(f"The URL names no host: {redacted(url)}", remedy=f"Write rtsp://HOST/PATH. {_ENCODE}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    place = parts.netloc.rpartition("@")[2]
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or DEFAULT_PORTS[parts.scheme],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        bare=f"{parts.scheme}://{place}{target}",
        target=target,
    )
