"""The viewers of the page: each gets the newest frame when it is ready for one, and skips the others."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from yolo_slim.runtime.camera.hub import Hub, Newest, Picture

if TYPE_CHECKING:
    from aiohttp import web

IN_FLIGHT = 2
"""Pictures that are sent to the page before it says that it has drawn one: one on its way, one being drawn."""
BOUNDARY = "frame"
_HEAD = struct.Struct("<fI")
"""Before the JSON of a binary message: age of the frame in milliseconds, length of the JSON in bytes."""
T = TypeVar("T")


class Viewer:
    """One open connection that shows the camera."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._wake = asyncio.Event()
        self._watching = ExitStack()
        self._notes: dict[str, str] = {}
        self._sent = -1
        self._unseen = 0
        self.variant: str | None = None
        """Of the pictures it gets; None: only what was found."""

    def watch(self, variant: str | None) -> None:
        """Choose its pictures."""
        self.close()
        if variant is not None:
            self._watching.enter_context(self._hub.watching(variant))
        self.variant, self._sent, self._unseen = variant, -1, 0
        self.wake()

    def close(self) -> None:
        """Watch nothing."""
        self._watching.close()

    def seen(self) -> None:
        """One of the pictures was drawn."""
        self._unseen = max(0, self._unseen - 1)
        self.wake()

    def note(self, kind: str, text: str) -> None:
        """Have a text sent; a newer one of its kind takes the place of one that wasn't sent yet."""
        self._notes[kind] = text
        self.wake()

    def wake(self) -> None:
        """Look for something to send."""
        self._wake.set()

    async def wait(self) -> None:
        """Wait until there may be something to send."""
        await self._wake.wait()
        self._wake.clear()

    def texts(self) -> list[str]:
        """Take the texts to send."""
        texts, self._notes = list(self._notes.values()), {}
        return texts

    def next_picture(self) -> Picture | None:
        """Take the newest picture, if this viewer is ready for one and hasn't had it."""
        picture = self._hub.ready(self.variant) if self.variant is not None else None
        if picture is None or picture.sequence <= self._sent or self._unseen >= IN_FLIGHT:
            return None
        self._sent, self._unseen = picture.sequence, self._unseen + 1
        return picture

    def next_details(self) -> Newest | None:
        """Take what was found in the newest frame, if this viewer gets no pictures and hasn't had it."""
        newest = self._hub.newest if self.variant is None else None
        if newest is None or newest.sequence <= self._sent:
            return None
        self._sent = newest.sequence
        return newest


class Viewers:
    """All viewers of one server."""

    def __init__(self, hub: Hub, most: int) -> None:
        self._hub = hub
        self._most = most
        self._all: set[Viewer] = set()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def is_full(self) -> bool:
        """Whether no other viewer may come."""
        return len(self._all) >= self._most

    @contextmanager
    def one_more(self) -> Iterator[Viewer]:
        """A viewer that counts while the block runs."""
        viewer = Viewer(self._hub)
        self._all.add(viewer)
        try:
            yield viewer
        finally:
            self._all.discard(viewer)
            viewer.close()

    def wake(self) -> None:
        """A new frame is there."""
        for viewer in self._all:
            viewer.wake()

    def note(self, kind: str, text: str) -> None:
        """Have a text sent to all."""
        for viewer in self._all:
            viewer.note(kind, text)


async def send_to_page(socket: web.WebSocketResponse, viewer: Viewer, send_s: float) -> None:
    """Send texts, pictures or what was found until the connection ends.

    Raises:
        TimeoutError, ConnectionError: the other end takes nothing, or is gone.
    """
    while not socket.closed:
        await viewer.wait()
        for text in viewer.texts():
            await _within(socket.send_str(text), send_s)
        picture, newest = viewer.next_picture(), viewer.next_details()
        if picture is not None:
            await _within(socket.send_bytes(packed(picture)), send_s)
        if newest is not None:
            text = json.dumps({"age_ms": round(_age_ms(newest), 1)})[:-1] + ", " + newest.details[1:]
            await _within(socket.send_str(text), send_s)


async def send_parts(response: web.StreamResponse, viewer: Viewer, send_s: float) -> None:
    """Send JPEGs as parts of a multipart answer; the connection's buffers alone hold a slow viewer back."""
    while True:
        picture = viewer.next_picture()
        if picture is None:
            await viewer.wait()
            continue
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
        await _within(response.write(head.encode() + picture.jpeg + b"\r\n"), send_s)
        viewer.seen()


def packed(picture: Picture) -> bytes:
    """A binary message: float32 age in ms, uint32 length, the JSON, the JPEG; little endian."""
    details = picture.details.encode()
    return _HEAD.pack(_age_ms(picture), len(details)) + details + picture.jpeg


def _age_ms(shown: Picture | Newest) -> float:
    return (time.monotonic() - shown.captured_s) * 1e3


async def _within(sending: Awaitable[T], send_s: float) -> T:
    return await asyncio.wait_for(sending, send_s)
