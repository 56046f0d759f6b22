"""Serves the page from a thread of its own, so that viewers and frames never wait for each other."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.connections import Connections
from yolo_slim.runtime.camera.guard import MOST_HEADER_BYTES, Door, bracketed, is_loopback
from yolo_slim.runtime.camera.hub import Hub
from yolo_slim.runtime.camera.ports import listen, own_address
from yolo_slim.runtime.camera.server_settings import Callbacks, Limits, ServerSettings
from yolo_slim.runtime.camera.site import Site
from yolo_slim.runtime.camera.token import check_token, new_token

__all__ = ["Callbacks", "Limits", "Running", "ServerSettings", "serve"]

LEAST_AIOHTTP = (3, 10)
_START_S = 10.0
_STOP_S = 5.0
_LINGER_S = 2.0
"""For the rest of a body that isn't wanted."""


class Running:
    """A server that runs until :meth:`stop`."""

    def __init__(self, site: Site, door: Door, listener: socket.socket, limits: Limits) -> None:
        self._site = site
        self._listener = listener
        self._limits = limits
        self.door = door
        """Where it listens, and its token."""
        self._loop = asyncio.new_event_loop()
        self._ended: asyncio.Event | None = None
        self._is_ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="camera-page", daemon=True)

    @property
    def link(self) -> str:
        """What to open; with the token, so only for the user's eyes."""
        host = own_address() if self.door.host in ("0.0.0.0", "::", "") else self.door.host
        query = f"?token={quote(self.door.token)}" if self.door.token else ""
        return f"http://{bracketed(host)}:{self.door.port}/{query}"

    @property
    def viewers(self) -> int:
        """Open pages and streams."""
        return len(self._site.viewers)

    def start(self) -> None:
        """Serve; returns when requests are answered."""
        self._thread.start()
        self._is_ready.wait(_START_S)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Close all connections and free the port; never raises."""
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._end)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wake(self) -> None:
        """Have every viewer look for a new frame; from any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._site.viewers.wake)

    def _end(self) -> None:
        if self._ended is not None:
            self._ended.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._is_ready.set()
            self._listener.close()
            self._loop.close()

    async def _serve(self) -> None:
        from aiohttp import web

        self._ended = asyncio.Event()
        runner = web.AppRunner(
            self._site.application(),
            access_log=None,
            logger=_logger(),
            lingering_time=min(_LINGER_S, self._limits.header_s),
            keepalive_timeout=self._limits.header_s,
            max_line_size=MOST_HEADER_BYTES,
            max_field_size=MOST_HEADER_BYTES,
            shutdown_timeout=0.5,
        )
        await runner.setup()
        if runner.server is None:
            raise SlimError("aiohttp made no server.")
        connections = Connections(runner.server, self._limits)
        self._site.on_request(connections.asked)
        await self._until_ended(connections.accept_all(self._listener), self._site.report())
        await runner.cleanup()
        # A task that is being cancelled when the loop closes would be complained about on the terminal.
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest, timeout=_LINGER_S)

    async def _until_ended(self, *works: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(work) for work in works]
        self._is_ready.set()
        if self._ended is not None:
            await self._ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def serve(hub: Hub, settings: ServerSettings) -> Running:
    """Serve the page of a hub.

    Raises:
        SlimError: aiohttp is missing or too old, the port is in use, or the token is too short.
    """
    _require_aiohttp()
    is_local = is_loopback(settings.host)
    token = check_token(settings.token) if settings.token else "" if is_local else new_token()
    listener = listen(settings.host, settings.port)
    door = Door(host=settings.host, port=listener.getsockname()[1], token=token)
    running = Running(Site(hub, settings, door), door, listener, settings.limits)
    hub.on_newest(running.wake)
    running.start()
    return running


def _logger() -> logging.Logger:
    """Logs faults of ours, but no malformed requests: anyone could fill the disk with them."""
    from aiohttp.http_exceptions import HttpProcessingError

    def is_ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    logger = logging.Logger("yolo_slim.camera.page")
    logger.parent = logging.getLogger()
    logger.addFilter(is_ours)
    return logger


def _require_aiohttp() -> None:
    remedy = "Install it: pip install 'aiohttp>={}.{}' (or start with --no-page).".format(*LEAST_AIOHTTP)
    try:
        import aiohttp
    except ImportError as error:
        raise SlimError(
            "The page needs aiohttp, which isn't installed on this machine.",
            remedy=remedy,
            topic="the-page-needs-aiohttp",
        ) from error
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:2])
    if version < LEAST_AIOHTTP:
        raise SlimError(f"The page needs a newer aiohttp than {aiohttp.__version__}.", remedy=remedy)
