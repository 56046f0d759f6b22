"""Time a dashboard of generated nights: built, opened and used in a headless Chromium; its size.

    python -m scripts.bench_dashboard --nights 365 --cells 20 --out record.json

The history is generated: its figures say nothing of a device. Building is timed by the clock and by the processor's
time, which other users of a shared machine hardly lengthen. A page is open when its first chart is drawn, by the page's
own clock from the navigation on; beside it stands the processor's time of the page's main thread. A search is timed to
the second frame after it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median

from tests.helpers.chromium import PATH, Chromium, Tab
from tests.helpers.histories import Planted, cells, write_history, write_images
from tests.helpers.results import complete_result
from yolo_slim.files import JsonObject, write_json
from yolo_slim.history.store import History
from yolo_slim.machine import describe_machine
from yolo_slim.reporting.dashboard.site import Site, write_dashboard

DRAWN = "Number(document.querySelector('figure.chart[data-drawn]')?.dataset.drawn ?? 0)"
SEARCH = """new Promise((done) => { const began = performance.now(), search = document.getElementById('search');
search.value = 'ncnn rpi5'; search.dispatchEvent(new Event('input'));
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began))); })"""
DIFFERENCES = "document.querySelectorAll('#answer table').length > 1 ? performance.now() : 0"


def generate(folder: Path, nights: int, count: int) -> Path:
    """Write a history with three planted changes."""
    path = folder / "history.sqlite"
    planted = [
        Planted(nights - 20, latency=0.06, cells=lambda cell: cell.build == "ncnn-fp16" and cell.target == "rpi5"),
        Planted(nights - 3, map50_95=-0.012, cells=lambda cell: cell.build.endswith("int8")),
        Planted(nights // 2, latency=-0.08, cells=lambda cell: cell.target == "rpi4"),
    ]
    images, result = write_images(folder / "pictures", 24), complete_result().to_json()
    write_history(path, nights=nights, cells=cells(count), planted=planted, images=images, result=result)
    return path


def build(path: Path, folder: Path) -> tuple[Site, JsonObject]:
    """Write the dashboard, timed."""
    clock, processor = time.perf_counter(), time.process_time()
    with History.open(path) as history:
        site = write_dashboard(history, folder)
    return site, {
        "build_s": round(time.perf_counter() - clock, 1),
        "build_processor_s": round(time.process_time() - processor, 1),
        "megabytes": site.megabytes,
        "files": site.files,
    }


async def opened(folder: Path, rounds: int) -> JsonObject:
    """Open one page of each kind several times, in turns; milliseconds by the clock and of the processor."""
    pages = {
        "index": "index.html",
        "cell": next(folder.glob("cell-*")).name,
        "device": next(folder.glob("device-*")).name,
        "differences": "diff.html",
    }
    found: dict[str, list[float]] = {name: [] for name in (*pages, *(f"{page}_processor" for page in pages), "search")}
    async with Chromium() as browser:
        for _ in range(rounds):
            for name, file in pages.items():
                tab = await browser.new_tab()
                await tab.call("Performance.enable", timeDomain="threadTicks")
                await tab.open((folder / file).as_uri())
                found[name].append(await tab.until(DIFFERENCES if name == "differences" else DRAWN, 60))
                found[f"{name}_processor"].append(await _busy_ms(tab))
                if name == "index":
                    found["search"].append(await tab.run(SEARCH))
                _require_quiet(tab)
    return {f"{name}_ms": {"median": round(median(v)), "slowest": round(max(v))} for name, v in found.items()}


async def _busy_ms(tab: Tab) -> float:
    """Processor's time of a page's main thread so far."""
    metrics = (await tab.call("Performance.getMetrics"))["metrics"]
    return next(1000 * float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


def _require_quiet(tab: Tab) -> None:
    """Stop where a page's console has an error."""
    if tab.problems:
        raise RuntimeError("; ".join(tab.problems))


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate, build, open, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5, help="how often each page is opened")
    parser.add_argument("--out", type=Path, default=Path("dashboard.json"))
    parser.add_argument("--keep", type=Path, help="folder to keep the history and the pages in")
    given = parser.parse_args(arguments)
    if PATH is None:
        parser.error("no chromium on this machine (Debian: apt install chromium)")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        path = generate(folder, given.nights, given.cells)
        _, figures = build(path, folder / "dashboard")
        times = asyncio.run(opened(folder / "dashboard", given.rounds))
    record = {
        "date": str(date.today()), "machine": describe_machine(), "nights": given.nights,
        "cells": given.cells, **figures, **times,
    }  # fmt: skip
    write_json(given.out, record)
    print("\n".join(f"{key}: {value}" for key, value in record.items()))


if __name__ == "__main__":
    main()
