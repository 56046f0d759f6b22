"""The pages of the dashboard: what they say, what they refuse, and that nothing leads elsewhere."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.helpers.charts import charts
from tests.helpers.cli import run_cli
from tests.helpers.dashboards import LESS_ACCURATE, NIGHTS, SLOWER, Written
from tests.helpers.histories import Planted, cells, write_history
from yolo_slim.errors import SlimError
from yolo_slim.history.rows import Source
from yolo_slim.history.store import History
from yolo_slim.reporting.dashboard.board import read
from yolo_slim.reporting.dashboard.site import MANIFEST, write_dashboard

WORDS = re.compile(r"<[^>]+>")


def text_of(page: str) -> str:
    """A page without its tags."""
    return " ".join(unescape(WORDS.sub(" ", page)).split())


def pairs_of(page: str) -> Any:
    """What the page of two runs knows of pictures."""
    (found,) = re.findall(r"window\.pairs = (.*);</script>", page)
    return json.loads(found)


def test_first_page_names_what_became_worse(written: Written) -> None:
    """The head counts the worse cells, and each is named with its reason."""
    page = written.page("index.html")
    worse = [one for one in written.board.cells if one.status == "worse"]
    assert {one.cell.build for one in worse} == {"ncnn-fp16", "onnxruntime-int8"}
    assert f"Night {NIGHTS}: {len(worse)} of 5 cells worse" in page
    for one in worse:
        assert one.last.judgement is not None
        assert f"{one.cell.name} ▼ worse {one.last.judgement.reason}" in text_of(page)


def test_cells_that_were_not_compared_are_counted(tmp_path: Path) -> None:
    """A first night has no baselines: none of its cells is worse, and none was compared."""
    write_history(tmp_path / "history.sqlite", nights=1, cells=cells(2))
    with History.open(tmp_path / "history.sqlite") as history:
        write_dashboard(history, tmp_path / "site")
    assert "0 of 2 cells worse, 2 not compared" in (tmp_path / "site" / "index.html").read_text()


def test_every_link_leads_to_a_file_of_the_folder(written: Written) -> None:
    """Nothing is fetched from elsewhere, and no page is missing."""
    pages = [*written.folder.glob("*.html")]
    assert len(pages) == 1 + 5 + 2 + 1
    for page in pages:
        links = re.findall(r'(?:src|href)="([^"]*)"', page.read_text(encoding="utf-8"))
        assert links
        missing = [link for link in links if not (written.folder / unquote(link.partition("#")[0])).is_file()]
        assert missing == []


def test_trend_has_every_night_with_its_own_answer(written: Written) -> None:
    """The speed of a cell that became slower is worse from that night on; its accuracy stays the same."""
    speed, accuracy, *_ = charts(written.cell("rpi5/ncnn-fp16"))
    nights = [int(re.findall(r"night (\d+)", tip)[0]) for tip in speed.points("worse")["tip"]]
    assert nights == list(range(SLOWER, NIGHTS + 1))
    assert "worse" not in accuracy.series
    line = speed.glyph("line", "Line")
    assert len(line["x"]) == NIGHTS - 1  # The first night has no baseline.
    assert line["x"] == sorted(line["x"])
    assert all(5 < y < 8 for y in speed.points("worse")["y"])


def test_level_change_is_dated(written: Written) -> None:
    """A line marks the night from which the cell was slower."""
    pytest.importorskip("ruptures", reason="change points need the package ruptures")
    speed, *_ = charts(written.cell("rpi5/ncnn-fp16"))
    places = [one["attributes"]["location"] for one in speed.spans("level changed")]
    assert places == [written.board.times[SLOWER]]


def test_without_ruptures_the_pages_say_what_is_missing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Level changes aren't marked, and no note speaks of dashed lines; with the package no page asks for it."""
    pages = ("cell-*.html", "device-*.html")
    for is_there in (True, False):
        if not is_there:
            monkeypatch.setitem(sys.modules, "ruptures", None)
        elif find_spec("ruptures") is None:
            continue
        with History.open(small) as history:
            write_dashboard(history, tmp_path / "site")
        for page in (next((tmp_path / "site").glob(one)).read_text(encoding="utf-8") for one in pages):
            assert ("Dashed: where the level" in text_of(page)) == is_there
            assert ('pip install "yolo-slim[nightly]"' in text_of(page)) != is_there


def test_events_are_on_the_time_axis(written: Written) -> None:
    """Commits, new weights and the baseline are markers at their nights."""
    speed, *_ = charts(written.cell("onnxruntime-int8"))
    (tip,) = speed.points("weights, data, settings")["tip"]
    assert tip.startswith(f"night {LESS_ACCURATE}, ")
    assert "weights: " in tip
    assert speed.points("baseline")["x"] == [written.board.times[1]]
    assert speed.points("commit")["x"] == [written.board.times[night] for night in (3, 6, 9, 12)]


def test_images_that_got_worse_are_side_by_side(written: Written) -> None:
    """They lost most first, with their own accuracy, and both pictures are there."""
    page = written.cell("onnxruntime-int8")
    pictures = re.findall(r'<img loading="lazy" src="([^"]*)"', page)
    assert len(pictures) == 2 * 2
    assert "002.jpg: mAP50-95 of this image 0.995 → 0.497." in text_of(page)
    assert "None is shown" in written.cell("rpi5/onnxruntime-fp32")


def test_pictures_are_on_the_page_of_two_runs_too(written: Written) -> None:
    """That page knows the pair of nights that has pictures; the cell's page leads to it."""
    pairs = pairs_of(written.page("diff.html"))
    assert all(pair["nights"] == [1, NIGHTS] for pair in pairs.values())
    (cell,) = [name for name, pair in pairs.items() if pair["images"]]
    images = pairs[cell]["images"]
    assert {one["name"] for one in images} == {"002.jpg", "003.jpg"}
    assert images[0]["after"] < images[0]["before"]
    assert all((written.folder / file).is_file() for one in images for file in one["pictures"])
    assert f'href="diff.html#{cell}&amp;1&amp;{NIGHTS}"' in written.cell("onnxruntime-int8")


def test_a_first_night_has_no_pair(tmp_path: Path) -> None:
    """Its runs are the baselines: there is nothing to compare them with."""
    write_history(tmp_path / "history.sqlite", nights=1, cells=cells(1))
    with History.open(tmp_path / "history.sqlite") as history:
        write_dashboard(history, tmp_path / "site")
    pairs = pairs_of((tmp_path / "site" / "diff.html").read_text(encoding="utf-8"))
    assert [pair["nights"] for pair in pairs.values()] == [None]


def test_names_are_escaped(written: Written) -> None:
    """A class name with markup is shown, not obeyed."""
    page = written.cell("rpi5/ncnn-fp16")
    assert "&lt;b&gt;cone&lt;/b&gt;" in page
    assert "<b>cone" not in page.replace("\\u003c", "")


def test_differences_write_equal_facts_once(written: Written) -> None:
    """The data of the page that compares two runs: every run, each group of settings once, and the widths."""
    script = written.page("runs.js")
    data = json.loads(script.removeprefix("window.runs=").rstrip(";\n"))
    assert sum(len(cell["runs"]) for cell in data["cells"]) == 5 * NIGHTS
    numbers = {run["settings"] for cell in data["cells"] for run in cell["runs"]}
    assert len(numbers) == 2
    assert [data["facts"][number]["imgsz"] for number in numbers] == ["640", "640"]
    assert len(data["widths"]) == 5


def test_device_page_tells_the_device_from_its_bundles(written: Written) -> None:
    """It shows the references' own latency, the cells and the environment."""
    page = written.page(written.board.cells[0].device_page)
    moved, fps = charts(page)
    assert "reference" in moved.root["left"][0]["attributes"]["axis_label"]
    assert len([name for name in fps.series if "hardhat" in name]) == len(
        [one for one in written.board.cells if one.cell.target == written.board.cells[0].cell.target]
    )
    assert "onnxruntime 1.31.0" in text_of(page)


def test_device_page_has_events_on_the_time_axis(tmp_path: Path) -> None:
    """A new SDK is a marker at its night, in both charts."""
    path = tmp_path / "history.sqlite"
    write_history(path, nights=42, cells=cells(1))
    with History.open(path) as history:
        write_dashboard(history, tmp_path / "site")
        board = read(history)
    page = (tmp_path / "site" / board.cells[0].device_page).read_text(encoding="utf-8")
    for chart in charts(page):
        marks = chart.points("device, SDKs")
        assert marks["x"] == [board.times[41]]
        assert marks["tip"][0].startswith("night 41, device, SDKs\n")


def test_timings_that_do_not_count_are_marked_on_the_device_page(tmp_path: Path) -> None:
    """They are hollow marks outside the line, with their reason."""
    path = tmp_path / "history.sqlite"
    write_history(path, nights=3, cells=cells(1))
    with History.open(path) as history:
        last = history.runs()[-1]
        assert last.measurement is not None
        speed = last.measurement.speed.model_copy(update={"invalid_reasons": ("throttled during the run",)})
        facts = last.model_copy(update={"measurement": last.measurement.model_copy(update={"speed": speed})}).to_json()
        kept = {key: value for key, value in facts.items() if key not in ("night", "judgement")}
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE run SET facts = ? WHERE uid = ?", (json.dumps(kept), last.uid))
        connection.close()
        write_dashboard(history, tmp_path / "site")
        page = read(history).cells[0].device_page
    fps = charts((tmp_path / "site" / page).read_text(encoding="utf-8"))[-1]
    assert "doesn't count" in fps.series
    assert fps.is_hollow("doesn't count")
    assert "throttled during the run" in str(fps.points("doesn't count"))


def test_dashboard_by_the_command_line(small: Path, tmp_path: Path) -> None:
    """It writes the pages and says where they open; without a history it says what to run first."""
    out = tmp_path / "site"
    code, text, err = run_cli("nightly", "dashboard", "--history", str(small), "--out", str(out))
    assert code == 0, err
    assert text.splitlines()[-1] == f"open {out / 'index.html'}"
    assert (out / "index.html").is_file()
    code, text, _ = run_cli("nightly", "dashboard", "--history", str(small), "--out", str(out), "--json")
    value = json.loads(text)
    assert (code, value["nights"], value["cells"]) == (0, 2, 1)
    code, _, err = run_cli("nightly", "dashboard", "--history", str(tmp_path / "none.sqlite"), "--out", str(out))
    assert (code, "Run a night first" in err, "Traceback" in err) == (2, True, False)


def test_equal_histories_give_equal_pages(written: Written, tmp_path: Path) -> None:
    """Writing again changes no byte."""
    with History.open(written.history) as history:
        write_dashboard(history, tmp_path / "again")
    for path in written.folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(written.folder)).read_bytes(), path.name


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a history of two nights and one cell."""
    write_history(tmp_path / "small.sqlite", nights=2, cells=cells(1))
    return tmp_path / "small.sqlite"


def test_foreign_folder_is_left_alone(small: Path, tmp_path: Path) -> None:
    """What isn't a dashboard is never replaced; an older dashboard is, as a whole."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with History.open(small) as history:
        with pytest.raises(SlimError, match="something else than a dashboard"):
            write_dashboard(history, folder)
        assert (folder / "thesis.txt").read_text() == "mine"
        (folder / MANIFEST).write_text("{}")
        site = write_dashboard(history, folder)
    assert site.index.is_file()
    assert not (folder / "thesis.txt").exists()


@pytest.mark.parametrize(("cwd", "given"), [("site", "."), ("site", ""), ("site/images", ".."), ("site", "../site")])
def test_working_folder_is_left_alone(
    cwd: str, given: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that a shell is in isn't replaced, empty or with an older dashboard; from elsewhere it is (control)."""
    site, words = tmp_path / "site", ("nightly", "dashboard", "--history", str(small), "--out")
    (tmp_path / cwd).mkdir(parents=True)
    (site / MANIFEST).write_text("{}")
    monkeypatch.chdir(tmp_path / cwd)
    code, _, err = run_cli(*words, given)
    assert (code, err.splitlines()) == (
        2, [f"error: The dashboard would replace the working folder: {site}.",
            f"Give a folder of its own, such as --out {Path(given) / 'dashboard'}."],
    )  # fmt: skip
    assert (site / MANIFEST).read_text() == "{}"
    monkeypatch.chdir(tmp_path)
    assert run_cli(*words, "no/../site")[0] == 0
    assert (site / "index.html").is_file()


def test_failed_writing_leaves_the_old_dashboard(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle: the pages of yesterday stay, and nothing half-written beside them."""
    folder = tmp_path / "out" / "site"
    with History.open(small) as history:
        write_dashboard(history, folder)
        before = (folder / "index.html").read_text(encoding="utf-8")

        def full(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(SlimError, match="space"):
            write_dashboard(history, folder)
    assert (folder / "index.html").read_text(encoding="utf-8") == before
    assert [path.name for path in folder.parent.iterdir()] == ["site"]


def test_history_without_a_night(tmp_path: Path) -> None:
    """There is nothing to show, and the error says what to do."""
    with History.open(tmp_path / "new.sqlite", create=True) as history, pytest.raises(SlimError, match="no night"):
        write_dashboard(history, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_clock_that_went_backwards(tmp_path: Path) -> None:
    """Nights stay in the order of their numbers on the time axis."""
    path = tmp_path / "history.sqlite"
    write_history(path, nights=3, cells=cells(1))
    from yolo_slim.reporting.dashboard.board import read

    with History.open(path) as history:
        (first, second, third) = history.nights()
        early = second.model_copy(update={"started_at": "2020-01-01T00:00:00+00:00"})
        board = read(history)
        moved = type(board)((first, early, third), board.cells)
    times = [moved.times[number] for number in (1, 2, 3)]
    assert times == sorted(times)
    assert len(set(times)) == 3


def test_answers_of_an_earlier_night_are_not_the_last_ones(tmp_path: Path) -> None:
    """A night that was stopped before its first cell has no worse cell; the newest answers name their night."""
    path = tmp_path / "history.sqlite"
    planted = [Planted(4, latency=0.2, cells=lambda _: True)]
    write_history(path, nights=4, cells=cells(2), planted=planted)
    with History.open(path) as history:
        history.begin_night("stopped", "matrix", Source(), kind="night")
        write_dashboard(history, tmp_path / "site")
    page = text_of((tmp_path / "site/index.html").read_text(encoding="utf-8"))
    assert "Night 5: no cell is recorded yet" in page
    assert "2 of 2 cells have nothing of this night" in page
    assert page.count("▼ worse night 4") == 4


def test_nights_outside_a_repository(tmp_path: Path) -> None:
    """The page of differences says so in whole words."""
    path = tmp_path / "history.sqlite"
    write_history(path, nights=1, cells=cells(1))
    with History.open(path) as history:
        with history.writing():
            history.add_end(history.nights()[0].model_copy(update={"source": Source()}))
        write_dashboard(history, tmp_path / "site")
    assert '"commit":"no repository"' in (tmp_path / "site/runs.js").read_text(encoding="utf-8")


def test_pages_name_no_folder_of_this_machine(written: Written) -> None:
    """Pages are published: an image is named by its file alone. Control: the history knows its folder."""
    with History.open(written.history) as history:
        found = [history.matches(run) for run in history.runs(night=NIGHTS)]
    folders = {str(Path(file).parent) for matches in found if matches for file in matches.files}
    assert all(Path(folder).is_absolute() for folder in folders)
    assert folders
    pages = [path for path in written.folder.iterdir() if path.suffix in {".html", ".js", ".json"}]
    assert any(Path(file).name in page.read_text() for matches in found if matches for file in matches.files
               for page in pages if page.suffix == ".html")  # fmt: skip
    assert not [page.name for page in pages for folder in folders if folder in page.read_text()]
