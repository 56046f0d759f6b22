"""The pages in a real browser, opened from the disk: they draw, filter, compare, and fit a phone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.axe import faults, needs_axe
from tests.helpers.chromium import PATH, Chromium, InBrowser, Tab
from tests.helpers.dashboards import NIGHTS, Written
from tests.helpers.results import complete_result
from yolo_slim.reporting.html import render

pytest.importorskip("aiohttp", reason="the browser is steered with aiohttp (extra camera)")
pytestmark = [
    pytest.mark.chromium,
    # On busy cores a browser itself may die or stop answering.
    pytest.mark.flaky(reruns=1),
    pytest.mark.skipif(PATH is None, reason="no chromium on this machine (Debian: apt install chromium)"),
]
InTab = Callable[[Callable[[Tab], Awaitable[None]]], None]
DRAWN = "Boolean(document.querySelector('figure.chart[data-drawn]'))"
ALL_DRAWN = "!document.querySelector('figure.chart:not([data-drawn])')"
SHOWN = """Bokeh.documents.flatMap((one) => one.roots()).filter((one) => one.renderers).flatMap((one) => one.renderers)
.filter((one) => one.tags.length && one.visible).map((one) => one.tags[0])"""

TOOLBARS = """(() => {
  const parts = (root) => [...(root?.querySelectorAll('*') ?? [])].flatMap((one) => [one, ...parts(one.shadowRoot)]);
  return new Set(parts(document).filter((one) => one.matches('.bk-Toolbar') && one.offsetHeight > 0)).size;
})()"""
NAMELESS = """[...document.querySelectorAll('main :is(button, input, select, a, [role=img])')]
.filter((one) => !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length)
.map((one) => one.outerHTML)"""


@pytest.fixture
def in_tab(in_browser: InBrowser) -> InTab:
    """A function that works with a tab; nothing may have gone wrong in it."""

    def run(work: Callable[[Tab], Awaitable[None]]) -> None:
        async def checked(browser: Chromium) -> None:
            tab = await browser.new_tab()
            await work(tab)
            assert tab.problems == []

        in_browser(checked)

    return run


def test_search_filters_table_and_chart(written: Written, in_tab: InTab) -> None:
    """The key / leads to the search; what doesn't match leaves the table and the chart; the address keeps it."""

    async def work(tab: Tab) -> None:
        await tab.open((written.folder / "index.html").as_uri())
        await tab.until(DRAWN)
        assert len(set(await tab.run(SHOWN))) == 5
        await tab.press("/")
        assert await tab.run("document.activeElement.id") == "search"
        await tab.run("search.value = 'ncnn rpi5'; search.dispatchEvent(new Event('input'))")
        (name,) = {one.cell.name for one in written.board.cells if "rpi5/ncnn" in one.cell.name}
        assert set(await tab.run(SHOWN)) == {name}
        assert await tab.run("document.querySelectorAll('table.cells tbody tr:not([hidden])').length") == 1
        assert await tab.run("location.hash") == "#search=ncnn+rpi5"

    in_tab(work)


def test_legend_button_hides_a_series(written: Written, in_tab: InTab) -> None:
    """It is a button that says whether it is pressed."""

    async def work(tab: Tab) -> None:
        (page,) = [one.page for one in written.board.cells if "rpi5/ncnn" in one.cell.name]
        await tab.open((written.folder / page).as_uri())
        await tab.until(DRAWN)
        visible = "Bokeh.documents[0].roots()[0].renderers.filter((one) => one.name === 'worse')[0].visible"
        button = "document.querySelector('button[data-series=worse]')"
        assert await tab.run(visible)
        await tab.run(f"{button}.click()")
        assert not await tab.run(visible)
        assert await tab.run(f"{button}.getAttribute('aria-pressed')") == "false"

    in_tab(work)


def test_a_printed_page_has_every_chart(written: Written, in_tab: InTab) -> None:
    """Charts far below the window are drawn too, without anybody scrolling; on paper they have no toolbar."""

    async def work(tab: Tab) -> None:
        await tab.open((written.folder / written.board.cells[0].page).as_uri(), size=(1000, 200))
        await tab.until(f"{DRAWN} && {ALL_DRAWN}")
        assert await tab.run(TOOLBARS) > 1
        await tab.call("Emulation.setEmulatedMedia", media="print")
        assert await tab.run(TOOLBARS) == 0

    in_tab(work)


def test_any_two_nights_are_compared(written: Written, in_tab: InTab) -> None:
    """The address names cell and nights; figures, classes and facts that differ are tables."""

    async def work(tab: Tab) -> None:
        (cell,) = [one.cell.name for one in written.board.cells if "int8" in one.cell.name]
        await tab.open(f"{(written.folder / 'diff.html').as_uri()}#{cell}&1&{NIGHTS}")
        await tab.until("document.querySelectorAll('#answer table').length > 2")
        text = await tab.run("document.getElementById('answer').textContent")
        assert "weights" in text
        assert "<b>cone</b>" in text
        assert "Change 4" in text

    in_tab(work)


def test_two_nights_have_their_pictures(written: Written, in_tab: InTab) -> None:
    """Baseline and last night are side by side; other nights lead to them, and name the command that lists images."""

    async def work(tab: Tab) -> None:
        (cell,) = [one.cell.name for one in written.board.cells if "int8" in one.cell.name]
        await tab.open(f"{(written.folder / 'diff.html').as_uri()}#{cell}&2&{NIGHTS}")
        await tab.until("document.querySelectorAll('#answer table').length > 2")
        assert f"yolo-slim nightly diff 2 {NIGHTS} '{cell}'" in await tab.run("answer.textContent")
        assert await tab.run("answer.querySelectorAll('img').length") == 0
        await tab.run("answer.querySelector('a[href^=\"#\"]').click()")
        await tab.until("answer.querySelectorAll('figure.pair img').length === 4")
        assert await tab.run("before.value") == "1"
        await tab.until("[...answer.querySelectorAll('img')].every((one) => one.complete && one.naturalWidth > 0)")

    in_tab(work)


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_pages_fit_and_are_named(written: Written, width: int, dark: bool, in_tab: InTab) -> None:
    """On a phone and a desk, dark and light: nothing is cut off, every control and chart has a name."""

    async def work(tab: Tab) -> None:
        for name in ("index.html", "diff.html", written.board.cells[0].page, written.board.cells[0].device_page):
            await tab.open((written.folder / name).as_uri(), size=(width, 800), dark=dark)
            await tab.until("Boolean(document.querySelector('#answer table')) || " + DRAWN)
            assert await tab.run("document.documentElement.scrollWidth") <= width, name
            assert await tab.run(NAMELESS) == [], name

    in_tab(work)


@needs_axe
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_pages_have_no_fault_of_accessibility(
    written: Written, tmp_path: Path, width: int, dark: bool, in_tab: InTab
) -> None:
    """axe-core finds nothing in dashboard and report; negative control: it finds a picture without a text."""
    report = tmp_path / "report.html"
    report.write_text(render(complete_result(), []), encoding="utf-8")
    names = ("index.html", "diff.html", written.board.cells[0].page, written.board.cells[0].device_page)

    async def work(tab: Tab) -> None:
        for page in (*(written.folder / name for name in names), report):
            await tab.open(page.as_uri(), size=(width, 800), dark=dark)
            await tab.until(f"Boolean(document.querySelector('#answer table')) || ({DRAWN} && {ALL_DRAWN})", 30)
            assert await faults(tab) == [], page.name
        await tab.run("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"data:,\">')")
        assert any(fault.startswith("image-alt") for fault in await faults(tab))

    in_tab(work)


def test_report_opens_alone(tmp_path: Path, in_tab: InTab) -> None:
    """One file: it draws although it forbids every other address, and draws again when the scheme changes."""
    page = tmp_path / "report.html"
    page.write_text(render(complete_result(), []), encoding="utf-8")

    async def work(tab: Tab) -> None:
        await tab.open(page.as_uri())
        await tab.until(f"{DRAWN} && {ALL_DRAWN}")
        charts = "[...document.querySelectorAll('figure.chart')].map((one) => one.dataset.drawn)"
        before: list[Any] = await tab.run(charts)
        assert len(before) >= 3
        assert None not in before
        scheme = {"name": "prefers-color-scheme", "value": "dark"}
        await tab.call("Emulation.setEmulatedMedia", features=[scheme])
        await tab.until("Boolean(document.querySelector('.canvas.dark'))")

    in_tab(work)
