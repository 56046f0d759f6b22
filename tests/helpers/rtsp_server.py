"""A real RTSP server with a camera whose picture is the time: ``/usr/bin/python3 rtsp_server.py PORT [USER PASSWORD]``.

It runs on the system's Python, which alone has GStreamer's bindings (Debian: python3-gi, gir1.2-gst-rtsp-server-1.0).
The stream is ``/cam``, H.264, 320 x 240 at 25 FPS; it says ``ready`` when it serves. Every frame has 32 bars, white
for 1 and black for 0: ``time.monotonic()`` in milliseconds, the highest bit first.
"""

from __future__ import annotations

import importlib
import sys
import time
from types import SimpleNamespace
from typing import Any

WIDTH, HEIGHT, RATE, BITS = 320, 240, 25, 32
LAUNCH = (
    f"( appsrc name=clock is-live=true format=time do-timestamp=true caps=video/x-raw,format=I420,width={WIDTH},"
    f"height={HEIGHT},framerate={RATE}/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={RATE} "
    "! rtph264pay name=pay0 pt=96 )"
)


def clock_frame(milliseconds: int) -> bytes:
    """One I420 frame that shows a time."""
    bits = [milliseconds >> shift & 1 for shift in range(BITS - 1, -1, -1)]
    row = b"".join((b"\xeb" if bit else b"\x10") * (WIDTH // BITS) for bit in bits)
    return row * HEIGHT + b"\x80" * (WIDTH * HEIGHT // 2)


def main(port: str, *account: str) -> None:
    """Serve until the process is ended."""
    gi = importlib.import_module("gi")
    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    names = ("GLib", "Gst", "GstRtsp", "GstRtspServer")
    library = SimpleNamespace(**{name: importlib.import_module(f"gi.repository.{name}") for name in names})
    library.Gst.init(None)
    server = library.GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = library.GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    factory.connect("media-configure", lambda _, media: _feed(library, media))
    server.get_mount_points().add_factory("/cam", factory)
    if account:
        _protect(library.GstRtspServer, library.GstRtsp, server, factory, *account)
    server.attach(None)
    print("ready", flush=True)
    library.GLib.MainLoop().run()


def _feed(library: Any, media: Any) -> None:
    clock = media.get_element().get_by_name("clock")

    def push() -> bool:
        frame = clock_frame(round(time.monotonic() * 1000))
        return bool(clock.emit("push-buffer", library.Gst.Buffer.new_wrapped(frame)) == library.Gst.FlowReturn.OK)

    library.GLib.timeout_add(1000 // RATE, push)


def _protect(rtsp_server: Any, rtsp: Any, server: Any, factory: Any, user: str, password: str) -> None:
    """Ask for a password (digest)."""
    token = rtsp_server.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth = rtsp_server.RTSPAuth()
    auth.set_supported_methods(rtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = rtsp_server.RTSPPermissions()
    for right in ("access", "construct"):
        permissions.add_permission_for_role("user", f"media.factory.{right}", True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    main(*sys.argv[1:])
