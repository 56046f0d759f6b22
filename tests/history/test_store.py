"""The history's file: what is recorded stays, is there once, and every refusal says why."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import run_cli
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.history import exchange, schema, store
from yolo_slim.history.rows import Cell, Judgement, Night, Run, Source
from yolo_slim.history.store import History

CELL = Cell(model="m", data="d", settings="s", target="t", build="ncnn-fp16")
PARTS = {"result": {"a": [1, 2]}, "timing": {"b": 3}}


def run_of(night: Night, uid: str, build: str = "ncnn-fp16") -> Run:
    """A run that failed: the least that one says."""
    cell = CELL.model_copy(update={"build": build})
    return Run(uid=uid, night=night.number, cell=cell, state="failed", recorded_at="2026-01-01", error="why")


def begin(history: History, uid: str = "night") -> Night:
    """Begin a night."""
    return history.begin_night(uid, "matrix", Source(commit="c0ffee"), kind="night")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the history is."""
    return tmp_path / "folder" / "history.sqlite"


def test_what_is_recorded_is_read_back(path: Path) -> None:
    """A night, its run with large parts, judgement and baseline come back equal from another process's view."""
    with History.open(path, create=True) as history:
        night = begin(history)
        run = run_of(night, "r1")
        assert history.record(run, PARTS)
        judgement = Judgement(status="failed", reason="why", baseline=None)
        history.end_night(night, {"r1": judgement}, {"r1": "first night"})
    with History.open(path) as history:
        (found,) = history.nights()
        assert (found.number, found.source.commit) == (1, "c0ffee")
        assert found.ended_at is not None
        assert history.runs() == [run.model_copy(update={"judgement": judgement})]
        assert history.payload("r1", "result") == PARTS["result"]
        baseline = history.baseline(CELL.name)
        assert baseline is not None
        assert (baseline.run, baseline.reason, baseline.night) == ("r1", "first night", 1)


def test_a_cell_is_recorded_once_a_night(path: Path) -> None:
    """The second record of the same cell changes nothing, and says so."""
    with History.open(path, create=True) as history:
        night = begin(history)
        assert history.record(run_of(night, "r1"), PARTS)
        assert not history.record(run_of(night, "r1"), {"result": {"other": 1}})
        assert not history.record(run_of(night, "r2"), {"result": {"other": 1}})
        assert [run.uid for run in history.runs()] == ["r1"]
        assert history.payload("r1", "result") == PARTS["result"]


def test_equal_parts_are_stored_once(path: Path) -> None:
    """A night in which nothing changed doesn't store the result again."""
    with History.open(path, create=True) as history:
        for number in range(3):
            history.record(run_of(begin(history, f"n{number}"), f"r{number}"), {"result": PARTS["result"]})
        assert history.payload("r2", "result") == PARTS["result"]
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT COUNT(*) FROM blob").fetchone() == (1,)


def test_nights_are_ordered_by_number_not_by_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back doesn't put tonight before yesterday."""
    with History.open(path, create=True) as history:
        for uid, time in (("a", "2026-05-02T00:00:00+00:00"), ("b", "2020-01-01T00:00:00+00:00")):
            monkeypatch.setattr(store, "now", lambda time=time: time)
            begin(history, uid)
        assert [(night.uid, night.number) for night in history.nights()] == [("a", 1), ("b", 2)]


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    """A part that can't be written takes its run with it: no half of a cell is ever recorded."""
    with History.open(path, create=True) as history:
        night = begin(history)
        unknown_night = run_of(night, "r1").model_copy(update={"night": 99})
        with pytest.raises(SlimError):
            history.record(unknown_night, PARTS)
        assert history.runs() == []
        assert history.record(run_of(night, "r1"), PARTS)


def test_two_writers(path: Path) -> None:
    """Two connections that write at once both get everything in."""
    History.open(path, create=True).close()

    def write(name: str) -> None:
        with History.open(path) as history:
            night = begin(history, name)
            for number in range(10):
                history.record(run_of(night, f"{name}{number}", f"b{number}"), {"result": {"x": number}})

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with History.open(path) as history:
        assert len(history.runs()) == 20
        assert sorted(night.number for night in history.nights()) == [1, 2]


def test_missing_history(path: Path) -> None:
    """Reading what isn't there makes no empty file."""
    with pytest.raises(SlimError, match="no history"):
        History.open(path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"this is no database at all, " * 50, b"\x00" * 4096])
def test_damaged_history(path: Path, content: bytes) -> None:
    """A file that is something else is refused and left as it is."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SlimError, match="damaged"):
        History.open(path, create=True)
    assert path.read_bytes() == content


def test_overwritten_pages(path: Path) -> None:
    """A file that was damaged in the middle is named as such when it is read."""
    with History.open(path, create=True) as history:
        night = begin(history)
        for number in range(40):
            history.record(run_of(night, f"r{number}", f"b{number}"), {"result": {"x": "y" * 500 + str(number)}})
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(size - 4096))
    with pytest.raises(SlimError, match="damaged"), History.open(path) as history:
        history.runs()


def test_locked_history(path: Path) -> None:
    """Who waits in vain for another writer is told so; afterwards everything works."""
    with History.open(path, create=True) as first, History.open(path, patience_s=0.1) as second:
        with first.writing(), pytest.raises(MachineError, match="locked"):
            begin(second)
        assert begin(second).number == 1


def test_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up loses the cell that was being recorded and nothing else."""
    with History.open(path, create=True) as history:
        night = begin(history)
        history.record(run_of(night, "r1"), PARTS)
    connect = sqlite3.connect

    def small(*given: Any, **settings: Any) -> sqlite3.Connection:
        connection = connect(*given, **settings)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with History.open(path) as history:
        noise = {"result": {"x": os.urandom(100_000).hex()}}
        with pytest.raises(MachineError, match="disk is full"):
            history.record(run_of(night, "r2", "onnxruntime-fp32"), noise)
        assert [run.uid for run in history.runs()] == ["r1"]
    monkeypatch.undo()
    with History.open(path) as history:
        assert history.record(run_of(night, "r2", "onnxruntime-fp32"), noise)


def test_newer_schema_is_refused(path: Path) -> None:
    """A history of a newer version isn't touched."""
    History.open(path, create=True).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    with pytest.raises(SlimError, match="newer version"):
        History.open(path)


def test_older_schema_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next schema's step runs once, and a copy from before lies beside the file."""
    with History.open(path, create=True) as history:
        history.record(run_of(begin(history), "r1"), PARTS)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "ALTER TABLE night ADD COLUMN place TEXT"))
    for _ in range(2):
        with History.open(path) as history:
            assert [run.uid for run in history.runs()] == ["r1"]
    (copy,) = path.parent.glob(f"*.schema{len(schema.STEPS) - 1}")
    monkeypatch.undo()
    with History.open(copy) as history:
        assert history.payload("r1", "result") == PARTS["result"]


def test_failed_step_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that stops in the middle leaves the schema of before."""
    History.open(path, create=True).close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, "CREATE TABLE a (b); CREATE TABLE a (b)"))
        with pytest.raises(MachineError):
            History.open(path)
    with History.open(path) as history:
        assert history.nights() == []


def filled(path: Path, uid: str = "night") -> History:
    """A history of one night with a run and its baseline."""
    history = History.open(path, create=True)
    night = begin(history, uid)
    history.record(run_of(night, f"run of {uid}"), PARTS)
    history.end_night(night, {}, {f"run of {uid}": "first night"})
    return history


def test_export_and_import(tmp_path: Path) -> None:
    """An empty history gets everything; a second import adds nothing."""
    out = tmp_path / "all.jsonl"
    with filled(tmp_path / "a.sqlite") as source, History.open(tmp_path / "b.sqlite", create=True) as target:
        assert exchange.export(source, out) == 1
        assert dict(exchange.read_in(target, out).added) == {"night": 1, "run": 1, "baseline": 1}
        assert not any(exchange.read_in(target, out).added.values())
        assert (target.nights(), target.runs()) == (source.nights(), source.runs())
        assert target.payload("run of night", "timing") == PARTS["timing"]
        assert [one.reason for one in target.baselines()] == ["first night"]


def test_import_into_a_history_with_nights(tmp_path: Path) -> None:
    """A night whose number is taken gets the next one, and keeps its runs."""
    out = tmp_path / "all.jsonl"
    with filled(tmp_path / "a.sqlite", "theirs") as source, filled(tmp_path / "b.sqlite", "ours") as target:
        exchange.export(source, out)
        exchange.read_in(target, out)
        assert {(night.uid, night.number) for night in target.nights()} == {("ours", 1), ("theirs", 2)}
        assert target.run("run of theirs").night == 2


@pytest.mark.parametrize("change", ["cut", "not json", "headless", "no history"])
def test_damaged_export(tmp_path: Path, change: str) -> None:
    """A damaged file is named with its line, and nothing of it is kept."""
    out = tmp_path / "all.jsonl"
    with filled(tmp_path / "a.sqlite") as source:
        exchange.export(source, out)
    lines = out.read_text().splitlines()
    text = {
        "cut": "\n".join(lines)[:-40],
        "not json": "\n".join([*lines[:2], "{"]),
        "headless": "\n".join(lines[1:]),
        "no history": json.dumps({"a": 1}),
    }[change]
    out.write_text(text)
    with History.open(tmp_path / "b.sqlite", create=True) as target:
        with pytest.raises(SlimError, match="line"):
            exchange.read_in(target, out)
        assert target.nights() == []


def test_newer_export_is_refused(tmp_path: Path) -> None:
    """A newer version's file isn't guessed at."""
    out = tmp_path / "all.jsonl"
    out.write_text(json.dumps({"kind": "history", "schema": 99}) + "\n")
    with History.open(tmp_path / "b.sqlite", create=True) as target, pytest.raises(SlimError, match="newer"):
        exchange.read_in(target, out)


def test_export_that_lacks_its_end(tmp_path: Path) -> None:
    """A file that was cut off between two lines, or is empty, isn't taken for a whole one."""
    out = tmp_path / "all.jsonl"
    with filled(tmp_path / "a.sqlite") as source:
        exchange.export(source, out)
    lines = out.read_text().splitlines(keepends=True)
    with History.open(tmp_path / "b.sqlite", create=True) as target:
        for count in range(len(lines)):
            out.write_text("".join(lines[:count]))
            with pytest.raises(SlimError, match="cut off"):
                exchange.read_in(target, out)
        assert target.nights() == []


def test_import_of_a_night_that_went_on(tmp_path: Path) -> None:
    """A night that was exported while it ran is completed by a later export of it."""
    out = tmp_path / "all.jsonl"
    with (
        History.open(tmp_path / "a.sqlite", create=True) as source,
        History.open(tmp_path / "b.sqlite", create=True) as target,
    ):
        night = begin(source)
        source.record(run_of(night, "r1"), PARTS)
        exchange.export(source, out)
        exchange.read_in(target, out)
        source.record(run_of(night, "r2", "ncnn-int8"), PARTS)
        judgement = Judgement(status="failed", reason="why", baseline=None)
        source.end_night(night, {"r1": judgement, "r2": judgement}, {})
        exchange.export(source, out)
        exchange.read_in(target, out)
        assert (target.nights(), target.runs()) == (source.nights(), source.runs())


def test_import_of_a_baseline_without_its_run(tmp_path: Path) -> None:
    """The file that was imported is named as damaged, not the history."""
    out = tmp_path / "all.jsonl"
    with filled(tmp_path / "a.sqlite") as source:
        exchange.export(source, out)
    lines = [line for line in out.read_text().splitlines() if '"kind":"run"' not in line]
    out.write_text("\n".join(lines) + "\n")
    with (
        History.open(tmp_path / "b.sqlite", create=True) as target,
        pytest.raises(SlimError, match=r"all\.jsonl, line"),
    ):
        exchange.read_in(target, out)


def test_database_of_another_program(path: Path) -> None:
    """It is refused, and nothing is written into it."""
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE experiments (a)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(SlimError, match="no history"):
        History.open(path)
    assert path.read_bytes() == content


def test_damaged_part_of_a_run(path: Path) -> None:
    """Bytes that changed on the disk are named as such: SQLite itself doesn't notice them."""
    filled(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE blob SET content = ?", [b"damaged"])
    connection.close()
    with History.open(path) as history, pytest.raises(SlimError, match="damaged"):
        history.payload("run of night", "timing")


@pytest.mark.parametrize("content", ["itself", "gz", "text", "cut", "deep", "utf-16"])
def test_import_of_no_export(content: str, path: Path, tmp_path: Path) -> None:
    """A database, a compressed or damaged export and other text are refused; no history and no folder is left.

    A history that is there stays as it is, and the export itself is read (control).
    """
    out, source = tmp_path / "all.jsonl", tmp_path / "given"
    with filled(tmp_path / "a.sqlite") as history:
        exchange.export(history, out)
    source.write_bytes({
        "itself": (tmp_path / "a.sqlite").read_bytes(),
        "gz": gzip.compress(out.read_bytes()),
        "text": b"# notes\n",
        "cut": b"".join(out.read_bytes().splitlines(keepends=True)[:2]),
        "deep": b"[" * 100_000,
        "utf-16": out.read_text().encode("utf-16"),
    }[content])  # fmt: skip
    code, text, err = run_cli("nightly", "import", str(source), "--history", str(path))
    assert (code, text, path.parent.exists()) == (2, "", False), err
    assert err.startswith(f"error: {source}")
    assert exchange.AGAIN in err
    assert run_cli("nightly", "import", str(out), "--history", str(path))[0] == 0
    assert run_cli("nightly", "import", str(source), "--history", str(path))[0] == 2
    with History.open(path) as history:
        assert [night.uid for night in history.nights()] == ["night"]


def test_import_from_a_pipe(path: Path, tmp_path: Path) -> None:
    """What can be read only once, such as the output of ssh, makes a new history too."""
    out, pipe = tmp_path / "all.jsonl", tmp_path / "pipe"
    with filled(tmp_path / "a.sqlite") as history:
        exchange.export(history, out)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(out.read_bytes()), daemon=True)
    writer.start()
    code, _, err = run_cli("nightly", "import", str(pipe), "--history", str(path))
    writer.join(10)
    assert (code, err) == (0, "")
    with History.open(path) as history:
        assert [night.uid for night in history.nights()] == ["night"]


@pytest.mark.parametrize("name", ["history.sqlite", "link", "weights.pt", "empty", "notes.jsonl", "other.json"])
def test_export_replaces_nothing_of_the_users(name: str, tmp_path: Path) -> None:
    """Neither the history itself nor any file that isn't an earlier export; an earlier one is replaced (control)."""
    filled(tmp_path / "history.sqlite").close()
    (tmp_path / "link").symlink_to("history.sqlite")
    for other, content in (("weights.pt", b"\x80PK"), ("empty", b""), ("notes.jsonl", b'{"kind":"note"}\n')):
        (tmp_path / other).write_bytes(content)
    (tmp_path / "other.json").write_text("[1]")
    before = (tmp_path / name).read_bytes()
    words = ("nightly", "export", "--history", str(tmp_path / "history.sqlite"))
    code, text, err = run_cli(*words, str(tmp_path / name))
    assert (code, text, (tmp_path / name).read_bytes()) == (2, "", before)
    what = "is the history itself" if name in ("history.sqlite", "link") else "is no exported history"
    assert what in err
    for _ in range(2):
        assert run_cli(*words, str(tmp_path / "all.jsonl"))[:2] == (0, f"written: {tmp_path / 'all.jsonl'}, 1 runs\n")


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ("no/deep/x", ["There is no folder no/deep ({label} no/deep/x).", "Make it first: mkdir -p no/deep"]),
        ("file/x", ["file is a file, not a folder ({label} file/x).", "Name a file in a folder."]),
    ],
)
def test_files_in_no_folder(place: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is named with what makes it, and not a temporary file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    filled(tmp_path / "history.sqlite").close()
    words = ("nightly", "export", "--history", "history.sqlite", place)
    for typed, label in ((words, "OUT"), (("nightly", "init", "--out", place), "--out")):
        code, text, err = run_cli(*typed)
        assert (code, text) == (2, "")
        assert err.splitlines() == [f"error: {lines[0].format(label=label)}", lines[1]]
    (tmp_path / "no/deep").mkdir(parents=True)
    assert run_cli("nightly", "init", "--out", "no/deep/x")[0] == 0


def test_import_of_a_missing_file(path: Path) -> None:
    """It is refused, and no empty history is left."""
    code, _, err = run_cli("nightly", "import", str(path.with_name("none.jsonl")), "--history", str(path))
    assert (code, "File not found" in err, path.exists()) == (2, True, False)
