"""Take the camera page's pictures for the docs: wide in light, narrow in dark.

python scripts/camera_screenshots.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.helpers.camera_scene import SceneCamera
from tests.helpers.chromium import Chromium
from yolo_slim.runtime.camera.server import ServerSettings, serve

FOLDER = Path(__file__).parents[1] / "docs/images"
PICTURES = {"camera-wide.png": ((1100, 940), False), "camera-narrow.png": ((390, 844), True)}
GRAPH_S = 15
ZONES = [
    {"name": "door", "kind": "line", "points": [[0.15, 0.92], [0.6, 0.6]]},
    {"name": "bench", "kind": "zone", "points": [[0.68, 0.5], [0.97, 0.5], [0.97, 0.97], [0.68, 0.97]]},
]


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


def main() -> None:
    """Serve a rendered scene and take the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    camera = SceneCamera(source="Example: rendered scene, made-up figures", control=True, zones=ZONES)
    with camera, serve(camera.hub, ServerSettings(port=0, callbacks=camera.callbacks())) as running:
        asyncio.run(take(running.link))
    print("\n".join(str(FOLDER / name) for name in PICTURES))


if __name__ == "__main__":
    main()
