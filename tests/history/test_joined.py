"""The histories of two machines, joined: neither loses its baselines nor its last night."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from yolo_slim.history import exchange
from yolo_slim.history.rows import Cell, Night, Run, Source
from yolo_slim.history.store import History
from yolo_slim.nightly.references import reference_run

CELL = Cell(model="m", data="d", settings="s", target="t", build="ncnn-fp16")


def add_night(history: History, uid: str, day: str, *, number: int, baseline: bool = False) -> None:
    """A night of the branch main that measured one cell."""
    night = Night(
        number=number, uid=uid, kind="night", started_at=f"{day}T02:00:00+00:00", ended_at=f"{day}T03:00:00+00:00",
        matrix="m", source=Source(commit="c", branch="main", dirty=False, subject="s"),
    )  # fmt: skip
    with history.writing():
        history.add_night(night)
        history.add_run(Run(uid=f"run of {uid}", night=number, cell=CELL, state="measured", recorded_at=day), {})
        if baseline:
            history.add_baseline(CELL.name, f"run of {uid}", f"because of {uid}", night.started_at)


def exported(folder: Path, *days: str) -> Path:
    """The export of another machine's history: a night every day, the last one is the baseline."""
    out = folder / "theirs.jsonl"
    with History.open(folder / "theirs.sqlite", create=True) as theirs:
        for number, day in enumerate(days, 1):
            add_night(theirs, f"theirs {number}", day, number=number, baseline=number == len(days))
        exchange.export(theirs, out)
    return out


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A history of one night, which is the baseline."""
    with History.open(tmp_path / "ours.sqlite", create=True) as history:
        add_night(history, "ours", "2026-03-10", number=1, baseline=True)
    return tmp_path / "ours.sqlite"


def baseline_of(path: Path) -> str:
    """The run that the cell's next night would be compared with."""
    with History.open(path) as history:
        found = history.baseline(CELL.name)
        assert found is not None
        return found.run


def test_own_baseline_stays(tmp_path: Path, ours: Path) -> None:
    """The import says which it kept and how to take the file's; that option takes it, even the second time."""
    words = ("nightly", "import", str(exported(tmp_path, "2026-03-08", "2026-03-09")), "--history", str(ours))
    code, out, _ = run_cli(*words)
    assert (code, baseline_of(ours)) == (0, "run of ours")
    assert "added: 2 nights, 2 runs, 0 baselines" in out
    assert f"  {CELL.name}: night 1, because of ours" in out
    assert "--take-baselines" in out
    assert "the last night is night 1, begun 2026-03-10" in out
    code, out, _ = run_cli(*words, "--take-baselines")
    assert (code, baseline_of(ours), "kept" in out) == (0, "run of theirs 2", False)
    with History.open(ours) as history:
        history.bless(["run of ours"], "mine again")
    run_cli(*words)
    assert baseline_of(ours) == "run of ours"
    run_cli(*words, "--take-baselines")
    assert baseline_of(ours) == "run of theirs 2"


def test_baseline_that_both_have_already(tmp_path: Path) -> None:
    """A file whose last baseline is here, but not its earlier one, doesn't move the baseline back to that one."""
    mine, other = tmp_path / "mine.sqlite", tmp_path / "other.sqlite"
    for path, uid in ((mine, "a"), (other, "x")):
        with History.open(path, create=True) as history:
            add_night(history, uid, "2026-03-10", number=1)
            history.bless([f"run of {uid}"], f"because of {uid}")
    for path, into in ((mine, other), (other, mine)):
        file = tmp_path / "file.jsonl"
        with History.open(path) as history:
            exchange.export(history, file)
        code, out, _ = run_cli("nightly", "import", str(file), "--history", str(into), "--take-baselines")
        assert (code, baseline_of(into), "kept" in out) == (0, "run of a", False)
    run_cli("nightly", "import", str(file), "--history", str(mine), "--take-baselines")
    assert baseline_of(mine) == "run of a"


def test_baseline_of_a_cell_that_has_none(tmp_path: Path) -> None:
    """It is taken without being asked: nothing is moved."""
    with History.open(tmp_path / "ours.sqlite", create=True) as history:
        add_night(history, "ours", "2026-03-10", number=1)
    source = str(exported(tmp_path, "2026-03-09"))
    _, out, _ = run_cli("nightly", "import", source, "--history", str(tmp_path / "ours.sqlite"))
    assert ("1 baselines" in out, "kept" in out) == (True, False)
    assert baseline_of(tmp_path / "ours.sqlite") == "run of theirs 1"


@pytest.mark.parametrize(("day", "last"), [("2026-03-09", "ours"), ("2026-03-11", "theirs 1")])
def test_last_night(tmp_path: Path, ours: Path, day: str, last: str) -> None:
    """An imported night is the last one only if it began later, whatever number it got.

    Its bundles are elsewhere, so nothing is compared with it: not a pull request, nor the next nights.
    """
    source = exported(tmp_path, day)
    where = ("--history", str(ours))
    run_cli("nightly", "import", str(source), *where)
    with History.open(ours) as history:
        night = history.nights()[-1]
        assert night.uid == last
        assert [run.uid for run in history.runs()][-1] == f"run of {last}"
        imported = next(one for one in history.nights() if one.imported)
        assert [one.uid for one in history.own_nights()] == ["ours"]
        compared = reference_run(history, CELL.name, "main")
        assert compared is not None
        assert compared.uid == "run of ours"
    assert run_cli("nightly", "log", *where)[1].splitlines()[-1].split()[0] == str(night.number)
    assert "baseline: night 1 of" in run_cli("nightly", "bless", "--reason", "r", *where)[1]
    code, _, err = run_cli("nightly", "bless", "--night", str(imported.number), "--reason", "r", *where)
    assert (code, f"Night {imported.number} is imported: its bundles aren't here." in err) == (2, True)


def test_own_nights_follow_their_numbers(tmp_path: Path, ours: Path) -> None:
    """A clock that was set back doesn't put an own night before an imported one that began before it."""
    run_cli("nightly", "import", str(exported(tmp_path, "2026-03-09")), "--history", str(ours))
    with History.open(ours) as history:
        add_night(history, "clock set back", "2020-01-01", number=3)
        assert [night.uid for night in history.nights()] == ["theirs 1", "ours", "clock set back"]


def test_copy_that_is_put_back(tmp_path: Path) -> None:
    """Into an empty history: its nights are own ones, in the order of their numbers."""
    source = exported(tmp_path, "2026-03-09", "2020-01-01")
    with History.open(tmp_path / "new.sqlite", create=True) as history:
        exchange.read_in(history, source)
        assert [(night.number, night.imported) for night in history.nights()] == [(1, False), (2, False)]


def test_night_whose_time_is_none(tmp_path: Path, ours: Path) -> None:
    """A file with such a night is damaged, and nothing of it is kept."""
    source = exported(tmp_path, "2026-03-09")
    source.write_text(source.read_text().replace("2026-03-09T02:00:00+00:00", "yesterday"))
    code, _, err = run_cli("nightly", "import", str(source), "--history", str(ours))
    assert (code, "line 2: no line of an exported history" in err) == (2, True)
    with History.open(ours) as history:
        assert len(history.nights()) == 1
