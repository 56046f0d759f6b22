"""Accepts connections one by one, so that neither many sockets nor silent ones keep the page from its viewers."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from yolo_slim.runtime.camera.server_settings import Limits

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_SEND_BUFFER = 128 * 1024
"""Bytes that the kernel keeps for one viewer. By default it keeps megabytes: seconds of old pictures."""
_PAUSE_S = 0.1
_REFUSING = 64


class Connections:
    """The open connections of one server: which have asked for something, and which only hold a place."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        self._server = server
        self._limits = limits
        self._silent: dict[object, asyncio.TimerHandle] = {}
        self._refusing: set[asyncio.Task[None]] = set()

    def asked(self, protocol: object) -> None:
        """Note that a connection sent a request that is answered: it keeps its place."""
        timer = self._silent.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    async def accept_all(self, listener: socket.socket) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no file descriptor is left
                await asyncio.sleep(_PAUSE_S)
                continue
            try:
                await self._accept(connection)
            except OSError:  # the other end is gone already
                connection.close()

    async def _accept(self, connection: socket.socket) -> None:
        if self._open() >= self._limits.sockets and not self._drop_silent():
            self._refuse(connection)
            return
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        _, protocol = await loop.connect_accepted_socket(self._server, connection)
        # Without it, aiohttp waits forever for the first request of a connection.
        self._silent[protocol] = loop.call_later(self._limits.header_s, self._drop, protocol)

    def _open(self) -> int:
        return sum(one.transport is not None for one in self._server.connections)

    def _drop_silent(self) -> bool:
        """Close the connection that is silent for longest; false where every one has asked for something."""
        return any(self._drop(protocol) for protocol in list(self._silent))

    def _drop(self, protocol: object) -> bool:
        """Close a connection; false where the other end has closed it already."""
        self.asked(protocol)
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            transport.abort()
        return transport is not None

    def _refuse(self, connection: socket.socket) -> None:
        """Say that the server is full, beside the others; where too many are told so already, just close."""
        if len(self._refusing) >= _REFUSING:
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(_say_full(connection))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)


async def _say_full(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    try:
        # Closing with an unread request would reset the connection, and the answer would be lost.
        await asyncio.wait_for(loop.sock_recv(connection, 4096), 1.0)
        await loop.sock_sendall(connection, _FULL)
    except (OSError, asyncio.TimeoutError):
        pass
    finally:
        connection.close()
