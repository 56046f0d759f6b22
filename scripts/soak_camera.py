"""Run the camera command for a long time on a stream that breaks and stalls, and watch what its process uses.

    python scripts/soak_camera.py BUNDLE --minutes 60 --out docs/benchmarks/records/camera_soak.json

The real command in a process of its own, with tracking, lines, zones, JSON lines, clips and a page that one viewer
watches. Its source is an MJPEG stream on loopback that gives more frames than the camera takes; in turns it is cut off
and sends nothing for some seconds. Asked several times a second: memory, open files, threads, and whether the camera
calls itself live while its newest frame is older than it may be.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import cv2

from yolo_slim.bundle import open_bundle
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, describe_machine
from yolo_slim.runtime.camera.sources import SourceOptions, open_source, parse_source
from yolo_slim.runtime.camera.stats import WINDOW_S
from yolo_slim.runtime.camera.status import STALE_AFTER_S, STALE_INTERVALS
from yolo_slim.runtime.load import load_since, start
from yolo_slim.runtime.selfcheck import FOLDER as SELFCHECK

EVERY_S = 0.5
LATE_S = 1.0
"""A busy machine may notice so much later that a frame is old."""
SETTLED_S = WINDOW_S + 10
"""Growth counts from here on: the figures keep a minute of events, which fills up first."""
LAYOUT = {
    "schema": 1,
    "lines": [{"name": "middle", "start": [0.5, 0.0], "end": [0.5, 1.0]}],
    "zones": [{"name": "left", "points": [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]}],
}


@dataclass(kw_only=True)
class Stream:
    """What the source does."""

    rate: float = 200.0
    """Frames per second."""
    calm_s: float = 50.0
    """Seconds between two events."""
    stall_s: float = 3.5
    """Length of a stall: less than the camera's own limit for a frame, so that it is stale and not lost."""
    pictures: list[bytes]
    """JPEGs that are sent in turns."""
    breaks: int = 0
    stalls: int = 0

    def send(self, out: Any) -> None:
        """Send pictures to one client until it is cut off."""
        next_s = time.monotonic() + self.calm_s
        for number in count():
            picture = self.pictures[number % len(self.pictures)]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            out.write(head.encode() + picture + b"\r\n")
            time.sleep(1 / self.rate)
            if time.monotonic() >= next_s:
                if self.stalls > self.breaks:
                    self.breaks += 1
                    return
                self.stalls += 1
                time.sleep(self.stall_s)
                next_s = time.monotonic() + self.calm_s


def moving(bundle: Path, frames: int = 450, size: tuple[int, int] = (320, 240)) -> list[bytes]:
    """JPEGs of the scene in which the bundle's own self-check images move."""
    folder = open_bundle(bundle).folder / SELFCHECK
    scene = open_source(parse_source("scene", SourceOptions(size=size, rate=30, paced=False, pictures=folder)))
    images = [scene.read() for _ in range(frames)]
    scene.close()
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in images if image is not None]


@contextmanager
def served(stream: Stream) -> Iterator[str]:
    """Serve a stream on loopback; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the camera went away
                stream.send(self.wfile)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def camera(bundle: Path, url: str, folder: Path, *more: str) -> Iterator[tuple[int, str]]:
    """Run the command with everything on; its process id and the page's address."""
    (folder / "zones.json").write_text(json.dumps(LAYOUT))
    outputs = ["--jsonl", str(folder / "found.jsonl"), "--rotate-mb", "1", "--zones", str(folder / "zones.json")]
    clips = ["--clips", str(folder / "clips"), "--clip-seconds", "4", "--clip-budget-mb", "20", "--clip-on", "0"]
    command = [sys.executable, "-m", "yolo_slim.runtime", "camera", str(bundle), "--source", url, "--port", "0"]
    command += ["--track", *outputs, *clips, *more]
    with (folder / "said.txt").open("w+") as said, subprocess.Popen(command, stderr=said, stdout=said) as process:
        try:
            while not (found := re.search(r"Page: (\S+)/", (folder / "said.txt").read_text())):
                if process.poll() is not None:
                    raise RuntimeError((folder / "said.txt").read_text())
                time.sleep(0.1)
            yield process.pid, found[1]
        finally:
            process.terminate()


@contextmanager
def viewer(link: str) -> Iterator[None]:
    """Watch the page's video without looking at it."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            with suppress(OSError, HTTPException), urllib.request.urlopen(f"{link}/video.mjpg", timeout=30) as answer:
                while not ended.is_set() and answer.read(65536):
                    pass

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the camera's process uses at one moment, and what it says of itself."""

    at_s: float
    rss_mb: float
    files: int
    threads: int
    state: str
    freshness: str
    age_s: float | None
    fps: float
    """Of the last minute."""

    @property
    def is_wrong(self) -> bool:
        """Whether an old frame is called live: by the camera's own limit, or by what its frame rate makes of it."""
        limit_s = max(STALE_AFTER_S, STALE_INTERVALS / max(self.fps, 0.1)) + LATE_S
        is_old = self.freshness != "live" or (self.age_s is not None and self.age_s > limit_s)
        return self.state == "live" and is_old


def usage(process: int, stats: JsonObject, at_s: float) -> Usage:
    """Look at a process."""
    proc = Path(f"/proc/{process}")
    found = re.search(r"VmRSS:\s+(\d+) kB", (proc / "status").read_text())
    return Usage(
        at_s=round(at_s, 2), rss_mb=int(found[1]) / 1024 if found else 0.0, files=len([*(proc / "fd").iterdir()]),
        threads=len([*(proc / "task").iterdir()]), state=stats["state"],
        freshness=stats["freshness"], age_s=stats["age_s"], fps=round(stats["fps"], 2),
    )  # fmt: skip


def soak(bundle: Path, stream: Stream, seconds: float, *more: str) -> tuple[list[Usage], JsonObject]:
    """Run the camera for some seconds; what its process used meanwhile, and its last figures."""
    seen: list[Usage] = []
    stats: JsonObject = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        served(stream) as url,
        camera(bundle, url, Path(folder), *more) as (process, link),
        viewer(link),
    ):
        begin = time.monotonic()
        while (at_s := time.monotonic() - begin) < seconds:
            with urllib.request.urlopen(f"{link}/api/stats", timeout=30) as answer:
                stats = json.loads(answer.read())
            seen.append(usage(process, stats, at_s))
            time.sleep(EVERY_S)
    return seen, stats


def growth(seen: Sequence[Usage], settled_s: float = SETTLED_S) -> dict[str, float]:
    """How much memory, files and threads grew after the run had settled: medians of its first and last tenth."""
    settled = [one for one in seen if one.at_s >= min(settled_s, seen[-1].at_s / 2) and one.state == "live"]
    tenth = max(len(settled) // 10, 1)

    def grown(key: str) -> float:
        first, last = settled[:tenth], settled[-tenth:]
        return median(getattr(one, key) for one in last) - median(getattr(one, key) for one in first)

    return {key: round(grown(key), 2) for key in ("rss_mb", "files", "threads")}


def old_called_live(seen: Sequence[Usage]) -> list[Usage]:
    """When an old frame was called live twice in a row: a source that just came back has a moment to show one."""
    return [other for one, other in pairwise(seen) if one.is_wrong and other.is_wrong]


def main() -> None:
    """Run, print what grew, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec, stream, begin = (
        open_bundle(options.bundle).spec,
        Stream(pictures=moving(options.bundle)),
        start(with_reference=False),
    )
    seen, stats = soak(options.bundle, stream, 60 * options.minutes, "--threads", str(options.threads))
    found = {
        "growth": growth(seen), "most": {key: max(getattr(one, key) for one in seen) for key in ("files", "threads")},
        "old_called_live": [asdict(one) for one in old_called_live(seen)], "asked": len(seen), "breaks": stream.breaks,
        "stalls": stream.stalls, "asked_stale": sum(one.state == "stale" for one in seen), "stats": stats,
    }  # fmt: skip
    print(json.dumps(found, indent=2))
    if options.out:
        bundle = {"name": spec.name, "runtime": spec.runtime, "precision": spec.precision, "imgsz": list(spec.imgsz)}
        facts = {"date": str(date.today()), "machine": describe_machine(), "cores": cores(), "bundle": bundle}
        load = asdict(load_since(begin, options.threads))
        # A value every ten seconds tells the same and keeps the record small.
        write_json(options.out, {**facts, "load": load, **found, "usage": [asdict(one) for one in seen[::20]]})


if __name__ == "__main__":
    main()
