"""The page's routes: what each request gets. Runs in the server's own event loop."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.guard import Asked, Door, Guard
from yolo_slim.runtime.camera.hub import VARIANTS, Hub
from yolo_slim.runtime.camera.outputs.layout import MOST_NAME
from yolo_slim.runtime.camera.page import page
from yolo_slim.runtime.camera.page_commands import CameraCommand, Seen, Watch, parse_command
from yolo_slim.runtime.camera.server_settings import ServerSettings
from yolo_slim.runtime.camera.viewers import BOUNDARY, Viewer, Viewers, send_parts, send_to_page
from yolo_slim.runtime.draw import class_color

if TYPE_CHECKING:
    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer; the page has a policy of its own."""
STATS_S = 1.0
STATE_S = 0.25
"""A change of state is said within this time."""
HEARTBEAT_S = 10.0
_FULL = "This camera has as many viewers as it can serve ({most}). Close one, or try again later."
_LOG = logging.getLogger("yolo_slim.camera.page")
T = TypeVar("T")


class Site:
    """Answers requests for one camera."""

    def __init__(self, hub: Hub, settings: ServerSettings, door: Door) -> None:
        self._hub = hub
        self._settings = settings
        self._calls = settings.callbacks
        self._door = door
        self._guard = Guard(door)
        self._asked: Callable[[object], None] = lambda _: None
        self._clip_lock = asyncio.Lock()
        self.viewers = Viewers(hub, settings.limits.viewers)

    def application(self) -> web.Application:
        """The routes, behind the guard."""
        from aiohttp import web

        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        # A method can't be marked as a middleware, a function can.
        middleware: Any = web.middleware(guarded)
        app = web.Application(client_max_size=self._settings.limits.message_bytes, middlewares=[middleware])
        app.on_response_prepare.append(_add_headers)
        for path, handler in self._handlers().items():
            app.router.add_get(path, handler)
        app.router.add_post("/api/command", self._posted)
        return app

    def _handlers(self) -> dict[str, Handler]:
        return {
            "/": self._page,
            "/ws": self._socket,
            "/video.mjpg": self._video,
            "/snapshot.jpg": self._snapshot,
            "/clip": self._clip,
            "/health": self._health,
            "/metrics": self._metrics,
            "/api/stats": self._stats,
        }

    def on_request(self, listener: Callable[[object], None]) -> None:
        """Call ``listener`` with the connection of every request that isn't refused."""
        self._asked = listener

    async def report(self) -> None:
        """Tell all viewers the figures each second, and a change of state sooner; until cancelled."""
        elapsed, state = 0.0, None
        while True:
            await asyncio.sleep(STATE_S)
            elapsed += STATE_S
            try:
                stats = self._read_stats() if self.viewers else {}
                if stats and (elapsed >= STATS_S or stats.get("state") != state):
                    elapsed, state = 0.0, stats.get("state")
                    self.viewers.note("stats", json.dumps({"type": "stats", **stats}))
            except Exception as error:  # one bad reading must not leave the page without figures for good
                _log_faults([error])

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        from aiohttp import web

        refusal = self._guard.refusal(self._asked_by(request))
        if refusal is not None:
            return _text(refusal.text, refusal.status, close=True)
        self._asked(request.protocol)
        try:
            return await handler(request)
        except SlimError as error:
            return _text(str(error), 503)
        except web.HTTPException as error:
            return _text(f"{error.status}: {error.reason}", error.status, close=error.status == 413)

    def _asked_by(self, request: web.Request) -> Asked:
        return Asked(
            method=request.method,
            path=request.path,
            target=request.raw_path,
            headers={name.lower(): value for name, value in request.headers.items()},
            header_bytes=sum(len(name) + len(value) + 4 for name, value in request.raw_headers),
            address=request.remote or "",
            query_token=request.query.get("token"),
            cookie_token=request.cookies.get(self._cookie),
        )

    @property
    def _cookie(self) -> str:
        # Browsers send a cookie to every port of a host: two cameras on one device need two names.
        return f"camera_{self._door.port}"

    async def _page(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if not (self._door.token and request.query.get("token")):
            policy = {"Content-Security-Policy": page().policy}
            return web.Response(text=page().html, content_type="text/html", headers=policy)
        # The page's own address has no token, so that it is in no history, bookmark or screenshot.
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(self._cookie, self._door.token, httponly=True, samesite="Strict", path="/")
        return response

    async def _video(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if self.viewers.is_full:
            return self._full()
        content = {"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
        response = web.StreamResponse(headers=content)
        with self.viewers.one_more() as viewer:
            await response.prepare(request)
            await self._watch(viewer, _variant(request))
            with suppress(ConnectionError, asyncio.TimeoutError):
                await send_parts(response, viewer, self._settings.limits.send_s)
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if self.viewers.is_full:
            return self._full()
        socket = web.WebSocketResponse(
            max_msg_size=self._settings.limits.message_bytes, heartbeat=HEARTBEAT_S, compress=False
        )
        if not socket.can_prepare(request).ok:
            return _text("This address is for WebSockets.", 426)
        with self.viewers.one_more() as viewer:
            await socket.prepare(request)
            viewer.note("about", self._about())
            viewer.note("stats", json.dumps({"type": "stats", **self._read_stats()}))
            await self._serve_page(socket, viewer)
        return socket

    async def _serve_page(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        """Send and receive until one of both ends."""
        sending = asyncio.create_task(send_to_page(socket, viewer, self._settings.limits.send_s))
        receiving = asyncio.create_task(self._receive(socket, viewer))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving):
                task.cancel()
            _log_faults(await asyncio.gather(sending, receiving, return_exceptions=True))

    async def _receive(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        from aiohttp import WSMsgType

        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                await self._obey(message.data, viewer)
            except SlimError as error:
                viewer.note("refused", json.dumps({"type": "refused", "reason": str(error)}))
                viewer.note("about", self._about())

    async def _obey(self, text: str, viewer: Viewer | None) -> None:
        """Carry out one command.

        Raises:
            SlimError: it is wrong, or the camera refuses it.
        """
        command = parse_command(text)
        if isinstance(command, Seen) and viewer is not None:
            viewer.seen()
        elif isinstance(command, Watch) and viewer is not None:
            await self._watch(viewer, command.variant)
        elif not isinstance(command, (Seen, Watch)):
            await self._steer(command)

    async def _steer(self, command: CameraCommand) -> None:
        await _in_thread(partial(self._calls.command, command))
        self.viewers.note("about", self._about())

    async def _watch(self, viewer: Viewer, variant: str | None) -> None:
        """Choose a viewer's pictures; the newest is encoded at once, since a paused camera gives no other."""
        if variant is not None:
            await _in_thread(partial(self._hub.picture, variant))
        viewer.watch(variant)

    async def _posted(self, request: web.Request) -> web.StreamResponse:
        try:
            text = await asyncio.wait_for(request.text(), self._settings.limits.header_s)
            await self._obey(text, None)
        except asyncio.TimeoutError:
            return _text("The request's body came too slowly.", 408, close=True)
        except (SlimError, UnicodeDecodeError, LookupError) as error:
            return _text(str(error), 400)
        return _text("done", 200)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        picture = await _in_thread(partial(self._hub.picture, _variant(request)))
        if picture is None:
            return _text("The camera has given no frame yet.", 503)
        name = f'inline; filename="snapshot-{picture.sequence}.jpg"'
        return web.Response(body=picture.jpeg, content_type="image/jpeg", headers={"Content-Disposition": name})

    async def _clip(self, _: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if self._calls.clip is None:
            return _text("This camera keeps no clips. Start it with --clips FOLDER.", 404)
        if self._clip_lock.locked():
            return _text("Another clip is being written. Try again in a moment.", 429)
        async with self._clip_lock:
            path: Path = await _in_thread(self._calls.clip)
        named = {"Content-Disposition": f'attachment; filename="{path.name}"'}
        return web.FileResponse(path, headers=named)

    async def _health(self, _: web.Request) -> web.StreamResponse:
        age = self._hub.age_s
        if age is None:
            return _text("no frame yet", 503)
        is_live = age < self._settings.stale_s
        return _text(f"{'live' if is_live else 'stale'}: the newest frame is {age:.1f} s old", 200 if is_live else 503)

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if self._calls.metrics is None:
            return _text("This camera gives no metrics.", 404)
        text = await _in_thread(self._calls.metrics)
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _stats(self, _: web.Request) -> web.StreamResponse:
        from aiohttp import web

        return web.json_response(self._read_stats())

    def _read_stats(self) -> dict[str, object]:
        pictures = {"encoded": self._hub.encoded, "failed": self._hub.failed, "reason": self._hub.reason}
        return {**self._calls.stats(), "viewers": len(self.viewers), "pictures": pictures}

    def _about(self) -> str:
        about = dict(self._calls.about())
        names: Any = about.get("names") or {}
        colors = {key: "#{2:02x}{1:02x}{0:02x}".format(*class_color(int(key))) for key in names}
        own = {"colors": colors, "has_clips": self._calls.clip is not None, "most_name": MOST_NAME}
        return json.dumps({"type": "about", **about, **own})

    def _full(self) -> web.Response:
        return _text(_FULL.format(most=self._settings.limits.viewers), 503, close=True)


def _log_faults(results: Sequence[object]) -> None:
    """Log what is a fault of ours. A viewer that leaves ends its tasks with an error too, which is no news."""
    for one in results:
        if isinstance(one, Exception) and not isinstance(one, (ConnectionError, asyncio.TimeoutError)):
            _LOG.error("The camera's page failed.", exc_info=one)


def _variant(request: web.Request) -> str:
    wanted = request.query.get("picture", "boxes")
    return wanted if wanted in VARIANTS else "boxes"


def _text(text: str, status: int, *, close: bool = False) -> web.Response:
    from aiohttp import web

    response = web.Response(text=f"{text}\n", status=status, headers={"Retry-After": "5"} if status == 503 else None)
    if close:
        response.force_close()
    return response


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "yolo_slim"


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, call)
