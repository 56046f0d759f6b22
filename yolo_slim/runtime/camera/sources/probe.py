"""Why a stream can't be opened: questions to its server, because FFmpeg answers every failure with "no"."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from time import monotonic

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import SourceLost
from yolo_slim.runtime.camera.passwords import SOURCE
from yolo_slim.runtime.camera.sources.address import Address

_MOST_BYTES = 65536
"""Longest answer that is read."""
_PASSWORD = (
    f"Write SCHEME://USER@HOST/... and set {SOURCE}, or write it in the URL: SCHEME://USER:PASSWORD@HOST/... "
    "(percent-encoded)."
)


def check_reachable(address: Address, limit_s: float) -> None:
    """Connect to a stream's server, and say nothing: that takes milliseconds and disturbs no server.

    Raises:
        SourceLost: it can't be reached.
    """
    with _explained(address, limit_s), socket.create_connection((address.host, address.port), timeout=limit_s):
        return


def check_stream(address: Address, limit_s: float) -> None:
    """Ask a stream's server whether it would give the stream.

    Args:
        address: the stream.
        limit_s: longest wait in all.

    Raises:
        SourceLost: it can't be reached, answers nothing, or has no such stream: that may pass.
        SlimError: it refuses user and password, or speaks another protocol.
    """
    try:
        with _explained(address, limit_s):
            status = _rtsp_status(address, limit_s) if address.scheme in ("rtsp", "rtsps") else _http(address, limit_s)
    except HTTPException:
        raise _other_protocol(address) from None
    _check_status(address, status)


def _check_status(address: Address, status: int) -> None:
    place = address.place
    if status in (401, 403):
        what = f"refuses user {address.user!r} with this password" if address.user else "wants a user and a password"
        raise SlimError(f"{place} {what} ({status}).", remedy=_PASSWORD)
    if status in (404, 410, 454):
        remedy = "Check the path in the URL; the camera's manual or its own page names it."
        raise SourceLost(f"{place} has no such stream ({status}).", remedy=remedy)
    if status >= 400:
        raise SourceLost(f"{place} answers with error {status}.", remedy="Look at the camera's own page.")


@contextmanager
def _explained(address: Address, limit_s: float) -> Iterator[None]:
    """Turn what the network says into messages."""
    place = address.place
    try:
        yield
    except socket.gaierror:
        raise SourceLost(f"No machine is called {address.host}.", remedy="Check the name, or give its IP.") from None
    except ConnectionRefusedError:
        remedy = f"Check the port, and that the camera has {address.scheme.upper()} switched on."
        raise SourceLost(f"{place} refuses the connection: nothing listens there.", remedy=remedy) from None
    except TimeoutError:
        remedy = "Check that the camera has power and that this machine can ping it."
        raise SourceLost(f"{place} gave no answer within {limit_s:g} s.", remedy=remedy) from None
    except ssl.SSLError:
        raise SlimError(f"{place} doesn't speak TLS.", remedy="Write rtsp:// or http:// without s.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceLost(f"{place} can't be reached: {reason}.", remedy="Check cable and network.") from None


def _other_protocol(address: Address) -> SlimError:
    name = address.scheme.upper()
    return SlimError(f"{address.place} answers, but not in {name}.", remedy="Check the port and the URL's beginning.")


def _rtsp_status(address: Address, limit_s: float) -> int:
    """The status of DESCRIBE, answered with user and password where the server wants them."""
    ends_s = monotonic() + limit_s
    with _connected(address, ends_s) as connection:
        status, head = _describe(connection, address, ends_s, "")
        if status != 401 or not address.user:
            return status
        wanted = re.findall(r"^www-authenticate:\s*(.+?)\s*$", head, re.IGNORECASE | re.MULTILINE)
    with _connected(address, ends_s) as connection:
        authorization = f"Authorization: {rtsp_authorization(address, wanted)}\r\n"
        return _describe(connection, address, ends_s, authorization)[0]


def rtsp_authorization(address: Address, wanted: list[str]) -> str:
    """The value of the header for a DESCRIBE: RFC 2617, digest with MD5 where it is offered, else basic.

    Args:
        address: with user and password.
        wanted: the values of the server's WWW-Authenticate headers.
    """
    digest = next((text for text in wanted if text.lower().startswith("digest")), None)
    if digest is None:
        pair = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        return f"Basic {pair}"
    fields = dict(re.findall(r'(\w+)="([^"]*)"', digest))
    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    secret = _md5(f"{address.user}:{realm}:{address.password}")
    response = _md5(f"{secret}:{nonce}:{_md5(f'DESCRIBE:{address.bare}')}")
    known = f'username="{address.user}", realm="{realm}", nonce="{nonce}", uri="{address.bare}"'
    return f'Digest {known}, response="{response}"'


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def _connected(address: Address, ends_s: float) -> Iterator[socket.socket]:
    limit_s = max(0.01, ends_s - monotonic())
    with socket.create_connection((address.host, address.port), timeout=limit_s) as plain:
        if address.scheme != "rtsps":
            yield plain
            return
        with _any_certificate().wrap_socket(plain, server_hostname=address.host) as secure:
            yield secure


def _describe(connection: socket.socket, address: Address, ends_s: float, more: str) -> tuple[int, str]:
    """Send DESCRIBE; (status, head of the answer)."""
    request = f"DESCRIBE {address.bare} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n{more}\r\n"
    connection.sendall(request.encode())
    head = _head(connection, ends_s)
    found = re.match(r"RTSP/\d\.\d (\d{3})", head)
    if found is None:
        raise _other_protocol(address)
    return int(found[1]), head


def _head(connection: socket.socket, ends_s: float) -> str:
    """What a server answers, up to the first empty line, the end, or too much."""
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _MOST_BYTES:
        connection.settimeout(max(0.01, ends_s - monotonic()))
        part = connection.recv(4096)
        if not part:
            break
        answer += part
    if not answer:
        raise ConnectionResetError(0, "the connection was closed without an answer")
    return answer.decode("latin-1")


def _http(address: Address, limit_s: float) -> int:
    """The status of GET: many cameras answer HEAD with an error. The answer's body isn't read."""
    # Imported here: urllib.request takes 40 ms, which only streams need to pay.
    from urllib import error, request

    passwords = request.HTTPPasswordMgrWithDefaultRealm()
    if address.user:
        passwords.add_password(None, address.bare, address.user, address.password)
    handlers = [kind(passwords) for kind in (request.HTTPBasicAuthHandler, request.HTTPDigestAuthHandler)]
    secure = request.HTTPSHandler(context=_any_certificate())
    opener = request.build_opener(request.ProxyHandler({}), secure, *handlers)
    try:
        with opener.open(address.bare, timeout=limit_s) as answer:
            return int(answer.status)
    except error.HTTPError as refused:
        with refused:
            return refused.code
    except error.URLError as failed:
        raise failed.reason if isinstance(failed.reason, OSError) else OSError(0, str(failed.reason)) from None


def _any_certificate() -> ssl.SSLContext:
    """Cameras sign their certificates themselves, and FFmpeg accepts any too."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
