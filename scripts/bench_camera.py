"""What the camera costs beside its detector, without a page and with viewers: frames per second, in turns.

    python scripts/bench_camera.py BUNDLE --rounds 8 --shield --out docs/benchmarks/records/camera_viewers.json

The same frames, all in memory, go through the bare detector, through the camera without a page, and through the camera
with 0, 1, 3 and 10 viewers. Reported are medians of the rounds' ratios. Viewers take every picture that they can, as a
browser does, and decode nothing; they are another process of this machine, so they take a part of its cores.
``--shield`` (root) lets the turns run in real time, which keeps other users of a shared machine away; they get a rest
after each turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import cv2

from tests.helpers.camera_viewer import view
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, describe_machine
from yolo_slim.runtime.bench import bench_images
from yolo_slim.runtime.camera.draw import picture
from yolo_slim.runtime.camera.frame import Shown, SourceLost
from yolo_slim.runtime.camera.hub import Hub
from yolo_slim.runtime.camera.live import Live
from yolo_slim.runtime.camera.server import ServerSettings, serve
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.load import load_since, start
from yolo_slim.runtime.sources import Skipped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = Sequence[NDArray[np.uint8]]

BARE, HEADLESS = "bare", "headless"
PAUSE_S = 1.0


class Loop:
    """A source that always has the next image, and is lost after some."""

    name, is_live = "images in memory", False

    def __init__(self, images: Images, frames: int | None = None) -> None:
        self._images = islice(cycle(images), frames)

    def read(self) -> NDArray[np.uint8]:
        """The next image."""
        image = next(self._images, None)
        if image is None:
            raise SourceLost("The source has given all its frames.")
        return image

    def close(self) -> None:
        """Nothing is open."""


def bare_fps(detector: Detector, images: Images, seconds: float) -> float:
    """Frames per second of the detector alone."""
    begin = time.perf_counter()
    for frames, image in enumerate(cycle(images), start=1):
        detector.timed(image)
        if (passed := time.perf_counter() - begin) >= seconds:
            return frames / passed
    raise AssertionError


def camera_fps(detector: Detector, images: Images, seconds: float) -> float:
    """Frames per second that the camera shows, from its first shown frame on."""
    times: list[float] = []
    live = Live(lambda: Loop(images), {"slim": detector})

    def note(_: Shown) -> None:
        times.append(time.perf_counter())

    live.on_shown(note)
    with live:
        live.wait(seconds)
    return (len(times) - 1) / (times[-1] - times[0])


def rested(time_once: Callable[[], float], *, is_shielded: bool) -> float:
    """Run one turn, in real time where it was asked for, after a rest for others."""
    time.sleep(PAUSE_S if is_shielded else 0.0)
    if not is_shielded:
        return time_once()
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # threads that begin in the turn inherit it
    try:
        return time_once()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def watched(link: str, viewers: int) -> Iterator[None]:
    """Have so many viewers, in a process of their own."""
    command = [sys.executable, __file__, "--watch", link, "--viewers", str(viewers)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


def page_fps(detector: Detector, images: Images, seconds: float, viewers: int) -> float:
    """Frames per second that the camera shows while so many viewers watch.

    Raises:
        RuntimeError: the viewers didn't get the frames.
    """
    times: list[float] = []
    names = {"slim": detector.bundle.spec.names}
    hub = Hub(lambda shown: picture(shown, names))
    live = Live(lambda: Loop(images), {"slim": detector})
    live.on_shown(hub.shown)
    with hub, serve(hub, ServerSettings(port=0)) as running, live, watched(running.link, viewers):
        while running.viewers < viewers:
            live.wait(0.05)
        live.wait(1.0)
        before = hub.encoded
        live.on_shown(lambda _: times.append(time.perf_counter()))
        live.wait(seconds)
        if viewers and hub.encoded - before < len(times) / 2:
            raise RuntimeError(f"Only {hub.encoded - before} of {len(times)} frames were encoded for the viewers.")
    return (len(times) - 1) / (times[-1] - times[0])


def turns(detector: Detector, images: Images, options: argparse.Namespace) -> list[tuple[str, Callable[[], float]]]:
    """What takes its turn in each round."""
    pages = [
        (f"viewers_{count}", lambda count=count: page_fps(detector, images, options.seconds, count))
        for count in options.viewers
    ]
    return [
        (BARE, lambda: bare_fps(detector, images, options.seconds)),
        (HEADLESS, lambda: camera_fps(detector, images, options.seconds)),
        *pages,
    ]


def in_turns(detector: Detector, images: Images, options: argparse.Namespace) -> list[dict[str, float]]:
    """Frames per second of each, round by round; every other round in the opposite order."""
    rows = []
    for number in range(options.rounds):
        order = turns(detector, images, options)[:: 1 if number % 2 == 0 else -1]
        rows.append({name: rested(time_once, is_shielded=options.shield) for name, time_once in order})
        print(json.dumps({name: round(fps, 2) for name, fps in sorted(rows[-1].items())}), flush=True)
    return rows


def ratios(rows: Sequence[dict[str, float]], base: str) -> dict[str, list[float]]:
    """Of each turn against another one of the same round: smallest, median and largest."""
    found = {name: sorted(row[name] / row[base] for row in rows) for name in rows[0]}
    return {name: [round(one, 4) for one in (each[0], median(each), each[-1])] for name, each in found.items()}


async def watch(link: str, viewers: int) -> None:
    """Be so many viewers until the process is ended."""
    await asyncio.gather(*[view(link) for _ in range(viewers)], return_exceptions=True)


def main() -> None:
    """Measure, print each round and the ratios, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE")
    parser.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 3, 10])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one turn")
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 720], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shield", action="store_true", help="let the turns run in real time (root)")
    parser.add_argument("--watch", metavar="LINK", help="be the viewers of this page, and nothing else")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch, sum(options.viewers)))
        return
    if options.bundle is None:
        parser.error("BUNDLE is needed")
    with Detector(options.bundle, options.threads) as detector:
        found: JsonObject = measured(detector, options)
    print(json.dumps(found["of_bare"], indent=2))
    if options.out:
        write_json(options.out, found)


def measured(detector: Detector, options: argparse.Namespace) -> JsonObject:
    """Everything that the record says."""
    spec, own = detector.bundle.spec, bench_images(detector.bundle, None, Skipped())
    images = [cv2.resize(image, tuple(options.size)) for image in own]
    bare_fps(detector, images, 1.0)  # warm-up
    begin = start(with_reference=False)
    rows = in_turns(detector, images, options)
    return {
        "date": str(date.today()),
        "command": f"python scripts/bench_camera.py {' '.join(sys.argv[1:])}",
        "bundle": {"name": spec.name, "imgsz": list(spec.imgsz), "precision": spec.precision},
        "frame_size": options.size,
        "runtime": detector.describe().to_json(),
        "machine": describe_machine(),
        "cores": cores(),
        "load": asdict(load_since(begin, options.threads)),
        "of_bare": ratios(rows, BARE),
        "of_headless": ratios(rows, HEADLESS),
        "rounds_fps": rows,
    }


if __name__ == "__main__":
    main()
