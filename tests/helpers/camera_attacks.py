"""Requests that the camera's page must refuse, and what it may answer: the table of docs/camera-security.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def talk(port: int, text: bytes, seconds: float = 60.0) -> bytes:
    """Send bytes, and return all that comes back until the connection is closed or the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = bytearray()

    async def read() -> None:
        while part := await reader.read(65536):
            found.extend(part)

    try:
        writer.write(text)
        await asyncio.wait_for(read(), seconds)
    except (ConnectionError, asyncio.TimeoutError):
        pass
    finally:
        writer.close()
    return bytes(found)


def request(port: int, path: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    """One request as bytes, whose connection is closed after the answer."""
    head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def status(answer: bytes) -> int:
    """Status of a raw answer; 0: the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def websocket(port: int, origin: str | None) -> bytes:
    """The first request of a WebSocket."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    lines = ["Upgrade: websocket", key, "Sec-WebSocket-Version: 13", *([f"Origin: {origin}"] if origin else [])]
    return request(port, "/ws", *lines).replace(b"Connection: close", b"Connection: Upgrade")


def own(port: int) -> str:
    """The page's origin."""
    return f"http://127.0.0.1:{port}"


def command(port: int, *lines: str, method: str = "POST") -> bytes:
    """A command of the page, as a program would send it."""
    body = b'{"command": "conf", "value": 0.5}'
    return request(port, "/api/command", f"Content-Length: {len(body)}", *lines, method=method, body=body)


def _get(path: str) -> Callable[[int], bytes]:
    return lambda port: request(port, path)


ATTACKS: dict[str, tuple[Callable[[int], bytes], set[int]]] = {
    **{
        f"GET {path}": (_get(path), {400, 404})
        for path in (
            "/../../etc/passwd",
            "/..%2f..%2f..%2fetc%2fpasswd",
            "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "//etc/passwd",
            "/page.js",
            "/clip/../../etc/passwd",
            "/snapshot.jpg/../server.py",
            "/%00",
        )
    },
    "a proxy's request: GET http://evil.example/": (
        lambda port: request(port, "http://evil.example/"),
        {400, 404, 421},
    ),
    "one header of 9 kB": (lambda port: request(port, "/", "X: " + "y" * 9000), {400, 431}),
    "100 headers, 10 kB together": (
        lambda port: request(port, "/", *[f"X{i}: {'y' * 90}" for i in range(100)]),
        {400, 431},
    ),
    "3000 headers": (lambda port: request(port, "/", *[f"X{i}: y" for i in range(3000)]), {400, 431}),
    "a path of 10 kB": (lambda port: request(port, "/" + "a" * 10000), {400, 414}),
    "bytes that are no HTTP": (lambda _: b"\x16\x03\x01\x02\x00 hello\r\n\r\n", {0, 400}),
    "the Host header of another name (DNS rebinding)": (
        lambda port: request(port, "/").replace(b"127.0.0.1", b"evil.example"),
        {421},
    ),
    "no Host header": (lambda _: b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", {400, 421}),
    "POST from another site": (lambda port: command(port, "Origin: http://evil.example"), {403}),
    "POST without Origin": (command, {403}),
    "PUT with our own Origin": (lambda port: command(port, f"Origin: {own(port)}", method="PUT"), {405}),
    "POST of 300 kB": (
        lambda port: request(
            port, "/api/command", f"Origin: {own(port)}", "Content-Length: 300000", method="POST", body=b"x" * 300_000
        ),
        {413},
    ),
    "WebSocket from another site": (lambda port: websocket(port, "http://evil.example"), {403}),
    "WebSocket without Origin": (lambda port: websocket(port, None), {403}),
    "WebSocket of a sandboxed frame (Origin: null)": (lambda port: websocket(port, "null"), {403}),
}
"""What is tried: the bytes for a port, and the statuses that are right; 0: the connection is closed."""
FLOODS = {
    "200 connections that send nothing, half a header, or never their body": (
        "the page answers beside them; they are closed after 10 s",
        ("test_slow_loris", "test_silent_connections_are_closed"),
    ),
    "200 refused requests whose bodies never come": (
        "the page answers beside them",
        ("test_refused_requests_hold_no_place",),
    ),
    "500 viewers at once": (
        "32 are served, the others get 503, and memory stays",
        ("test_500_viewers", "test_places_are_given_back"),
    ),
    "a WebSocket message over 256 KiB": ("closed with 1009", ("test_large_messages_end_the_socket",)),
    "any address without the token": ("401", ("test_guessing_the_token",)),
    "guessing the token": ("five wrong ones in a minute, then 429", ("test_guessing_the_token",)),
}
"""What needs more than one request: what happens, and the tests that do it."""


def rows() -> str:
    """The table of docs/camera-security.md."""
    asked = [
        (f"`{name}`" if name.startswith("GET") else name, _statuses(right)) for name, (_, right) in ATTACKS.items()
    ]
    floods = [(name, answer) for name, (answer, _) in FLOODS.items()]
    return "".join(
        f"| {name} | {answer} |\n" for name, answer in [("tried", "answer"), ("---", "---"), *asked, *floods]
    )


def _statuses(right: set[int]) -> str:
    return " or ".join(str(code) if code else "closed" for code in sorted(right))
