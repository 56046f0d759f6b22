"""Who is let in: host, origin, token and size of a request, without a server."""

from __future__ import annotations

import pytest

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.guard import Asked, Door, Guard, is_loopback
from yolo_slim.runtime.camera.token import check_token, new_token

TOKEN = "a-token-of-some-length"
LOCAL = Door(host="127.0.0.1", port=8080)
WIDE = Door(host="0.0.0.0", port=8080, token=TOKEN)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def asked(method: str = "GET", path: str = "/", host: str = "127.0.0.1:8080", **more: object) -> Asked:
    """A request; headers by name with ``_`` for ``-``."""
    special = {name: more.pop(name) for name in ("query_token", "cookie_token", "address") if name in more}
    headers = {"host": host} | {name.replace("_", "-"): str(value) for name, value in more.items()}
    size = sum(len(name) + len(value) for name, value in headers.items())
    return Asked(method=method, path=path, headers=headers, header_bytes=size, **{"address": "10.0.0.9", **special})  # type: ignore[arg-type]


def status(door: Door, request: Asked) -> int:
    """Status of the answer of a new guard."""
    refusal = Guard(door).refusal(request)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("LOCALHOST:8080", 200),
        ("[::1]:8080", 200),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example:8080", 421),
        ("127.0.0.1:9999", 421),
        ("", 421),
    ],
)
def test_host_on_loopback(host: str, expected: int) -> None:
    """A foreign name that resolves to this machine isn't answered."""
    assert status(LOCAL, asked(host=host)) == expected


WEBSOCKET = {"path": "/ws", "upgrade": "WebSocket"}
OWN, FOREIGN = "http://127.0.0.1:8080", "http://evil.example"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({**WEBSOCKET, "origin": OWN}, 200),
        ({**WEBSOCKET, "origin": FOREIGN}, 403),
        ({**WEBSOCKET, "origin": "null"}, 403),
        ({**WEBSOCKET, "origin": "http://127.0.0.1:8081"}, 403),
        ({**WEBSOCKET, "origin": "http://127.0.0.1:8080.evil.example"}, 403),
        (WEBSOCKET, 403),
        ({"method": "POST", "path": "/api/command", "origin": OWN}, 200),
        ({"method": "POST", "path": "/api/command", "origin": FOREIGN}, 403),
        ({"method": "POST", "path": "/api/command"}, 403),
        ({"path": "/snapshot.jpg"}, 200),
        ({"path": "/snapshot.jpg", "sec_fetch_site": "same-origin"}, 200),
        ({"path": "/snapshot.jpg", "sec_fetch_site": "cross-site"}, 403),
        ({"path": "/clip", "sec_fetch_site": "same-site"}, 403),
        ({"path": "/", "sec_fetch_site": "cross-site"}, 200),
        ({"path": "/", "x": "y" * 9000}, 431),
    ],
)
def test_origin_and_size(more: dict[str, str], expected: int) -> None:
    """Another site's page may link to ours, but neither steer the camera nor show its picture."""
    assert status(LOCAL, asked(**more)) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 401),
        ({"query_token": TOKEN}, 200),
        ({"cookie_token": TOKEN}, 200),
        ({"query_token": TOKEN[:-1]}, 401),
        ({"query_token": "ü"}, 401),
        ({"query_token": "\ud800"}, 401),
        ({"query_token": TOKEN, "cookie_token": "of-an-earlier-start"}, 200),
    ],
)
def test_token(more: dict[str, str], expected: int) -> None:
    """Without the right token there is no answer; the link's counts where the cookie is an old one."""
    assert status(WIDE, asked(host="camera.lan:8080", **more)) == expected


def test_guessing_is_stopped() -> None:
    """After five wrong tokens in a minute the address is refused, the right token included; others aren't."""
    clock = Clock()
    guard = Guard(WIDE, clock)
    answers = [guard.refusal(asked(query_token=f"guess-{i}")) for i in range(6)]
    assert [one.status for one in answers if one] == [401] * 5 + [429]
    right = asked(query_token=TOKEN)
    assert getattr(guard.refusal(right), "status", 200) == 429
    assert guard.refusal(asked(query_token=TOKEN, address="10.0.0.10")) is None
    clock.now += 61
    assert guard.refusal(right) is None


def test_an_old_page_is_not_guessing() -> None:
    """The same wrong token, as of a page from before a restart, counts once; a missing one doesn't count."""
    guard = Guard(WIDE, Clock())
    for _ in range(50):
        for request in (asked(cookie_token="of-an-earlier-start"), asked()):
            assert getattr(guard.refusal(request), "status", 200) == 401
    assert guard.refusal(asked(query_token=TOKEN)) is None


def test_an_ipv6_network_counts_as_one() -> None:
    """Its owner has 2**64 addresses to guess from; another network isn't touched, IPv4 in IPv6 is one address."""
    guard = Guard(WIDE, Clock())
    for i in range(5):
        guard.refusal(asked(query_token=f"guess-{i}", address=f"2001:db8::{i:x}"))
    assert getattr(guard.refusal(asked(query_token=TOKEN, address="2001:db8::ffff")), "status", 200) == 429
    assert guard.refusal(asked(query_token=TOKEN, address="2001:db8:1::1")) is None


def test_memory_of_guessers_is_bounded() -> None:
    """Many addresses push out the oldest, which costs an attacker more than it gives."""
    guard = Guard(WIDE, Clock())
    for i in range(3000):
        guard.refusal(asked(query_token="wrong", address=f"10.{i // 250}.{i % 250}.1"))
    assert guard.refusal(asked(query_token=TOKEN)) is None


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "with spaces in it, long", "ä" * 20])
def test_weak_tokens_are_refused(token: str) -> None:
    """The user's own token is long, and fits into a link."""
    with pytest.raises(SlimError, match="at least 16"):
        check_token(token)


def test_new_tokens_are_good() -> None:
    """Each is another one, and good enough for us."""
    tokens = {check_token(new_token()) for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) == 32


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("pi.local", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only what this machine alone reaches needs no token."""
    assert is_loopback(host) is expected
