"""HLS from a server on this machine, live and recorded, and streams over TLS."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.streams import MjpegHandler, mjpeg_server, self_signed, serving
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Source
from yolo_slim.runtime.camera.sources import SourceOptions, open_source, parse_source
from yolo_slim.runtime.camera.sources.address import parse_address
from yolo_slim.runtime.camera.sources.hls import Pace, is_hls
from yolo_slim.runtime.camera.sources.stream import VARIABLE

BITS, RATE, FRAMES = 8, 25, 250
OPTIONS = SourceOptions(open_limit_s=30, read_limit_s=30)


def numbered(number: int) -> np.ndarray:
    """A frame that shows its number as black and white bars, the highest bit first."""
    bars = [255 * (number >> shift & 1) for shift in range(BITS - 1, -1, -1)]
    return np.repeat(np.repeat(np.array(bars, np.uint8), 16)[None, :, None], 64, 0).repeat(3, 2)


def number_of(image: np.ndarray) -> int:
    """The number that a frame shows."""
    bars = image[:, :, 1].mean(axis=0).reshape(BITS, -1)[:, 4:12].mean(axis=1) > 128
    return int("".join("1" if bar else "0" for bar in bars), 2)


@pytest.fixture(scope="module")
def playlist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of ten seconds in files of about two, written by OpenCV's own FFmpeg."""
    path = tmp_path_factory.mktemp("hls") / "cam.m3u8"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mpg2"), RATE, (16 * BITS, 64))
    for number in range(FRAMES):
        writer.write(numbered(number))
    writer.release()
    if len(list(path.parent.glob("*.ts"))) < 4:
        pytest.skip("this OpenCV writes no HLS")
    return path


class Files(SimpleHTTPRequestHandler):
    """Serves a folder; of ``/live.m3u8`` the last three files that would be there if it were recorded now."""

    began_s = 0.0

    def do_GET(self) -> None:
        """Answer by path."""
        if not self.path.startswith("/live.m3u8"):
            super().do_GET()
            return
        text = self.live((Path(self.directory) / "cam.m3u8").read_text()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def live(self, whole: str) -> str:
        """The playlist of the moment: three files are there at the beginning, and one more every two seconds."""
        files = re.findall(r"(#EXTINF:.*\n.*\.ts)", whole)
        newest = min(3 + int((time.monotonic() - self.began_s) / 2), len(files))
        head = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:{newest - 3}\n"
        return head + "\n".join(files[newest - 3 : newest]) + "\n"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(playlist: Path) -> Iterator[str]:
    """The server's address; live streams begin now."""
    Files.began_s = time.monotonic()
    with serving(functools.partial(Files, directory=str(playlist.parent))) as port:
        yield f"http://127.0.0.1:{port}"


def opened(url: str) -> Source:
    """Parse and open a stream."""
    return open_source(parse_source(url, OPTIONS))


def steps(read: Any, count: int) -> list[int]:
    """By how much the frames' numbers grow, over so many frames."""
    numbers = [number_of(read()) for _ in range(count)]
    return np.diff(numbers).tolist()


def test_live_hls_is_shown_at_its_own_pace(server: str) -> None:
    """One frame follows the other, though they arrive in files of 48."""
    source = opened(f"{server}/live.m3u8?key=1")
    found = steps(source.read, 40)
    source.close()
    assert source.is_live
    assert all(step > 0 for step in found)
    assert median(found) < 12


def test_frames_would_come_in_bursts(server: str) -> None:
    """Negative control: OpenCV alone has all three files at once."""
    plain = cv2.VideoCapture(f"{server}/live.m3u8", cv2.CAP_FFMPEG)
    began_s = time.monotonic()
    while plain.grab() and time.monotonic() - began_s < 1:
        pass
    times_s = plain.get(cv2.CAP_PROP_POS_MSEC) / 1000
    plain.release()
    assert times_s > 3


def test_recorded_hls_is_a_recording(server: str) -> None:
    """It has an end, and is played at its rate."""
    source = opened(f"{server}/cam.m3u8")
    numbers = [number_of(source.read()) for _ in range(5)]
    source.close()
    assert not source.is_live
    assert numbers == sorted(numbers)


def test_pace() -> None:
    """Late frames aren't waited for; what jumps begins a new timeline, and is paced from there."""
    now = [100.0]
    pace = Pace(clock=lambda: now[0])
    assert [pace.wait_s(at_s) for at_s in (7.0, 7.5, 8.0)] == [0.0, 0.5, 1.0]
    now[0] = 103.0
    assert [pace.wait_s(at_s) for at_s in (8.5, 11.0)] == [0.0, 1.0]
    assert [pace.wait_s(at_s) for at_s in (0.0, 1.0)] == [0.0, 1.0]
    assert [pace.wait_s(at_s) for at_s in (60.0, 60.5)] == [0.0, 0.5]
    now[0] = 200.0
    assert [pace.wait_s(at_s) for at_s in (61.0, 62.0)] == [0.0, 1.0]


def test_playlists_are_known_by_their_path() -> None:
    """Whatever the case and the query; anything else is read as it comes."""
    assert is_hls(parse_address("https://h/a/Live.M3U8?token=x"))
    assert not is_hls(parse_address("http://h/mjpg?x=.m3u8"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera's own certificate."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_mjpeg_over_tls(certificate: Path) -> None:
    """A certificate that the camera signed itself is accepted; a wrong password is still said as what it is."""
    with mjpeg_server(certificate) as port:
        source = opened(f"https://joe:hush@127.0.0.1:{port}/auth")
        assert source.read().shape == (48, 64, 3)
        source.close()
        with pytest.raises(SlimError, match=r"refuses user 'joe' with this password \(401\)"):
            opened(f"https://joe:wrong@127.0.0.1:{port}/auth")


def test_certificate_is_checked_on_request(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's own options ask for it: then an unknown certificate is refused, and a known one is accepted."""
    with serving(MjpegHandler, certificate) as port:
        monkeypatch.setenv(VARIABLE, "tls_verify;1")
        with pytest.raises(SlimError, match=f"{VARIABLE} is set: without it"):
            opened(f"https://127.0.0.1:{port}/mjpg")
        monkeypatch.setenv(VARIABLE, "")
        opened(f"https://127.0.0.1:{port}/mjpg").close()


def test_hls_over_tls(certificate: Path, playlist: Path) -> None:
    """The playlist and its files."""
    with serving(functools.partial(Files, directory=str(playlist.parent)), certificate) as port:
        source = opened(f"https://127.0.0.1:{port}/cam.m3u8")
        assert number_of(source.read()) < FRAMES
        source.close()
