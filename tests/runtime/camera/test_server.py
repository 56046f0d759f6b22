"""The server: what each address answers, and what a page gets through its WebSocket."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.camera_scene import SceneCamera
from yolo_slim.devices import device_wheel
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.page_commands import SetConf, SetZones
from yolo_slim.runtime.camera.server import Limits, Running, ServerSettings, serve

aiohttp = pytest.importorskip("aiohttp", reason="the page needs aiohttp (extra camera)")
Serve = Callable[..., Running]
Work = Callable[[Any], Awaitable[Any]]
TOKEN = "a-token-of-some-length"


def with_client(work: Work) -> Any:
    """Run ``work`` with a client that keeps cookies, of addresses without a name too."""

    async def run() -> Any:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=30)) as client:
            return await work(client)

    return asyncio.run(run())


def get(url: str, **options: object) -> tuple[int, bytes, Any]:
    """Status, body and headers of one answer."""

    async def work(client: Any) -> Any:
        async with client.get(url, allow_redirects=False, **options) as answer:
            return answer.status, await answer.read(), answer.headers

    return with_client(work)


def wait_for_frame(camera: SceneCamera) -> None:
    """Wait until there is something to show."""
    while camera.hub.newest is None:
        time.sleep(0.005)


def origin(running: Running) -> dict[str, str]:
    """The Origin header that the page would send."""
    return {"Origin": f"http://127.0.0.1:{running.door.port}"}


def test_page_is_one_file(served: Serve) -> None:
    """It loads nothing else, and its policy would let nothing else in."""
    status, body, headers = get(served().link)
    text = body.decode()
    assert status == 200
    assert "page.css" not in text
    assert not [word for word in (' src="', "@import", "url(", "https://", "eval(", "innerHTML") if word in text]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["", "snapshot.jpg", "api/stats", "nowhere", "health"])
def test_every_answer_is_guarded(path: str, served: Serve, camera: SceneCamera) -> None:
    """Errors too: not sniffed, not stored, not framed, not shown by other sites."""
    wait_for_frame(camera)
    _, _, headers = get(served().link + path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "aiohttp" not in headers["Server"].lower()


def test_snapshot_with_and_without_boxes(served: Serve, camera: SceneCamera) -> None:
    """A JPEG of the frame's size."""
    wait_for_frame(camera)
    link = served().link
    for query in ("", "?picture=plain", "?picture=../../etc/passwd"):
        status, body, headers = get(f"{link}snapshot.jpg{query}")
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert (status, headers["Content-Type"], image.shape) == (200, "image/jpeg", (180, 320, 3))


def test_health_follows_the_age(served: Serve, camera: SceneCamera) -> None:
    """200 while the newest frame is young, 503 when it is older than the limit."""
    wait_for_frame(camera)
    running = served(stale_s=1.5)
    assert get(f"{running.link}health")[0] == 200
    camera.is_paused = True
    time.sleep(1.6)
    status, body, _ = get(f"{running.link}health")
    assert (status, body[:5]) == (503, b"stale")


def test_figures_and_metrics(served: Serve) -> None:
    """Figures as JSON, metrics as the callback's text."""
    link = served().link
    stats = json.loads(get(f"{link}api/stats")[1])
    assert stats["source_fps"] == 30
    assert stats["viewers"] == 0
    status, body, headers = get(f"{link}metrics")
    assert (status, body) == (200, b"camera_fps 30\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_clip(served: Serve, camera: SceneCamera, tmp_path: Path) -> None:
    """The file that the callback names, as a download; without one, what to start it with."""
    status, body, _ = get(f"{served().link}clip")
    assert (status, b"--clips" in body) == (404, True)
    camera.clip = tmp_path / "clip-1.mp4"
    camera.clip.write_bytes(b"video")
    status, body, headers = get(f"{served(callbacks=camera.callbacks()).link}clip")
    assert (status, body) == (200, b"video")
    assert headers["Content-Disposition"] == 'attachment; filename="clip-1.mp4"'


def test_a_clip_that_fails_is_explained(served: Serve, camera: SceneCamera) -> None:
    """The callback's message, not a traceback."""

    def full() -> Path:
        raise SlimError("The disk is full.")

    status, body, _ = get(f"{served(callbacks=replace(camera.callbacks(), clip=full)).link}clip")
    assert (status, body) == (503, b"The disk is full.\n")


def test_video_is_a_stream_of_jpegs(served: Serve) -> None:
    """Parts with a length each, and the picture moves."""

    async def work(client: Any) -> list[bytes]:
        async with client.get(f"{link}video.mjpg") as answer:
            reader = aiohttp.MultipartReader.from_response(answer)
            return [bytes(await (await reader.next()).read()) for _ in range(3)]

    link = served().link
    first, *_, last = with_client(work)
    images = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in (first, last)]
    assert np.abs(images[0].astype(int) - images[1]).max() > 50


async def messages(page: Any, kind: str, count: int = 1) -> list[Any]:
    """The next messages of a kind; ``picture``: (age in ms, details, JPEG)."""
    found: list[Any] = []
    while len(found) < count:
        message = await page.receive(timeout=10)
        if message.type is aiohttp.WSMsgType.BINARY and kind == "picture":
            age, length = struct.unpack_from("<fI", message.data)
            found.append((age, json.loads(message.data[8 : 8 + length]), message.data[8 + length :]))
        elif message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] == kind:
            found.append(json.loads(message.data))
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
    return found


def test_websocket_tells_what_was_found(served: Serve) -> None:
    """Without pictures: every shown frame with sequence and age, the camera's state and the figures."""

    async def work(client: Any) -> Any:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as page:
            (about,) = await messages(page, "about")
            frames, stats = await messages(page, "frame", 5), await messages(page, "stats")
            return about, frames, stats

    running = served()
    about, frames, (stats,) = with_client(work)
    assert about["names"] == {"0": "red", "1": "blue"}
    assert set(about["colors"]) == {"0", "1"}
    assert len({frame["sequence"] for frame in frames}) == 5
    assert frames[0]["answers"]["slim"]["class_ids"] == [0, 1]
    assert all(0 <= frame["age_ms"] < 5000 for frame in frames)
    assert stats["state"] == "live"


def test_commands_take_effect(served: Serve, camera: SceneCamera) -> None:
    """The camera gets them typed, other viewers learn of it, and the next frames follow."""

    async def work(client: Any) -> Any:
        address = f"{running.link}ws"
        async with (
            client.ws_connect(address, headers=origin(running)) as page,
            client.ws_connect(address, headers=origin(running)) as other,
        ):
            await messages(other, "about")
            await page.send_str(json.dumps({"command": "conf", "value": 0.5}))
            (about,) = await messages(other, "about")
            frames = await messages(other, "frame", 4)
            await page.send_str(json.dumps({"command": "conf", "value": 7}))
            refused = await messages(page, "refused")
            zone = {"name": "forbidden", "kind": "line", "points": [[0, 0], [1, 1]]}
            await page.send_str(json.dumps({"command": "zones", "value": [zone]}))
            return about, frames[-1], refused + await messages(page, "refused")

    running = served()
    about, frame, refused = with_client(work)
    assert about["conf"] == 0.5
    assert frame["answers"]["slim"]["class_ids"] == [0]
    assert [one["reason"] for one in refused] == [
        "The value of the command 'conf' must be a number from 0 to 1.",
        "This name is taken.",
    ]
    assert [type(command) for command in camera.commands] == [SetConf, SetZones]


def test_commands_by_post(served: Serve, camera: SceneCamera) -> None:
    """The same commands for scripts."""

    async def work(client: Any) -> list[int]:
        statuses = []
        for value in (0.5, 7):
            body = json.dumps({"command": "conf", "value": value})
            async with client.post(f"{running.link}api/command", data=body, headers=origin(running)) as answer:
                statuses.append(answer.status)
        return statuses

    running = served()
    assert with_client(work) == [200, 400]
    assert camera.conf == 0.5


def test_pictures_come_with_what_was_found(served: Serve) -> None:
    """Picture and details are of one frame; a third picture waits until one was drawn."""

    async def work(client: Any) -> Any:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as page:
            await page.send_str('{"command": "watch", "value": "plain"}')
            first = await messages(page, "picture", 2)
            with pytest.raises((asyncio.TimeoutError, AssertionError)):
                await asyncio.wait_for(messages(page, "picture"), 0.5)
            return first

    async def drawing(client: Any) -> Any:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as page:
            await page.send_str('{"command": "watch", "value": "plain"}')
            found = []
            for _ in range(6):
                found += await messages(page, "picture")
                await page.send_str('{"command": "seen"}')
            return found

    running = served()
    assert len(with_client(work)) == 2
    for _, details, jpeg in with_client(drawing):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        (left, top, right, bottom), *_ = details["answers"]["slim"]["boxes"]
        x, y = (left + right) / 2 * 320, (top + bottom) / 2 * 180
        assert image[int(y), int(x), 2] > 180  # the red box is where the details say


def test_a_paused_camera_shows_its_last_frame(served: Serve, camera: SceneCamera) -> None:
    """A page that opens now gets it encoded, though no frame comes."""
    wait_for_frame(camera)
    camera.is_paused = True
    time.sleep(0.1)

    async def work(client: Any) -> Any:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as page:
            await page.send_str('{"command": "watch", "value": "boxes"}')
            return await messages(page, "picture")

    running = served()
    assert len(with_client(work)) == 1


def test_a_lost_source_is_said(served: Serve, camera: SceneCamera) -> None:
    """Within a second, with the reason."""

    async def work(client: Any) -> Any:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as page:
            await messages(page, "stats")
            camera.reason, camera.state = "the cable is out", "lost"
            while True:
                (stats,) = await messages(page, "stats")
                if stats["state"] == "lost":
                    return stats["reason"]

    running = served()
    assert with_client(work) == "the cable is out"


def test_a_bad_reading_is_no_end(served: Serve, camera: SceneCamera, caplog: pytest.LogCaptureFixture) -> None:
    """Figures that fail once are logged, and come again."""
    left = [2]

    def stats() -> dict[str, Any]:
        left[0] -= 1
        if left[0] == 0:
            raise KeyError("fps")
        return camera.stats()

    async def work(client: Any) -> int:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as page:
            return len(await messages(page, "stats", 2))

    running = served(callbacks=replace(camera.callbacks(), stats=stats))
    assert with_client(work) == 2
    assert [record.message for record in caplog.records] == ["The camera's page failed."]


def test_the_device_gets_the_page() -> None:
    """The wheel of a bundle contains the page's three files."""
    names = {path.name for path in device_wheel.code_files()}
    assert {"page.html", "page.css", "page.js", "server.py"} <= names


def test_a_slow_viewer_holds_no_one_back(served: Serve, camera: SceneCamera) -> None:
    """One stream that nobody reads: the other viewer gets the newest frames at their rate, and all are encoded."""

    async def work(client: Any) -> int:
        async with client.ws_connect(f"{running.link}ws", headers=origin(running)) as other:
            first, *_, last = await messages(other, "frame", 30)
            return last["sequence"] - first["sequence"]

    running = served()
    with socket.create_connection(("127.0.0.1", running.door.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"GET /video.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{running.door.port}\r\n\r\n".encode())
        time.sleep(1.5)
        encoded = camera.hub.encoded
        assert with_client(work) <= 60
        assert camera.hub.encoded > encoded
    assert camera.hub.failed == 0


def test_token_once_then_cookie(served: Serve) -> None:
    """The link's token becomes a cookie that scripts can't read, and leaves the address."""

    async def work(client: Any) -> Any:
        async with client.get(base, allow_redirects=False) as bare:
            pass
        async with client.get(f"{base}?token={TOKEN}", allow_redirects=False) as first:
            pass
        async with client.get(base) as second:
            return bare.status, first, second.status

    running = served(host="0.0.0.0", token=TOKEN)
    base = f"http://127.0.0.1:{running.door.port}/"
    assert running.link.endswith(f"/?token={TOKEN}")
    bare, first, second = with_client(work)
    assert (bare, first.status, first.headers["Location"], second) == (401, 303, "/", 200)
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert get(f"{base}video.mjpg?token=wrong")[0] == 401


def test_wider_than_loopback_needs_a_token(served: Serve) -> None:
    """One is made where none is given; on loopback none is needed."""
    assert "?token=" in served(host="0.0.0.0").link
    assert "?token=" not in served().link
    with pytest.raises(SlimError, match="at least 16"):
        served(host="0.0.0.0", token="short")


def test_missing_aiohttp_is_explained(camera: SceneCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line to type, before a port is taken."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(SlimError, match="The page needs aiohttp") as caught:
        serve(camera.hub, ServerSettings(port=0))
    assert "pip install 'aiohttp>=3.10'" in caught.value.remedy


def test_stop_frees_the_port(camera: SceneCamera) -> None:
    """With viewers too; and stopping twice does no harm."""
    running = serve(camera.hub, ServerSettings(port=0, limits=Limits(), callbacks=camera.callbacks()))
    running.stop()
    running.stop()
    with serve(camera.hub, ServerSettings(port=running.door.port, callbacks=camera.callbacks())) as again:
        assert get(f"{again.link}api/stats")[0] == 200
