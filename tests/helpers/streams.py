"""Servers of streams on this machine: MJPEG over HTTP, one that answers with given bytes, and a real RTSP server."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")
_CAN_SERVE = """
import gi
for name in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert Gst.ElementFactory.find("x264enc") and Gst.ElementFactory.find("rtph264pay")
"""


class MjpegHandler(BaseHTTPRequestHandler):
    """``/mjpg`` streams, ``/three`` stalls after three frames, ``/silent`` sends nothing, ``/auth`` wants joe, hush."""

    def do_GET(self) -> None:
        """Answer by path."""
        wanted = "Basic " + base64.b64encode(b"joe:hush").decode()
        if self.path == "/auth" and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="cam"')
            self.end_headers()
            return
        if self.path == "/broken":
            self.send_error(503)
            return
        if self.path not in ("/mjpg", "/three", "/silent", "/auth", "/text"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            self._send_body()
        except OSError:  # the client went away
            return

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _send_body(self) -> None:
        if self.path == "/text":
            self.wfile.write(b"no pictures here\n" * 1000)
            return
        for number in range({"/three": 3, "/silent": 0}.get(self.path, 10_000)):
            jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number % 12 * 20, np.uint8))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            self.wfile.write(head + jpeg + b"\r\n")
            time.sleep(0.02)
        time.sleep(20)


@contextmanager
def mjpeg_server(certificate: Path | None = None) -> Iterator[int]:
    """Serve on a free port; with a certificate over TLS."""
    with serving(MjpegHandler, certificate) as port:
        yield port


@contextmanager
def serving(handler: Any, certificate: Path | None = None) -> Iterator[int]:
    """Serve by any handler on a free port; with a certificate over TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake belongs to the connection's own thread: a client that says nothing mustn't hold up the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def self_signed(folder: Path) -> Path:
    """A certificate that nobody vouches for, with its key in the same file; skips where openssl isn't installed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine (Debian: apt install openssl)")
    path = folder / "camera.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=camera", "-days", "2"]
    subprocess.run([*made, "-keyout", path, "-out", folder / "only.pem"], check=True, capture_output=True, timeout=120)
    path.write_bytes(path.read_bytes() + (folder / "only.pem").read_bytes())
    return path


@contextmanager
def raw_server(*answers: bytes | None) -> Iterator[int]:
    """Answer each connection's first bytes with the next of ``answers``, the last again and again; None: never.

    A connection that sends nothing takes no answer.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_answer_all, args=(listener, list(answers)), daemon=True).start()
    with listener:
        yield int(listener.getsockname()[1])


def _answer_all(listener: socket.socket, answers: list[bytes | None]) -> None:
    silent = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed
            return
        if not connection.recv(4096):
            connection.close()
            continue
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            silent.append(connection)
            continue
        with connection:
            connection.sendall(answer)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def why_no_rtsp() -> str:
    """Why this machine can't run the real RTSP server; empty: it can."""
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", _CAN_SERVE], capture_output=True, timeout=20, check=False)
    except OSError:
        return f"no {SYSTEM_PYTHON}"
    needs = "python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-base, -good and -ugly"
    return f"needs Debian's {needs}" if done.returncode else ""


@contextmanager
def rtsp_server(port: int, *account: str) -> Iterator[subprocess.Popen[str]]:
    """Run a real RTSP server; see :mod:`tests.helpers.rtsp_server`."""
    command = [SYSTEM_PYTHON, str(RTSP_SERVER), str(port), *account]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def lag_s(image: Any) -> float:
    """How old a frame of the RTSP server is: the time since the one that its bars show."""
    bars = image[:, :, 1].mean(axis=0).reshape(32, -1)[:, 3:7].mean(axis=1) > 128
    shown = int("".join("1" if bar else "0" for bar in bars), 2)
    return time.monotonic() - shown / 1000
