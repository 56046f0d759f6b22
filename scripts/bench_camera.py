"""Time the camera loop against its bare detector on the same frames, and watch its memory, files and threads.

    python scripts/bench_camera.py BUNDLE --rounds 9 --seconds 3 --minutes 60 --out record.json

The loop and the detector take turns; reported is the median of the rounds' ratios. The long run then loses its source
every thousand frames, so that opening it again is watched as well. ``--shield`` (root) lets the turns run in real time,
which keeps other users of a shared machine away; they get a rest after each turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, describe_machine, memory_mb
from yolo_slim.runtime.bench import bench_images
from yolo_slim.runtime.camera.capture import CaptureSettings
from yolo_slim.runtime.camera.frame import Shown, SourceLost
from yolo_slim.runtime.camera.live import Live, LiveSettings
from yolo_slim.runtime.camera.stats import WINDOW_S
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.load import busy_reasons, load_since, start
from yolo_slim.runtime.sources import Skipped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = Sequence[NDArray[np.uint8]]

FRAMES_A_SOURCE = 1000
EVERY_S = 2.0
PAUSE_S = 1.0
SETTLED_S = WINDOW_S + 10
"""Memory of the long run counts from here on: the figures keep a minute of events, which fills up first."""


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


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the process uses at one moment."""

    at_s: float
    rss_mb: float | None
    files: int
    threads: int


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


def rested(time_once: Callable[[], float], options: argparse.Namespace) -> float:
    """Run one turn, in real time where it was asked for, after a rest for others."""
    time.sleep(PAUSE_S if options.shield else 0.0)
    if not options.shield:
        return time_once()
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # threads that begin in the turn inherit it
    try:
        return time_once()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def in_turns(detector: Detector, images: Images, options: argparse.Namespace) -> list[JsonObject]:
    """Give both their turn in each round; every other round in the opposite order."""
    turns: list[tuple[str, Callable[[], float]]] = [
        ("bare_fps", lambda: bare_fps(detector, images, options.seconds)),
        ("camera_fps", lambda: camera_fps(detector, images, options.seconds)),
    ]
    rounds = []
    for number in range(options.rounds):
        row = {name: rested(time_once, options) for name, time_once in turns[:: 1 if number % 2 == 0 else -1]}
        rounds.append({**row, "ratio": row["camera_fps"] / row["bare_fps"]})
    return rounds


def long_run(detector: Detector, images: Images, minutes: float) -> tuple[list[Usage], JsonObject]:
    """Run the camera for some minutes; what the process used meanwhile, and the camera's own figures."""
    settings = LiveSettings(capture=CaptureSettings(back_off_s=(0.05,)))
    usage, begin = [], time.monotonic()
    with Live(lambda: Loop(images, FRAMES_A_SOURCE), {"slim": detector}, settings) as live:
        while (passed_s := time.monotonic() - begin) < 60 * minutes and not live.wait(EVERY_S):
            files, threads = len([*Path("/proc/self/fd").iterdir()]), threading.active_count()
            usage.append(Usage(at_s=passed_s, rss_mb=memory_mb(), files=files, threads=threads))
        stats = live.stats()
    return usage, stats.to_json()


def growth(usage: Sequence[Usage]) -> JsonObject:
    """How much memory, files and threads grew after the run had settled: medians of its first and last tenth."""
    settled_s = min(SETTLED_S, usage[-1].at_s / 2)
    settled = [one for one in usage if one.at_s >= settled_s]
    tenth = max(len(settled) // 10, 1)
    first, last = settled[:tenth], settled[-tenth:]

    def grown(key: str) -> float:
        return median(getattr(one, key) or 0.0 for one in last) - median(getattr(one, key) or 0.0 for one in first)

    return {key: grown(key) for key in ("rss_mb", "files", "threads")}


def table(rounds: Sequence[JsonObject], grown: JsonObject | None, stats: JsonObject | None) -> str:
    """A Markdown table of what was found."""
    ratios = [row["ratio"] for row in rounds]
    rows = [(name, f"{median(row[name] for row in rounds):.1f}") for name in ("bare_fps", "camera_fps")]
    rows.append(("ratio", f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f} in single rounds)"))
    if grown is not None and stats is not None:
        rows += [(f"growth of {key}", f"{value:+.1f}") for key, value in grown.items()]
        rows += [("frames of the long run", str(stats["totals"]["shown"])), ("sources", str(stats["totals"]["lost"]))]
        rows.append(("latency p50, p99 ms", " / ".join(f"{value:.1f}" for value in stats["latency_ms"].values())))
    return "\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--images", type=Path, metavar="SRC", help="default: the bundle's self-check images")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn")
    parser.add_argument("--minutes", type=float, default=0.0, help="of the long run")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shield", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def facts(detector: Detector) -> JsonObject:
    """What ran where, and by which command."""
    spec = detector.bundle.spec
    return {
        "date": str(date.today()),
        "command": f"python scripts/bench_camera.py {' '.join(sys.argv[1:])}",
        "bundle": {"name": spec.name, "imgsz": list(spec.imgsz), "precision": spec.precision},
        "runtime": detector.describe().to_json(),
        "machine": describe_machine(),
        "cores": cores(),
    }


def main() -> None:
    """Measure, print the table, write the record."""
    options = parse()
    with Detector(options.bundle, options.threads) as detector:
        images = bench_images(detector.bundle, options.images, Skipped())
        bare_fps(detector, images, 1.0)  # warm-up
        begin = start(with_reference=False)
        rounds = in_turns(detector, images, options)
        usage, stats = long_run(detector, images, options.minutes) if options.minutes else ([], None)
        load = load_since(begin, detector.describe().threads)
        about = facts(detector)
    grown = growth(usage) if usage else None
    print("\n".join([table(rounds, grown, stats), *(f"BUSY: {reason}" for reason in busy_reasons(load))]))
    if options.out:
        found = {"ratio": median(row["ratio"] for row in rounds), "rounds": rounds, "growth": grown, "stats": stats}
        write_json(options.out, {**about, "load": asdict(load), **found, "usage": [asdict(one) for one in usage]})


if __name__ == "__main__":
    main()
