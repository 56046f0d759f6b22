"""How the page's server runs, and what it asks of the rest of the camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yolo_slim.runtime.camera.page_commands import CameraCommand


def _nothing() -> Mapping[str, object]:
    return {}


def _ignore(_: CameraCommand) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What the server calls. All but ``about`` and ``stats``, which must be quick, run in a thread of their own."""

    about: Callable[[], Mapping[str, object]] = _nothing
    """Of the camera: source, bundles, names (class id to name), conf, classes, paused, zones."""
    stats: Callable[[], Mapping[str, object]] = _nothing
    """The last minute, as :class:`LiveStats` gives it; ``counts``: name of a line or zone to its counts."""
    command: Callable[[CameraCommand], None] = _ignore
    """Carry out a command of the page; a SlimError refuses it, and the page shows its text."""
    metrics: Callable[[], str] | None = None
    """The text for Prometheus."""
    clip: Callable[[], Path] | None = None
    """Write the last seconds as a video and say where."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server bears."""

    viewers: int = 32
    sockets: int = 128
    message_bytes: int = 262_144
    """Of a WebSocket message and of a request's body: as many lines and zones as a layout may have need 210 kB."""
    header_s: float = 10.0
    """For a connection's first request, for a request's body, and between two requests."""
    send_s: float = 20.0
    """A viewer that takes no byte for so long is gone."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where the page is served, and for whom."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any free one."""
    token: str = ""
    """Empty: none on loopback; elsewhere one is made."""
    stale_s: float = 3.0
    """/health is 200 while the newest frame is younger."""
    limits: Limits = field(default_factory=Limits)
    callbacks: Callbacks = field(default_factory=Callbacks)
