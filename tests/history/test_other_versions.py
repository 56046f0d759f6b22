"""Histories that an earlier or a newer yolo_slim wrote."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.histories import cells, write_history
from tests.helpers.results import complete_result
from yolo_slim.errors import SlimError
from yolo_slim.history import exchange
from yolo_slim.history.store import History
from yolo_slim.reporting.dashboard.site import write_dashboard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A history of three nights of one cell; the first one has a result."""
    written = tmp_path / "history.sqlite"
    write_history(written, nights=3, cells=cells(1), result=complete_result().to_json())
    return written


def change(path: Path, table: str, change: dict[str, Any], *without: str, version: int | None = None) -> None:
    """Change the facts of every row of a table."""
    connection = sqlite3.connect(path)
    with connection:
        for key, facts in connection.execute(f"SELECT uid, facts FROM {table}").fetchall():
            kept = {name: value for name, value in json.loads(facts).items() if name not in without}
            connection.execute(f"UPDATE {table} SET facts = ? WHERE uid = ?", (json.dumps({**kept, **change}), key))
        if version is not None:
            connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


@pytest.mark.parametrize("table", ["night", "run"])
def test_facts_of_a_newer_version(path: Path, table: str) -> None:
    """They are named as such by every command, without a traceback."""
    change(path, table, {"fact_of_tomorrow": 1})
    for words in (("log",), ("show", "1"), ("diff", "1", "2"), ("dashboard", "--out", str(path.parent / "site"))):
        code, _, err = run_cli("nightly", *words, "--history", str(path))
        assert (code, "Traceback" in err) == (2, False)
        assert "a newer version wrote them" in err
        assert "fact_of_tomorrow" in err
        assert "Update yolo_slim" in err


@pytest.mark.parametrize(("table", "version"), [("run", 1), ("run", None), ("night", None)])
def test_facts_that_are_no_json(path: Path, table: str, version: int | None) -> None:
    """A row that was cut off on the disk is one clear error, also where the file is of an earlier schema."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f"UPDATE {table} SET facts = substr(facts, 1, 20) WHERE rowid = 1")
        if version is not None:
            connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    code, _, err = run_cli("nightly", "log", "--history", str(path))
    assert (code, "night 1 is damaged" in err, "Traceback" in err) == (2, True, False)


def test_damaged_facts(path: Path) -> None:
    """A value of a wrong kind is no newer version's."""
    change(path, "run", {"recorded_at": 7})
    code, _, err = run_cli("nightly", "log", "--history", str(path))
    assert (code, "is damaged" in err, "newer" in err, "Traceback" in err) == (2, True, False, False)


@pytest.mark.parametrize(("key", "value", "newer"), [("fact_of_tomorrow", 1, True), ("uid", 7, False)])
def test_export_of_a_newer_version(tmp_path: Path, path: Path, key: str, value: object, newer: bool) -> None:
    """An unknown fact is a newer version's, a value of a wrong kind is damage; nothing of the file is kept."""
    out = tmp_path / "all.jsonl"
    with History.open(path) as history:
        exchange.export(history, out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    lines[1]["row"][key] = value
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with History.open(tmp_path / "other.sqlite", create=True) as other:
        with pytest.raises(SlimError) as caught:
            exchange.read_in(other, out)
        assert other.nights() == []
    assert ("newer yolo_slim" in str(caught.value), "line 2" in str(caught.value)) == (newer, True)


def test_history_without_the_workstations_packages(path: Path) -> None:
    """They are copied from the results; a run without a result has none, and both are read."""
    change(path, "run", {}, "workstation", version=1)
    change(path, "night", {}, "imported")
    with History.open(path) as history:
        first, *others = history.runs()
        assert first.workstation == complete_result().versions
        assert [run.workstation for run in others] == [{}, {}]
        assert not any(night.imported for night in history.nights())
    with closing(sqlite3.connect(path.with_name(f"{path.name}.schema1"))) as copy:
        assert "workstation" not in copy.execute("SELECT facts FROM run").fetchone()[0]


def test_export_without_the_workstations_packages(tmp_path: Path, path: Path) -> None:
    """An earlier version's export is read in the same way."""
    out = tmp_path / "all.jsonl"
    with History.open(path) as history:
        exchange.export(history, out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    lines[0]["schema"] = 1
    for line in lines:
        line.get("row", {}).pop("workstation", None)
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with History.open(tmp_path / "other.sqlite", create=True) as other:
        exchange.read_in(other, out)
        assert [run.workstation for run in other.runs()] == [complete_result().versions, {}, {}]


@pytest.mark.parametrize(("schema", "is_read"), [(2, False), (3, True)])
def test_result_of_an_earlier_version(tmp_path: Path, schema: int, is_read: bool) -> None:
    """The pages are written without its channels, and say so; a result of this version has them."""
    path, result = tmp_path / "history.sqlite", {**complete_result().to_json(), "schema": schema}
    write_history(path, nights=2, cells=cells(1), result=result)
    # The newest run of a network is asked, and only the first night has a result.
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO payload SELECT '2-0', kind, sha256 FROM payload WHERE run = '1-0'")
    connection.close()
    with History.open(path) as history:
        site = write_dashboard(history, tmp_path / "site")
    script = (tmp_path / "site/runs.js").read_text(encoding="utf-8")
    data = json.loads(script.removeprefix("window.runs=").rstrip(";\n"))
    assert (len(data["widths"]), len(data["unreadable"])) == ((1, 0) if is_read else (0, 1))
    assert [("earlier version" in note, "Compare two runs" in note) for note in site.notes] == (
        [] if is_read else [(True, True)]
    )
