"""Take the report's pictures for the docs, its parts numbered.

    python scripts/report_screenshots.py runs/slim/quickstart-rpi5/validate/result.json

The page is written anew from the result, without example images.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from tests.helpers.chromium import Chromium
from yolo_slim.reporting.html import write_report
from yolo_slim.verdict.result import Result

FOLDER = Path(__file__).parents[1] / "docs/images"
WIDTH = 1000
PICTURES = {
    "report-verdict.png": ("h1", 900, [".verdict strong", ".verdict p b", ".verdict table"]),
    "report-ladder.png": ("h2:nth-of-type(1)", 1340, ["h2:nth-of-type(1)", "h2:nth-of-type(2)"]),
}
"""Picture to where it begins, how high it is, and what its numbers stand beside."""
MARK = """
(places => places.forEach((place, index) => {
  const mark = document.createElement("span");
  mark.textContent = index + FIRST;
  mark.style.cssText = "display:inline-block;min-width:1.5em;border-radius:1em;background:#b3261e;color:#fff;" +
    "font:600 14px/1.5 sans-serif;text-align:center;margin-right:.4em";
  const found = document.querySelector(place);
  found.tagName === "TABLE" ? found.before(mark) : found.prepend(mark);
}))(PLACES)
"""


async def take(page: Path) -> None:
    """Number the parts, scroll to each picture's beginning and save it."""
    first = 1
    async with Chromium() as browser:
        for name, (start, height, places) in PICTURES.items():
            tab = await browser.new_tab()
            await tab.open(page.as_uri(), size=(WIDTH, height))
            await tab.run(MARK.replace("FIRST", str(first)).replace("PLACES", json.dumps(places)))
            await tab.run(f"document.querySelector({json.dumps(start)}).scrollIntoView()")
            await asyncio.sleep(1)
            (FOLDER / name).write_bytes(await tab.screenshot())
            first += len(places)


def main() -> None:
    """Write the page and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="result.json of a run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_report(page, Result.load(args.result), [])
        asyncio.run(take(page))


if __name__ == "__main__":
    main()
