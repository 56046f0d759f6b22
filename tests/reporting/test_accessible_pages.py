"""axe-core finds no fault in the pages of comparisons, latency tables and block costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import comparisons
from tests.helpers.axe import faults, needs_axe
from tests.helpers.chromium import PATH, Chromium, InBrowser
from tests.helpers.latency_tables import table
from yolo_slim.build_key import BuildName
from yolo_slim.comparison import page
from yolo_slim.comparison.summary import summarize
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.measuring.block_costs import BlockCostTable, MeasuredBlock, RoundMs, ScoredData, Unpruned
from yolo_slim.reporting import block_costs, latency

pytest.importorskip("aiohttp", reason="the browser is steered with aiohttp (extra camera)")
pytestmark = [
    pytest.mark.chromium,
    pytest.mark.flaky(reruns=1),
    pytest.mark.skipif(PATH is None, reason="no chromium on this machine (Debian: apt install chromium)"),
    needs_axe,
]


def comparison() -> str:
    """A comparison with a rival, a smaller input and the control."""
    networks = [
        *comparisons.seeds("ours", (0.50, 0.51, 0.505), implementation="ours"),
        *comparisons.seeds("random", (0.40, 0.42, 0.41), implementation="made"),
        *comparisons.seeds("small-input", (0.55, 0.56, 0.555), imgsz=224, implementation="made"),
        comparisons.network("control", maps={comparisons.KEY: 0.6}),
    ]
    by_method = {
        "ours": comparisons.bench(5.0), "random": comparisons.bench(5.2, valid=False, invalid_reasons=("throttled",)),
        "small-input": comparisons.bench(4.0), "control": comparisons.bench(8.0),
    }  # fmt: skip
    return page.render(summarize(comparisons.about(), networks, comparisons.timings(networks, by_method)))


def block(name: str, cost: float, gain: float) -> MeasuredBlock:
    """A block of which half was cut."""
    return MeasuredBlock(
        name=name, map_cost=cost, ms_gain=gain, ms_gain_lowest=gain / 2, ms_gain_highest=2 * gain, ms_control=8.0,
        ms_cut=8.0 - gain, round_ms=RoundMs(control=(8.0, 8.1), cut=(8.0 - gain, 8.1 - gain)), invalid_reasons=(),
        threads=2, map50_95=0.6 - cost, macs_saved=0.05, params_saved=0.04, channels=64, channels_kept=32,
        layers=(f"{name}.cv1",), seconds=1.0,
    )  # fmt: skip


def costs() -> str:
    """A table of two blocks."""
    return block_costs.render(
        BlockCostTable(
            model_sha256="0" * 64,
            removed=0.5,
            criterion="fisher",
            imgsz=320,
            target="host",
            runtime="onnxruntime fp32",
            is_measured_on_target=True,
            machine=DeviceFacts(model="Example Board", arch="x86_64", cores=2),
            measured_at="2026-01-02T03:04:05+00:00",
            command="yolo-slim block-costs",
            versions={},
            data=ScoredData(yaml="data.yaml", split="val", images=200),
            control=Unpruned(model_sha256="0" * 64, map50_95_trained=0.6, map50_95=0.6, macs=100, params=10),
            blocks=(block("model.4", 0.05, 0.4), block("model.22.cv2", 0.01, 0.9)),
        )
    )


def tables() -> str:
    """The latency tables of two runtimes."""
    return latency.render([table(), table(build=BuildName("ncnn", "fp16"))])


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_pages_have_no_fault_of_accessibility(tmp_path: Path, width: int, dark: bool, in_browser: InBrowser) -> None:
    """On a phone and a desk, dark and light; nothing is wider than the window."""
    pages = {"comparison": comparison(), "block-costs": costs(), "latency": tables()}

    async def look(browser: Chromium) -> None:
        tab = await browser.new_tab()
        for name, text in pages.items():
            file = tmp_path / f"{name}.html"
            file.write_text(text, encoding="utf-8")
            await tab.open(file.as_uri(), size=(width, 800), dark=dark)
            await tab.until("!document.querySelector('figure.chart:not([data-drawn])')")
            assert await tab.run("document.documentElement.scrollWidth") <= width, name
            assert await faults(tab) == [], name
        assert tab.problems == []

    in_browser(look)
