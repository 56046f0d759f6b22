"""Take the camera page's pictures for the docs, of a real camera: slim and control side by side on the moving scene.

    python scripts/camera_screenshots.py SLIM_BUNDLE CONTROL_BUNDLE

`make host` makes two such bundles: runs/slim/NAME/build/slim/... and .../build/control/...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.chromium import Chromium

FOLDER = Path(__file__).parents[1] / "docs/images"
PICTURES = {"camera-wide.png": ((1100, 940), False), "camera-narrow.png": ((390, 844), True)}
GRAPH_S = 20
LAYOUT = {
    "schema": 1,
    "lines": [{"name": "door", "start": [0.5, 0.05], "end": [0.5, 0.95]}],
    "zones": [{"name": "left", "points": [[0.03, 0.1], [0.45, 0.1], [0.45, 0.9], [0.03, 0.9]]}],
}


async def take(link: str) -> None:
    """Open each window at once, let the graphs grow, and save it."""
    async with Chromium() as browser:
        tabs = {}
        for name, (size, dark) in PICTURES.items():
            tabs[name] = await browser.new_tab()
            await tabs[name].open(link, size=size, dark=dark)
        await asyncio.sleep(GRAPH_S)
        for name, tab in tabs.items():
            await tab.until("Boolean(view.frame)")
            (FOLDER / name).write_bytes(await tab.screenshot())


@contextmanager
def camera(slim: str, control: str, zones: Path) -> Iterator[str]:
    """Run the camera and yield its page's link."""
    command = [sys.executable, "-m", "yolo_slim.runtime", "camera", slim, "--control", control, "--port", "0"]
    options = ["--size", "640x360", "--track", "--zones", str(zones)]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = iter(process.stderr.readline, "")
        yield next(found[1] for line in said if (found := re.search(r"Page: (\S+)", line)))
        process.terminate()


def main() -> None:
    """Run a camera and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slim", metavar="SLIM_BUNDLE")
    parser.add_argument("control", metavar="CONTROL_BUNDLE")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        zones = Path(folder) / "zones.json"
        zones.write_text(json.dumps(LAYOUT))
        with camera(args.slim, args.control, zones) as link:
            asyncio.run(take(link))
    print("\n".join(str(FOLDER / name) for name in PICTURES))


if __name__ == "__main__":
    main()
