"""What an attacker tries over real sockets on loopback, and that the page goes on for its viewers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers.camera_attacks import ATTACKS, FLOODS, command, own, request, rows, status, talk, websocket
from tests.helpers.camera_scene import SceneCamera
from tests.helpers.constants import ROOT
from yolo_slim.runtime.camera.server import Limits, Running

aiohttp = pytest.importorskip("aiohttp", reason="the page needs aiohttp (extra camera)")
Serve = Callable[..., Running]
TOKEN = "a-token-of-some-length"
PATIENT = Limits(header_s=600)
"""Silent connections are no burden that time takes away: the page must answer beside them."""


async def page_answers(port: int, times: int = 1) -> bool:
    """Whether an ordinary viewer gets the page, each time by a new connection."""
    return [status(await talk(port, request(port, "/"), 60)) for _ in range(times)] == [200] * times


def test_table_of_attacks(served: Serve, camera: SceneCamera, caplog: pytest.LogCaptureFixture) -> None:
    """Each is refused, none shows a file or changes the camera, and the page answers after them."""

    async def work() -> dict[str, int]:
        found = {}
        for name, (make, _) in ATTACKS.items():
            answer = await talk(port, make(port))
            assert b"root:" not in answer, name
            found[name] = status(answer)
        assert await page_answers(port)
        return found

    port = served().door.port
    wrong = {name: code for name, code in asyncio.run(work()).items() if code not in ATTACKS[name][1]}
    assert wrong == {}
    assert camera.commands == []
    assert caplog.records == []  # or anyone could fill the disk with our log


def test_the_table_is_not_refused_for_another_reason(served: Serve, camera: SceneCamera) -> None:
    """Negative control: the same requests with our own origin and usual sizes are answered."""

    async def work() -> list[int]:
        origin = f"Origin: {own(port)}"
        good = [
            request(port, "/"),
            request(port, "/", "X: " + "y" * 4000),
            command(port, origin),
        ]
        answers = [status(await talk(port, one)) for one in good]
        return [*answers, status(await talk(port, websocket(port, own(port)), 5))]

    port = served().door.port
    assert asyncio.run(work()) == [200, 200, 200, 101]
    assert len(camera.commands) == 1


async def open_silent(port: int, count: int, first: bytes = b"") -> list[asyncio.StreamWriter]:
    """Connections that send nothing more than their first bytes."""
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(first)
        writers.append(writer)
    return writers


@contextlib.asynccontextmanager
async def silent(port: int, count: int, first: bytes = b"") -> Any:
    """Hold such connections open."""
    writers = await open_silent(port, count, first)
    try:
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: 127", b"POST /api/command HTTP/1.1\r\n"])
def test_slow_loris(first: bytes, served: Serve) -> None:
    """200 connections that send nothing, or never end their headers: the page answers, and new viewers get in."""

    async def work() -> bool:
        async with silent(port, 200, first):
            return await page_answers(port, times=5)

    port = served(limits=PATIENT).door.port
    assert asyncio.run(work())


def test_refused_requests_hold_no_place(served: Serve) -> None:
    """200 connections whose requests are refused, but whose bodies never come: they make room for viewers."""
    body = b"POST /api/command HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\n"

    async def work() -> bool:
        async with silent(port, 200, body):
            return await page_answers(port, times=3)

    port = served(limits=PATIENT).door.port
    assert asyncio.run(work())


def test_silent_connections_are_closed(served: Serve) -> None:
    """Those without a request, those that never end one's headers or body, and idle ones after an answer."""
    starts = {
        "nothing": b"",
        "half a header": b"GET / HTTP/1.1\r\nHost:",
        "no body": b"POST /api/command HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\n"
        b"Content-Length: 10\r\nConnection: close\r\n\r\n",
        "idle": b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
    }

    async def closed_after(text: bytes) -> float:
        began = time.monotonic()
        await talk(port, text.replace(b"%d", str(port).encode()), 90)
        return time.monotonic() - began

    async def work() -> list[float]:
        return list(await asyncio.gather(*map(closed_after, starts.values())))

    port = served(limits=Limits(header_s=0.5)).door.port
    assert {name: after < 60 for name, after in zip(starts, asyncio.run(work()), strict=True)} == dict.fromkeys(
        starts, True
    )


def test_a_viewer_is_not_closed_as_silent(served: Serve) -> None:
    """Negative control: a page that only listens stays open for longer than a request may take."""

    async def work() -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{own(port)}/ws", headers={"Origin": own(port)}) as socket,
        ):
            end, count = time.monotonic() + 1.5, 0
            while time.monotonic() < end:
                await socket.receive(timeout=5)
                count += 1
            assert not socket.closed
            return count

    port = served(limits=Limits(header_s=0.3)).door.port
    assert asyncio.run(work()) > 5


async def connect(client: Any, port: int) -> Any:
    """A WebSocket, or the status that refuses it."""
    try:
        return await client.ws_connect(f"{own(port)}/ws", headers={"Origin": own(port)})
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    except aiohttp.ClientError:
        return 0


def test_500_viewers(served: Serve, camera: SceneCamera) -> None:
    """32 are served, the others are told so; those who watch go on, the page too, and the memory stays."""

    async def work() -> tuple[list[Any], bool, int]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as client:
            answers = await asyncio.gather(*[connect(client, port) for _ in range(500)])
            open_ones = [one for one in answers if not isinstance(one, int)]
            is_answered = await page_answers(port)
            texts = await asyncio.gather(*[one.receive_str(timeout=60) for one in open_ones])
            for one in open_ones:
                await one.close()
            return [one for one in answers if isinstance(one, int)], is_answered, len(texts)

    port = served().door.port
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, is_answered, served_ones = asyncio.run(work())
    assert served_ones == 32
    assert set(refused) <= {0, 503}
    assert is_answered
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_places_are_given_back(served: Serve) -> None:
    """After one of the viewers leaves, another may come; the refusal says why."""

    async def work() -> list[Any]:
        async with aiohttp.ClientSession() as client:
            first, second = await connect(client, port), await connect(client, port)
            async with client.get(f"{own(port)}/video.mjpg") as answer:
                text = await answer.text()
            await first.close()
            await asyncio.sleep(0.2)
            third = await connect(client, port)
            found = [second, text, isinstance(third, int)]
            await third.close()
            return found

    port = served(limits=Limits(viewers=1)).door.port
    second, text, is_refused = asyncio.run(work())
    assert second == 503
    assert "as many viewers as it can serve (1)" in text
    assert not is_refused


def test_large_messages_end_the_socket(served: Serve, camera: SceneCamera) -> None:
    """More than 256 KiB: closed as too large. Wrong ones below that are answered, in any number."""

    async def work() -> Any:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{own(port)}/ws", headers={"Origin": own(port)}) as socket,
        ):
            for text in ("{", json.dumps({"command": "conf", "value": "x" * 60000}), "[" * 60000):
                await socket.send_str(text)
            await socket.send_bytes(b"\0" * 1000)
            await socket.send_str("x" * 300_000)
            async with asyncio.timeout(20):
                while not socket.closed:
                    message = await socket.receive()
            return message.type, socket.close_code

    port = served().door.port
    assert asyncio.run(work())[1] == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert camera.commands == []


def guesses() -> Iterator[str]:
    """Wrong tokens."""
    yield from (f"guess-number-{i:08d}" for i in range(8))


def test_guessing_the_token(served: Serve) -> None:
    """Without it nothing is shown; five wrong ones, then the address is refused for a while."""

    async def work() -> list[int]:
        bare = [f"/{path}" for path in ("", "video.mjpg", "snapshot.jpg", "metrics", "api/stats", "health", "clip")]
        tries = [*bare, *[f"/?token={guess}" for guess in guesses()], f"/?token={TOKEN}"]
        return [status(await talk(port, request(port, path))) for path in tries]

    port = served(host="0.0.0.0", token=TOKEN).door.port
    assert asyncio.run(work()) == [401] * 7 + [401] * 5 + [429] * 4


def test_docs_have_the_table() -> None:
    """docs/camera-security.md says what is tried here and what comes of it; the tests that it speaks of exist."""
    assert rows() in (ROOT / "docs/camera-security.md").read_text(encoding="utf-8")
    assert {name for _, names in FLOODS.values() for name in names} <= set(globals())
