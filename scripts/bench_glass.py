"""From glass to glass: how old a frame is when a browser shows it, and what viewers cost the camera.

    python scripts/bench_glass.py --seconds 10 --out docs/benchmarks/records/camera_glass.json

A clock is drawn into every source frame as black and white stripes. The page's canvas is read back in a headless
Chromium after it was painted. There is no inference: the figures are the share of the camera's own pipeline (hub, JPEG,
server, browser). Browser and camera share this machine, so both slow each other. Viewers are counted beside that
browser. The source gives no more frames than --fps: a loss shows only where viewers keep the camera from that rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.camera_scene import SceneCamera
from tests.helpers.camera_viewer import view
from tests.helpers.chromium import Chromium
from yolo_slim.files import write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.runtime.camera.server import Running, ServerSettings, serve

BITS = 20
"""Milliseconds of the wall clock modulo 2**20: 17 minutes."""
STRIPES_TALL = 24
READER = f"""(() => {{
  window.ages = [];
  document.addEventListener('picture', () => requestAnimationFrame(() => {{
    const canvas = $('slim'), wide = canvas.width / {BITS};
    const row = canvas.getContext('2d').getImageData(0, {STRIPES_TALL // 2}, canvas.width, 1).data;
    let stamp = 0;
    for (let bit = 0; bit < {BITS}; bit++) if (row[4 * Math.floor((bit + 0.5) * wide)] > 127) stamp += 2 ** bit;
    const age = (Date.now() % {2**BITS}) - stamp;
    window.ages.push(age < 0 ? age + {2**BITS} : age);
  }}));
}})()"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One number of viewers."""

    viewers: int
    """Besides the browser that measures; -1: not even that browser."""
    fps: float
    """Frames that the hub published per second."""
    p50_ms: float | None
    """Age of the frame in the browser's canvas."""
    p99_ms: float | None
    samples: int
    encoded_per_s: float
    load: float
    """Processes that wanted a core during the last minute (load average)."""


def paint_clock(image: np.ndarray[Any, Any], _: int) -> None:
    """Draw the wall clock's milliseconds, lowest bit left, as stripes at the upper edge."""
    stamp, wide = int(time.time() * 1000) % 2**BITS, image.shape[1] / BITS
    for bit in range(BITS):
        image[:STRIPES_TALL, round(bit * wide) : round((bit + 1) * wide)] = 255 * (stamp >> bit & 1)


async def count(camera: SceneCamera, seconds: float) -> tuple[float, float]:
    """Frames and encodings per second."""
    shown, encoded, began = camera.hub.newest, camera.hub.encoded, time.monotonic()
    await asyncio.sleep(seconds)
    elapsed, newest = time.monotonic() - began, camera.hub.newest
    frames = newest.sequence - shown.sequence if shown and newest else 0
    return frames / elapsed, (camera.hub.encoded - encoded) / elapsed


async def measure(camera: SceneCamera, running: Running, viewers: int, seconds: float) -> Figures:
    """The age in a browser with so many other viewers; -1: no browser either."""
    tasks = [asyncio.create_task(view(running.link)) for _ in range(viewers)]
    ages: list[float] = []
    if viewers < 0:
        fps, encoded = await count(camera, seconds)
    else:
        async with Chromium() as browser:
            tab = await browser.new_tab()
            await tab.open(running.link)
            await tab.until("Boolean(view.frame)")
            await asyncio.sleep(2.0)
            await tab.run(READER)
            fps, encoded = await count(camera, seconds)
            ages = await tab.run("window.ages")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    p50, p99 = np.percentile(ages, [50, 99]).tolist() if ages else (None, None)
    return Figures(
        viewers=viewers,
        fps=round(fps, 2),
        p50_ms=p50,
        p99_ms=p99,
        samples=len(ages),
        encoded_per_s=round(encoded, 2),
        load=os.getloadavg()[0],
    )


async def all_rows(options: argparse.Namespace) -> list[Figures]:
    """Measure each number of viewers, one after the other."""
    rows = []
    for viewers in options.viewers:
        camera = SceneCamera(fps=options.fps, size=tuple(options.size), paint=paint_clock)
        settings = ServerSettings(port=0, callbacks=camera.callbacks())
        with camera, serve(camera.hub, settings) as running:
            rows.append(await measure(camera, running, viewers, options.seconds))
        print(json.dumps(asdict(rows[-1])), flush=True)
    return rows


def main() -> None:
    """Measure, print a row for each number of viewers, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 720], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--viewers", type=int, nargs="+", default=[-1, 0, 1, 3, 10])
    parser.add_argument("--out", type=Path, help="JSON record to write")
    options = parser.parse_args()
    rows = asyncio.run(all_rows(options))
    if options.out:
        facts = {"date": date.today().isoformat(), "machine": device_model(), "cores": cores()}
        asked = {"fps": options.fps, "size": options.size, "seconds": options.seconds}
        write_json(options.out, {**facts, **asked, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
