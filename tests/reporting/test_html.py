from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.charts import charts
from tests.helpers.results import COOL, SUSTAINED, changed, latency_cut, sides, with_build
from yolo_slim.config import targets
from yolo_slim.devices.answers import DeviceFacts, RuntimeRecord, StageSamples
from yolo_slim.errors import SlimError
from yolo_slim.measuring.control_check import ControlCheck
from yolo_slim.reporting.examples import Example
from yolo_slim.reporting.html import render, write_report
from yolo_slim.runtime.breakdown import NOT_TOLD, PARTS, Breakdown
from yolo_slim.verdict.estimates import estimate_builds
from yolo_slim.verdict.result import ClassAccuracy, Result

VOID = {"meta", "img", "br", "link", "input", "hr"}
RESOURCES = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects text, resources and tag names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.resources: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a tag, open unless it is void."""
        self.tags.append(tag)
        self.resources += [value or "" for key, value in attrs if key in RESOURCES]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a tag that closes itself."""
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text outside the style sheet and the scripts."""
        if not {"style", "script"} & set(self.open):
            self.text += data


def with_classes(result: Result, names: Sequence[str]) -> Result:
    """Return a copy of a result in which every rung has classes of these names."""
    classes = {i: ClassAccuracy(ap50_95=0.5 - i / 1000, ap50=0.75) for i in range(len(names))}
    ladder = tuple(changed(rung, per_class=classes) for rung in result.ladder)
    return changed(result, ladder=ladder, data=changed(result.data, names=dict(enumerate(names))))


def part(page: str, heading: str) -> str:
    """Return a page's section from its heading to the next."""
    return page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]


def test_page_is_well_formed(result: Result, examples: Sequence[Example]) -> None:
    """Tags are balanced, and every section is there once."""
    page = Page(render(result, examples))
    assert page.tags.count("h2") == 11
    assert page.tags.count("img") == 2


def test_unbalanced_page_is_noticed() -> None:
    """Negative control: the check of balance fails on a wrong end tag and on a missing one."""
    for text in ("<div><p></div></p>", "<div>"):
        with pytest.raises(AssertionError):
            Page(text)


def test_page_needs_no_network(result: Result, examples: Sequence[Example]) -> None:
    """Every resource is inline, and the page forbids the browser all others."""
    text = render(result, examples)
    page = Page(text)
    assert page.resources
    assert all(resource.startswith("data:image/jpeg;base64,") for resource in page.resources)
    assert "default-src 'none'" in text
    assert not {"link", "iframe"} & set(page.tags)


def test_page_without_charts_has_no_script(unproven: Result) -> None:
    """Where nothing was timed, the page doesn't carry the library."""
    assert "script" not in Page(render(unproven, [])).tags


def test_equal_input_gives_equal_page(result: Result, examples: Sequence[Example]) -> None:
    """The page depends on its input alone, and leaves it unchanged."""
    before = result.to_json()
    assert render(result, examples) == render(Result.from_json(result.to_json()), examples)
    assert result.to_json() == before


def test_names_are_escaped(result: Result, examples: Sequence[Example]) -> None:
    """Markup in names of classes, rungs, files and notes is shown, not obeyed."""
    result = with_classes(result, ["<b>", "b", "c"])
    rungs = (changed(result.ladder[0], label="<i>rung</i>"), *result.ladder[1:])
    result = changed(result, ladder=rungs, notes=("<u>note</u>",))
    picture = Example(file='"><em>.jpg', truth=1, control=examples[0].control, slim=examples[0].slim)
    text = render(result, [picture])
    page = Page(text)
    assert [shown for shown in ("<i>rung</i>", "<u>note</u>", '"><em>.jpg') if shown not in page.text] == []
    assert not {"u", "em"} & set(page.tags)
    assert "<td>&lt;b&gt;</td>" in part(text, "Per class")
    assert "<b>" not in part(text, "Per class")


def test_two_classes_of_one_name(result: Result) -> None:
    """Each has a row of its own, with its own accuracy."""
    table = part(render(with_classes(result, ["bolt", "bolt", "nut"]), []), "Per class")
    assert table.count("<td>bolt</td>") == 2 * 2
    assert [ap in table for ap in ("0.500", "0.499", "0.498")] == [True] * 3


def test_classes_without_labels_and_the_check_of_the_control(result: Result) -> None:
    """What is unproven for want of labels is said, and how the control was checked."""
    check = ControlCheck(
        split="test", images=48, map50_95=0.51, ultralytics_map50_95=0.52, trained_map50_95=None
    )  # fmt: skip
    data = changed(result.data, names={**result.data.names, 3: "vest"}, unlabelled_classes=(3,))
    page = Page(render(changed(result, control_check=check, data=data), [])).text
    assert "3 of 4 classes occur in the data; the accuracy of the others is unproven" in page
    assert "mAP50-95 0.5100 on 48 test images; by Ultralytics' validator 0.5200" in page
    assert "check of the control" not in Page(render(result, [])).text


def test_every_number_of_the_ladder_is_shown(result: Result) -> None:
    """Accuracies with four decimals, drops with a sign, budgets, and what each rung is compared with."""
    text = Page(part(render(result, []), "Accuracy ladder")).text
    for rung in result.ladder:
        shown = [f"{rung.map50_95:.4f}", f"{rung.map50:.4f}", rung.label, rung.against or "reference"]
        shown += [] if rung.drop is None else [f"{rung.drop:+.4f}".replace("-", "\N{MINUS SIGN}")]
        shown += [] if rung.budget is None else [f"{rung.budget:.4f}"]
        assert [value for value in shown if value not in text] == []


@pytest.mark.parametrize("status", ["pass", "fail", "unproven"])
def test_verdict_is_shown(result: Result, status: str) -> None:
    """The banner names the verdict and the gates that decided it."""
    gates = list(result.verdict.gates)
    gates[2] = changed(gates[2], status=status)
    result = changed(result, verdict=changed(result.verdict, status=status, gates=tuple(gates)))
    banner = render(result, []).split("<section")[1].split("</section>")[0]
    assert f'class="verdict {status}"' in banner
    assert all(gate.name in banner for gate in gates)
    sentence = {
        "pass": "All 6 gates passed",
        "fail": "1 of 6 gates failed: min_fps",
        "unproven": "1 of 6 weren't measured",
    }
    assert sentence[status] in Page(banner.partition(">")[2]).text


def test_what_was_not_measured_is_named(unproven: Result) -> None:
    """Without timings nothing pretends to be a figure: speed is unproven, missing rungs are listed."""
    text = render(unproven, [])
    page = Page(text)
    assert "Speed is unproven: no build was timed." in page.text
    assert "Not measured: recovered, onnx, onnxruntime-fp32, ncnn-fp16." in page.text
    assert page.text.count("unproven: this build was not timed") == 2 * len(unproven.builds)
    assert "None" not in page.text
    assert "nan" not in page.text.split()
    assert not re.search(r"<td[^>]*></td>", text.replace('<td class="text"></td>', ""))


def test_complete_page_has_no_gap(result: Result, examples: Sequence[Example]) -> None:
    """Negative control: a complete result shows nothing as unproven or missing."""
    text = Page(render(result, examples)).text
    assert [word for word in ("unproven", "not measured", "Not measured", "None") if word in text] == []


def test_invalid_timing_shows_its_reasons(result: Result) -> None:
    """A throttled timing is drawn hollow, its reason is given, and the headline doesn't quote it."""
    invalid = {"invalid_reasons": ("throttled", "84 C, at most 80 allowed")}
    text = render(with_build(result, 3, bench=invalid), [])
    assert "invalid: throttled; 84 C, at most 80 allowed" in text
    (scatter, *_) = charts(text)
    assert [scatter.is_hollow(f"{model}/ncnn-fp16") for model in ("control", "slim")] == [False, True]
    assert '<span>FPS</span><b class="missing">unproven</b>' in text


def test_speed_of_another_machine_is_named_so(result: Result) -> None:
    """Speeds that weren't measured on the target say so, and the target's FPS limit isn't drawn over them."""
    assert "FPS limit" in render(result, [])
    elsewhere = changed(result, target=changed(result.target, is_measured=False))
    text = Page(render(elsewhere, [])).text
    assert "on board speed is unproven" in " ".join(text.split())
    assert "unproven on board" in text
    assert "FPS limit" not in text


def test_long_tables_start_closed(result: Result) -> None:
    """36 layers and 80 classes are collapsed, 3 classes are open."""
    page = render(result, [])
    assert "<details open>" in part(page, "Per class")
    assert "<details>" in part(page, "Widths")
    many = [f"class {i}" for i in range(80)]
    assert "<details>" in part(render(with_classes(result, many), []), "Per class")


@pytest.mark.parametrize("key", ["builds", "ladder", "widths", "notes"])
def test_page_of_an_empty_part(result: Result, key: str) -> None:
    """An empty list leaves a page that is whole."""
    assert "Where and how" in Page(render(changed(result, **{key: ()}), [])).text


def test_facts_that_a_device_may_leave_out(result: Result) -> None:
    """Threads, cores and versions are optional."""
    result = changed(result, versions={})
    unknown = {"runtime": RuntimeRecord(), "machine": DeviceFacts()}
    page = render(with_build(result, 3, bench=unknown), [])
    assert "not recorded" in part(page, "Where and how")
    assert "unknown cores" in part(page, "Where and how")


def test_histogram_counts_every_frame(result: Result) -> None:
    """Frames beyond the axis are counted in the last bar and mentioned with the slowest."""
    bench = result.builds[3].bench
    assert bench is not None
    slow = (*bench.samples_ms.total[:-1], 5000.0)
    changes = {"samples_ms": changed(bench.samples_ms, total=slow)}
    text = part(render(with_build(result, 3, bench=changes), []), "Latency of single frames")
    assert "300 frames" in text
    assert "slowest 5000.00 ms (1 in the last bar)" in text


def test_one_sample_is_drawn(result: Result) -> None:
    """A single frame doesn't break the histogram's axis."""
    for index in range(len(result.builds)):
        result = with_build(result, index, bench={"samples_ms": StageSamples(pre=(), infer=(), post=(), total=(12.0,))})
    assert "1 frames, p50 12.00 ms" in part(render(result, []), "Latency of single frames")


def test_write_report_is_whole_or_absent(
    tmp_path: Path, result: Result, examples: Sequence[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is the rendered page; a refused write is explained and leaves no half file."""
    path = tmp_path / "report.html"
    write_report(path, result, examples)
    assert path.read_text(encoding="utf-8") == render(result, examples)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SlimError, match="can't be written"):
        write_report(path, result, [])
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_estimates_have_their_own_section(unproven: Result) -> None:
    """They are called estimated and not measured, with their sources; without any there is no section."""
    found = estimate_builds(targets.load("rpi5"), unproven.builds, unproven.size, unproven.imgsz)
    page = render(changed(unproven, estimates=found), [])
    section = part(page, "Estimated speed on the target")
    assert "not measured, from rows that others published; no gate reads it" in section
    assert "slim/ncnn-fp16" in section
    assert "Arm, model card of Arm Runtime for YOLO26 on Raspberry Pi 5, 2026-09-23" in section
    assert "Estimated" not in render(unproven, [])


def test_the_device_while_it_was_timed(result: Result) -> None:
    """First detection and sensors have a row a build; what isn't known is said, and never a zero."""
    nothing = {"cold_start": None, "sensors": None, "load": None, "after": COOL}
    seen = with_build(result, 0, bench=nothing)
    rows = part(render(seen, []), "The device while it was timed").split("<tr>")[2:]
    assert "<td>554</td><td>50.0 to 82.5</td><td>1500 to 2400</td><td>6.5</td>" in rows[-1]
    assert "<td>0.06</td><td>5.00, 5.20</td>" in rows[-1]
    assert rows[0].count("not readable") == 5
    assert rows[0].count("not measured") == 2


def test_a_sustained_run_has_a_curve(result: Result) -> None:
    """The winner's minutes are drawn and said, with what the board did to protect itself."""
    plain, found = render(result, []), render(result.with_sustained(SUSTAINED), [])
    assert len(charts(found)) == len(charts(plain)) + 1
    assert "16.0 FPS in the first 30 s, 12.0 in the last (75%)" in Page(found).text
    assert "soft temperature limit during the run" in Page(found).text
    busy = replace(SUSTAINED, invalid_reasons=("other processes used 2.9 of 4 cores during the run",))
    assert "Invalid: other processes" in Page(render(result.with_sustained(busy), [])).text


def test_where_the_time_goes(result: Result) -> None:
    """Every build has its parts beside each other; a runtime that tells no more has its inference in one row."""
    assert "Where the time goes" not in render(result, [])
    shares = {"convolutions": 0.75, "copies": 0.25}
    told = Breakdown(frames=30, shares=shares, frame_ms=90.0, covered=0.96)
    found = with_build(with_build(result, 0, bench={"breakdown": told}), 1, bench={"breakdown": NOT_TOLD})
    rows = part(render(found, []), "Where the time goes").split("<tr>")[3:]
    assert [row.split("</td>")[0] for row in rows] == [
        f"<td>{PARTS[key]}" for key in ("pre", "inference", *shares, "post")
    ]
    assert rows[1].count('<td class="edge"></td><td></td>') == rows[2].count('<td class="edge"></td><td></td>') == 1
    assert "control/onnxruntime-fp32 96%" in Page(render(found, [])).text


def test_input_sides(result: Result, examples: Sequence[Example]) -> None:
    """Table and chart have every side that was tried, the winner with a ring; without any there is no section."""
    assert "<h2>Input sides</h2>" not in render(result, examples)
    found = part(render(changed(result, sides=sides()), examples), "Input sides")
    for text in ("9.10", "stopped after one epoch: 1 was better", "won: the highest mAP", "0.5200", "55%"):
        assert text in found
    (chart,) = charts(found)
    assert chart.points("after 1 epoch")["x"] == [320, 256]
    assert chart.points("after 3 epochs")["y"] == pytest.approx([0.52])
    assert chart.points("winner")["x"] == [256]


def test_builds_that_a_cut_could_be_made_for(result: Result, examples: Sequence[Example]) -> None:
    """Each has its narrowest network and its loss, or why not; with one build there is no such table (control)."""
    found = part(render(changed(result, latency=latency_cut()), examples), "Budget in milliseconds")
    for text in ("chosen: it loses least", "can&#39;t reach it", "9.20", "int8 is not timed", "7.88"):
        assert text in found
    alone = latency_cut(choices=latency_cut().choices[:1], without_table={})
    page = render(changed(result, latency=alone), examples)
    assert "pruned as far as possible" not in part(page, "Budget in milliseconds")
