"""The page in a real browser: it shows, steers, draws, tells what is wrong, and fits a phone."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.axe import faults, needs_axe
from tests.helpers.camera_scene import SceneCamera
from tests.helpers.chromium import PATH, Chromium, InBrowser, Tab
from yolo_slim.runtime.camera.page_commands import SetZones
from yolo_slim.runtime.camera.server import Running, ServerSettings, serve

pytest.importorskip("aiohttp", reason="the page needs aiohttp (extra camera)")
pytestmark = [
    pytest.mark.chromium,
    # On busy cores a browser itself may die or stop answering.
    pytest.mark.flaky(reruns=1),
    pytest.mark.skipif(PATH is None, reason="no chromium on this machine (Debian: apt install chromium)"),
]
Serve = Callable[..., Running]
READY = "Boolean(view.frame)"
SUM = """(() => { const c = $('slim'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
let sum = 0; for (let i = 0; i < d.length; i += 4) sum = (sum * 31 + d[i]) % 1000003; return sum; })()"""


async def opened(browser: Chromium, running: Running, **options: Any) -> Tab:
    """A tab that shows the camera."""
    tab = await browser.new_tab()
    await tab.open(running.link, **options)
    await tab.until(READY)
    return tab


@needs_axe
@pytest.mark.parametrize(("size", "dark"), [((390, 844), True), ((1280, 900), False)])
def test_page_has_no_fault_of_accessibility(
    served: Serve, size: tuple[int, int], dark: bool, in_browser: InBrowser
) -> None:
    """axe-core finds nothing, on a phone and a desk, dark and light, the help included."""
    running = served()

    async def work(browser: Chromium) -> None:
        tab = await opened(browser, running, size=size, dark=dark)
        assert await faults(tab) == []
        await tab.press("?")
        assert await faults(tab) == []

    in_browser(work)


def test_page_shows_and_steers(served: Serve, camera: SceneCamera, in_browser: InBrowser) -> None:
    """It moves; the slider, classes, pause and keys work at once; nothing is refused by the page's policy."""
    running = served()

    async def work(browser: Chromium) -> None:
        tab = await opened(browser, running)
        first = await tab.run(SUM)
        await tab.until(f"{SUM} !== {first}")
        assert await tab.run("view.frame.answers.slim.boxes.length") == 2

        await tab.run("$('conf').value = 0.6; $('conf').dispatchEvent(new Event('input'))")
        await tab.until("view.frame.answers.slim.boxes.length === 1")
        assert camera.conf == 0.6
        await tab.press("-")
        await tab.until("about.conf === 0.55")

        await tab.run("$('classes').querySelector('input').click()")
        await tab.until("view.frame.answers.slim.boxes.length === 0")
        assert camera.classes == (1,)
        await tab.run("$('all-classes').click()")
        await tab.until("view.frame.answers.slim.boxes.length === 1")

        await tab.press("p")
        await tab.until("about.paused && document.querySelector('.age').textContent === 'paused'")
        await tab.press("p")
        await tab.until("!about.paused")
        await tab.press("?")
        assert await tab.run("$('help').open")
        assert tab.problems == []

    in_browser(work)


def test_lines_and_zones_are_drawn(served: Serve, camera: SceneCamera, in_browser: InBrowser) -> None:
    """By mouse and by keyboard, as shares of the picture, with their counts; one can be removed."""
    running = served()

    async def work(browser: Chromium) -> None:
        tab = await opened(browser, running)
        box = await tab.run("(({x, y, width, height}) => [x, y, width, height])($('slim').getBoundingClientRect())")
        await tab.press("l")
        for x, y in ((0.25, 0.5), (0.75, 0.5)):
            # The window is so low that bars fill the canvas at both sides of the picture of 16 to 9.
            await tab.click(box[0] + box[2] / 2 + (x - 0.5) * box[3] * 16 / 9, box[1] + y * box[3])
        await tab.until("about.zones.length === 1")
        await tab.press("z")
        for key in (" ", "ArrowRight", " ", "ArrowDown", " ", "Enter"):
            await tab.press(key)
        await tab.until("about.zones.length === 2")
        await tab.until("countsText('line 1') === 'in 3, out 1'")
        assert await tab.run("document.querySelector('#zones input').maxLength") == 64
        await tab.run("document.querySelector('#zones button').click()")
        await tab.until("about.zones.length === 1")

    in_browser(work)
    drawn = [command for command in camera.commands if isinstance(command, SetZones)]
    line, zone = drawn[1].zones
    assert line.kind == "line"
    np.testing.assert_allclose(line.points, [(0.25, 0.5), (0.75, 0.5)], atol=0.01)
    np.testing.assert_allclose(zone.points, [(0.5, 0.5), (0.52, 0.5), (0.52, 0.52)], atol=1e-6)
    assert [one.name for one in drawn[2].zones] == ["zone 1"]


def test_drawing_needs_the_bare_picture(served: Serve, camera: SceneCamera, in_browser: InBrowser) -> None:
    """While the device draws the boxes, a line is begun on the page's own picture; the encoder follows."""
    running = served()

    async def work(browser: Chromium) -> None:
        tab = await opened(browser, running)
        await tab.press("b")
        await tab.until("isDrawnOnDevice()")
        while camera.hub.watchers != {"plain": 0, "boxes": 1}:
            await asyncio.sleep(0.01)
        await tab.press("l")
        assert not await tab.run("isDrawnOnDevice()")
        while camera.hub.watchers != {"plain": 1, "boxes": 0}:
            await asyncio.sleep(0.01)

    in_browser(work)


def test_page_counts_what_is_there_now(served: Serve, camera: SceneCamera, in_browser: InBrowser) -> None:
    """Each class with its number, until the picture is old; times inside zones have a unit."""
    stay = {"desk": {"inside": 1, "entered": 2, "longest_s": 12.34}}
    running = served(callbacks=replace(camera.callbacks(), stats=lambda: {**camera.stats(), "counts": stay}))
    text = "[...document.querySelectorAll('#seen li')].map((item) => item.textContent)"

    async def work(browser: Chromium) -> None:
        tab = await opened(browser, running)
        await tab.until(f"{text}.join() === 'red 1,blue 1'")
        await tab.until("countsText('desk') === 'inside 1, entered 2, longest stay 12.3 s'")
        await tab.run("$('conf').value = 0.6; $('conf').dispatchEvent(new Event('input'))")
        await tab.until(f"{text}.join() === 'red 1'")
        camera.conf = 1.0
        await tab.until(f"{text}.join() === 'nothing'")
        camera.state = "lost"
        await tab.until(f"{text}.join() === 'not known'")
        assert tab.problems == []

    in_browser(work)


def test_a_slow_source_is_not_old(served: Serve, camera: SceneCamera, in_browser: InBrowser) -> None:
    """One frame a second stays as it is until three are missing; throttling is said with its reasons."""
    camera.fps = 1.0
    hot = {"throttled": ["too hot"], "celsius": 84.0}
    running = served(callbacks=replace(camera.callbacks(), stats=lambda: {**camera.stats(), **hot}))

    async def work(browser: Chromium) -> tuple[float, str]:
        tab = await opened(browser, running)
        await tab.until("view.times.length > 5")
        await tab.until("$('celsius-value').textContent.includes('84')")
        return await tab.run("oldAfterS()"), await tab.run("$('celsius-value').textContent")

    limit_s, text = in_browser(work)
    assert limit_s > 2
    assert text == "84 °C, throttled: too hot"


def test_page_says_what_is_wrong(camera: SceneCamera, in_browser: InBrowser) -> None:
    """A lost source with its reason, an old picture in grey with its age, a server that is gone and comes again."""
    settings = ServerSettings(port=0, callbacks=camera.callbacks())

    async def work(browser: Chromium) -> list[str]:
        running = serve(camera.hub, settings)
        tab = await opened(browser, running)
        is_old, state = "document.querySelector('.screen').classList.contains('old')", "$('state').textContent"
        said = [await tab.run(state)]
        camera.reason, camera.state = "the cable is out", "lost"
        await tab.until(f"{state}.startsWith('lost') && {is_old}")
        said += [await tab.run(state), await tab.run("document.querySelector('.age').textContent")]
        camera.reason, camera.state = "", "live"
        await tab.until(f"!{is_old}")
        running.stop()
        await tab.until(f"{state}.startsWith('not connected')")
        with serve(camera.hub, ServerSettings(port=running.door.port, callbacks=camera.callbacks())):
            await tab.until(f"{state} === 'live'")
            said.append(await tab.run(state))
        return said

    before, lost, age, after = in_browser(work)
    assert (before, lost, after) == ("live", "lost: the cable is out", "live")
    assert re.search(r"\d s old$", age)


def test_three_viewers_cost_one_encoding(served: Serve, camera: SceneCamera, in_browser: InBrowser) -> None:
    """Each sees every frame or the newest; the frames are encoded once for all."""
    running = served()

    async def work(browser: Chromium) -> tuple[int, int]:
        tabs = [await opened(browser, running) for _ in range(3)]
        encoded, shown = camera.hub.encoded, camera.shown
        await asyncio.sleep(1.0)
        found = camera.hub.encoded - encoded, camera.shown - shown
        for tab in tabs:
            await tab.until(f"view.frame.sequence > {shown}")
        return found

    encoded, shown = in_browser(work)
    assert encoded <= shown + 1
    deadline = time.monotonic() + 60
    while running.viewers and time.monotonic() < deadline:  # the browser is gone
        time.sleep(0.02)
    assert running.viewers == 0
    assert camera.hub.watchers == {"plain": 0, "boxes": 0}


def test_token_link_opens_the_page(served: Serve, in_browser: InBrowser) -> None:
    """The link works in a browser, the token leaves its address, and the picture follows by the cookie."""
    running = served(host="0.0.0.0", token="a-token-of-some-length")
    link = f"http://127.0.0.1:{running.door.port}/?token=a-token-of-some-length"

    async def work(browser: Chromium) -> tuple[str, str]:
        tab = await browser.new_tab()
        await tab.open(link)
        await tab.until(READY)
        return await tab.run("location.search"), await tab.run("document.cookie")

    assert in_browser(work) == ("", "")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [(1280, 900), (360, 740)])
def test_page_fits_and_reads(
    size: tuple[int, int], dark: bool, served: Serve, camera: SceneCamera, in_browser: InBrowser
) -> None:
    """On a phone and a desk, light and dark: nothing is cut off, every control has a name, the page is as asked."""
    camera.control = True
    running = served()

    async def work(browser: Chromium) -> None:
        tab = await opened(browser, running, size=size, dark=dark)
        await tab.until("!$('control-figure').hidden")
        assert await tab.run("document.documentElement.scrollWidth") <= size[0]
        nameless = """[...document.querySelectorAll('button, input, canvas, a')].filter((one) => !(
            one.textContent.trim() || one.getAttribute('aria-label') || (one.labels && one.labels.length)))
            .map((one) => one.outerHTML)"""
        assert await tab.run(nameless) == []
        small = """[...document.querySelectorAll('button')].filter((one) => one.offsetParent && one.offsetHeight < 38)
            .map((one) => one.id)"""
        assert await tab.run(small) == []
        image = cv2.imdecode(np.frombuffer(await tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (size[1], size[0], 3)
        assert bool(image[-3, 3].mean() < 64) is dark
        boxes = await tab.run("['slim', 'control'].map((id) => $(id).getBoundingClientRect().left)")
        assert (boxes[0] == boxes[1]) is (size[0] < 600)

    in_browser(work)
