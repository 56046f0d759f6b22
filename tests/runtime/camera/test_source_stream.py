"""Streams from real servers on this machine: frames, lag, and what is said where there are none."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.streams import free_port, lag_s, mjpeg_server, raw_server, rtsp_server, why_no_rtsp
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Source, SourceLost
from yolo_slim.runtime.camera.sources import SourceOptions, open_source, parse_source, stream
from yolo_slim.runtime.camera.sources.stream import VARIABLE

QUICK = SourceOptions(open_limit_s=1, read_limit_s=0.5)
"""For servers that give nothing: the limits pass."""
PATIENT = SourceOptions(open_limit_s=30, read_limit_s=30)
UNAUTHORIZED = b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm="cam", nonce="1"\r\n\r\n'


@pytest.fixture(scope="module")
def http() -> Iterator[int]:
    """Serve MJPEG; the port."""
    with mjpeg_server() as port:
        yield port


@pytest.fixture(scope="module")
def can_serve_rtsp() -> None:
    """Skip where the real RTSP server can't run."""
    if reason := why_no_rtsp():
        pytest.skip(reason)


def opened(url: str, options: SourceOptions = PATIENT) -> Source:
    """Parse and open a stream."""
    return open_source(parse_source(url, options))


def read_on(source: Source) -> None:
    """Read until there is nothing more."""
    while source.read() is not None:
        pass


def read_until_lost(source: Source) -> None:
    """Read until the source says that it is lost, in bounded time."""
    started_s = time.monotonic()
    with pytest.raises(SourceLost):
        read_on(source)
    assert time.monotonic() - started_s < 60
    source.close()


def test_mjpeg(http: int) -> None:
    """An MJPEG stream gives its newest frame; with user and password too; the environment is as before."""
    for url in (f"http://127.0.0.1:{http}/mjpg", f"http://joe:hush@127.0.0.1:{http}/auth"):
        source = opened(url)
        assert (source.read().shape, source.is_live) == ((48, 64, 3), True)
        first, second = source.read(), source.read()
        assert not np.array_equal(first, second)
        source.close()
    assert VARIABLE not in os.environ
    assert source.name.endswith("//joe:***@127.0.0.1:" + f"{http}/auth")


def test_opening_again_and_again(http: int) -> None:
    """Sources that are closed leave no thread and no open file behind."""
    before = sockets()
    for _ in range(6):
        opened(f"http://127.0.0.1:{http}/mjpg").close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera ")]
    ends_s = time.monotonic() + 5
    while sockets() > before and time.monotonic() < ends_s:  # the server's own ends, until it notices
        time.sleep(0.05)
    assert sockets() <= before


def sockets() -> int:
    """Count this process's open connections."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count


@pytest.mark.parametrize(("width", "height", "threads"), [(1920, 1080, [1]), (3840, 2160, [1, 5])])
def test_decoding_threads(
    http: int, monkeypatch: pytest.MonkeyPatch, width: int, height: int, threads: list[int]
) -> None:
    """One thread decodes, because each further one adds a frame of lag; a picture too large for one takes all cores."""
    asked: list[int] = []

    class Large:
        def __init__(self, url: str, backend: int, parameters: list[int]) -> None:
            asked.append(parameters[parameters.index(cv2.CAP_PROP_N_THREADS) + 1])
            self.sizes = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height}

        def get(self, key: int) -> int:
            return self.sizes.get(key, 0)

        def isOpened(self) -> bool:
            return True

        def read(self) -> tuple[bool, np.ndarray]:
            return True, np.zeros((2, 2, 3), np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Large)
    monkeypatch.setattr(stream, "cores", lambda: 5)
    opened(f"http://127.0.0.1:{http}/mjpg").close()
    assert asked == threads


def test_users_own_ffmpeg_options(http: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options for FFmpeg that the user set stay set."""
    monkeypatch.setenv(VARIABLE, "rtsp_transport;udp")
    opened(f"http://127.0.0.1:{http}/mjpg").close()
    assert os.environ[VARIABLE] == "rtsp_transport;udp"


def test_stream_that_stalls(http: int) -> None:
    """A server that sends nothing more is a lost source after the time limit, not a program that hangs."""
    source = opened(f"http://127.0.0.1:{http}/three", replace(QUICK, open_limit_s=30))
    with pytest.raises(SourceLost, match=r"gave no frame for 0\.5 s"):
        read_on(source)
    source.close()


def test_recording(tmp_path: Path) -> None:
    """A video file on a server is played at its own rate to its end, which is none of a lost camera."""
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 50, (64, 48))
    for number in range(10):
        writer.write(np.full((48, 64, 3), number * 20, np.uint8))
    writer.release()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = opened(f"http://127.0.0.1:{server.server_address[1]}/a.mp4")
        count = 0
        while source.read() is not None:
            count += 1
        server.shutdown()
    assert not source.is_live
    assert 0 < count <= 10


@pytest.mark.parametrize(
    ("path", "says", "passes"),
    [
        ("joe:wrong@/auth", r"refuses user 'joe' with this password \(401\)", False),
        ("/auth", r"wants a user and a password \(401\)", False),
        ("/none", r"has no such stream \(404\)", True),
        ("/broken", r"answers with error 503", True),
        ("joe:hush@/silent", "gives no video that can be read within 1 s|gave no frame for 1 s", True),
        ("joe:hush@/text", "gives no video|gives no more frames", True),
    ],
)
def test_http_problems(http: int, path: str, says: str, passes: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Each problem is said as what it is, and whether trying again may help; no password is printed."""
    account, at, place = path.rpartition("@")
    with pytest.raises(SlimError, match=says) as caught:
        opened(f"http://{account}{at}127.0.0.1:{http}{place}", QUICK)
    assert isinstance(caught.value, SourceLost) == passes
    shown = str(caught.value) + "".join(capfd.readouterr())
    assert not {"hush", "wrong"} & set(shown.replace(":", " ").replace("@", " ").split())


@pytest.mark.parametrize(
    ("answers", "says", "passes"),
    [
        ((None,), "gave no answer within 1 s", True),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "answers, but not in RTSP", False),
        ((os.urandom(3000),), "answers, but not in RTSP", False),
        ((b"",), "closed without an answer", True),
        ((UNAUTHORIZED,), "refuses user 'joe'", False),
        ((b"RTSP/1.0 404 Not Found\r\n\r\n",), r"no such stream \(404\)", True),
        ((b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nno stream",), "gives no video", True),
        ((None, b"RTSP/1.0 200 OK\r\n\r\n"), "gives no video that can be read within 1 s", True),
    ],
)
def test_rtsp_problems(answers: tuple[bytes | None, ...], says: str, passes: bool) -> None:
    """The same for RTSP, in bounded time."""
    started_s = time.monotonic()
    with raw_server(*answers) as port, pytest.raises(SlimError, match=says) as caught:
        opened(f"rtsp://joe:hush@127.0.0.1:{port}/cam", QUICK)
    assert isinstance(caught.value, SourceLost) == passes
    assert "hush" not in str(caught.value)
    assert time.monotonic() - started_s < 60


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_nothing_listens(scheme: str) -> None:
    """A port without a server, and a name without a machine."""
    with pytest.raises(SourceLost, match="refuses the connection"):
        opened(f"{scheme}://127.0.0.1:{free_port()}/cam")
    with pytest.raises(SourceLost, match=r"No machine is called nobody\.invalid"):
        opened(f"{scheme}://nobody.invalid/cam")


def test_other_protocols() -> None:
    """A server that speaks no TLS, or no HTTP."""
    with raw_server(b"hello\r\n") as port:
        for scheme, says in (("rtsps", "doesn't speak TLS"), ("https", "doesn't speak TLS"), ("http", "not in HTTP")):
            with pytest.raises(SlimError, match=says):
                opened(f"{scheme}://127.0.0.1:{port}/cam")


def test_rtsp_lag_does_not_grow(can_serve_rtsp: None) -> None:
    """After 3 s of other work the newest frame is taken. Negative control: OpenCV alone gives the oldest."""
    with rtsp_server(port := free_port()):
        url = f"rtsp://127.0.0.1:{port}/cam"
        source = opened(url)
        plain = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
        while lag_s(plain.read()[1]) > 0.5:  # what came while it was opened
            pass
        time.sleep(3)
        newest, oldest = lag_s(source.read()), lag_s(plain.read()[1])
        plain.release()
        source.close()
    assert oldest > 2.5
    assert newest < oldest - 1


def test_rtsp_password(can_serve_rtsp: None) -> None:
    """A digest password with special characters opens the stream, encoded or not; a wrong one and none are refused."""
    with rtsp_server(port := free_port(), "joe", "hu@sh/1"):
        for password in ("hu%40sh%2F1", "hu@sh%2F1"):
            source = opened(f"rtsp://joe:{password}@127.0.0.1:{port}/cam")
            assert source.read().shape == (240, 320, 3)
            source.close()
        for account in ("joe:wrong@", ""):
            with pytest.raises(SlimError, match="401"):
                opened(f"rtsp://{account}127.0.0.1:{port}/cam")


def test_rtsp_server_away_and_back(can_serve_rtsp: None) -> None:
    """A server that hangs, and one that is gone, are a lost source; when it is back, the source opens again."""
    port = free_port()
    options = replace(QUICK, open_limit_s=30)
    spec = parse_source(f"rtsp://127.0.0.1:{port}/cam", options)
    with rtsp_server(port) as server:
        source = open_source(spec)
        server.send_signal(signal.SIGSTOP)
        read_until_lost(source)
    with pytest.raises(SourceLost, match="refuses the connection"):
        open_source(spec)
    with rtsp_server(port) as server:
        source = open_source(spec)
        server.kill()
        read_until_lost(source)
