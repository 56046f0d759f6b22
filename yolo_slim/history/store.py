"""The history: one SQLite file that several processes may read and write, and that survives ``kill -9``.

Each cell is recorded in one transaction. Large parts (result, raw timing, matches) are compressed JSON, stored once by
their content: a night in which nothing changed adds little.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from yolo_slim.errors import SlimError, StorageError, os_errors_explained
from yolo_slim.history.reading import RESTORE, in_order, parsed, read_facts
from yolo_slim.history.rows import NIGHT, Baseline, Judgement, Night, Run, Source, Timing
from yolo_slim.history.schema import bring_up_to_date, require_no_other
from yolo_slim.measuring.matches import Matches
from yolo_slim.verdict.result import Result

RESULT, TIMING, MATCHES = "result", "timing", "matches"
PAYLOADS = (RESULT, TIMING, MATCHES)
"""Large parts of a run."""
PATIENCE_S = 30.0
"""How long a writer waits for another one."""


class History:
    """The nights, runs and baselines of one file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection
        # Devices are measured in threads, and a transaction belongs to the connection.
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, create: bool = False, patience_s: float = PATIENCE_S) -> History:
        """Open a history.

        Args:
            path: the file.
            create: make it where it is missing.
            patience_s: how long to wait for another writer.

        Raises:
            SlimError: no such file, a damaged one, or one of a newer yolo_slim.
            StorageError: another process keeps it locked, or the disk is full.
            MachineError: the folder can't be written.
        """
        if not create and not path.is_file():
            raise SlimError(f"There is no history at {path}.", remedy="Run a night first: yolo-slim nightly FILE.yaml")
        with os_errors_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with _explained(path):
            # Transactions are begun by hand: Python's own would end before a statement such as CREATE.
            connection = sqlite3.connect(path, timeout=patience_s, isolation_level=None, check_same_thread=False)
            try:
                _set_up(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # Reading

    def nights(self) -> list[Night]:
        """All nights, in the order in which they began: the last one is the newest."""
        rows = self._all("SELECT number, facts FROM night ORDER BY number")
        return in_order([self._night(*row) for row in rows])

    def own_nights(self) -> list[Night]:
        """The nights that ran on this machine, without trials: their bundles are here."""
        return [night for night in self.nights() if night.kind == NIGHT and not night.imported]

    def sources(self, *runs: Run) -> tuple[Source, ...]:
        """The code of the runs' nights."""
        found = [self._one("SELECT number, facts FROM night WHERE number = ?", run.night) for run in runs]
        return tuple(self._night(*row).source for row in found)

    def runs(self, *, night: int | None = None, cell: str | None = None) -> list[Run]:
        """Runs in the order of their nights, without their large parts; all, or those of a night, a cell or both."""
        rank = {} if night else {one.number: place for place, one in enumerate(self.nights())}
        rows = self._all(
            "SELECT night, facts, judgement FROM run WHERE (?1 IS NULL OR night = ?1) AND (?2 IS NULL OR cell = ?2) "
            "ORDER BY night, cell",
            night,
            cell,
        )
        return sorted((self._run(*row) for row in rows), key=lambda run: rank.get(run.night, 0))

    def run(self, uid: str) -> Run:
        """One run.

        Raises:
            SlimError: there is none.
        """
        rows = self._all("SELECT night, facts, judgement FROM run WHERE uid = ?", uid)
        if not rows:
            raise SlimError(f"{self.path} has no run {uid}.", remedy="`yolo-slim nightly log` lists the runs.")
        return self._run(*rows[0])

    def baselines(self) -> list[Baseline]:
        """Every baseline that was ever set, in the order of setting; a cell's last one counts."""
        rows = self._all(
            "SELECT b.cell, b.run, r.night, b.reason, b.at, b.number FROM baseline b JOIN run r ON r.uid = b.run "
            "ORDER BY b.number"
        )
        return [Baseline(**dict(zip(Baseline.model_fields, row, strict=True))) for row in rows]

    def baseline(self, cell: str) -> Baseline | None:
        """The baseline of a cell; None: it has none yet."""
        return next((one for one in reversed(self.baselines()) if one.cell == cell), None)

    def result(self, run: Run) -> Result | None:
        """The result of the chain; None: the run failed before."""
        found = self.payload(run.uid, RESULT)
        return None if found is None else Result.from_json(found, f"The result of {run.uid}")

    def timing(self, run: Run) -> Timing | None:
        """The raw timing; None: not timed."""
        found = self.payload(run.uid, TIMING)
        return None if found is None else read_facts(Timing, found, f"{self.path}: the timing of run {run.uid}")

    def matches(self, run: Run) -> Matches | None:
        """Which detections of which image are right; None: not scored."""
        found = self.payload(run.uid, MATCHES)
        return None if found is None else Matches.from_json(found)

    def payload(self, uid: str, kind: str) -> Any:
        """One of a run's large parts, as a JSON value; None: it has none.

        Raises:
            SlimError: it was damaged on the disk.
        """
        rows = self._all("SELECT content FROM payload JOIN blob USING (sha256) WHERE run = ? AND kind = ?", uid, kind)
        try:
            return json.loads(zlib.decompress(rows[0][0])) if rows else None
        except (zlib.error, ValueError) as error:
            raise SlimError(f"{self.path} is damaged: the {kind} of run {uid}.", remedy=RESTORE) from error

    def _night(self, number: int, facts: str) -> Night:
        source = f"{self.path}: night {number}"
        return read_facts(Night, {**parsed(facts, source), "number": number}, source)

    def _run(self, night: int, facts: str, judgement: str | None) -> Run:
        source = f"{self.path}: a run of night {night}"
        found = parsed(judgement, source) if judgement else None
        return read_facts(Run, {**parsed(facts, source), "night": night, "judgement": found}, source)

    # Writing

    def begin_night(self, uid: str, matrix: str, source: Source, *, kind: str) -> Night:
        """Record that a night begins; its number is the next one."""
        facts = {"uid": uid, "kind": kind, "started_at": now(), "ended_at": None, "matrix": matrix}
        with self.writing():
            (last,) = self._one("SELECT COALESCE(MAX(number), 0) FROM night")
            night = Night.model_validate({**facts, "number": last + 1, "source": source})
            self.add_night(night)
        return night

    def add_night(self, night: Night) -> None:
        """Write a night, inside :meth:`writing`."""
        self._execute("INSERT INTO night VALUES (?, ?, ?)", night.number, night.uid, _facts(night))

    def end_night(self, night: Night, judgements: Mapping[str, Judgement], baselines: Mapping[str, str]) -> None:
        """Record the judgements of a night's runs and that it ended, all or nothing.

        Args:
            night: the night; its end is now, unless it says when.
            judgements: by the runs' ``uid``.
            baselines: ``uid`` of runs that become their cells' baseline, with the reason.
        """
        with self.writing():
            for uid, judgement in judgements.items():
                self.add_judgement(uid, judgement)
            for uid, reason in baselines.items():
                self._set_baseline(uid, reason)
            self.add_end(night.model_copy(update={"ended_at": night.ended_at or now()}))

    def add_judgement(self, uid: str, judgement: Judgement) -> None:
        """Write what a night says of a run, inside :meth:`writing`."""
        self._execute("UPDATE run SET judgement = ? WHERE uid = ?", json.dumps(judgement.to_json()), uid)

    def add_end(self, night: Night) -> None:
        """Write that a night ended, inside :meth:`writing`."""
        self._execute("UPDATE night SET facts = ? WHERE number = ?", _facts(night), night.number)

    def record(self, run: Run, payloads: Mapping[str, Any]) -> bool:
        """Record one cell of a night with its large parts, all or nothing; False: it is recorded already."""
        # Compressed before the lock is taken: other writers don't wait for it.
        parts = {kind: packed(value) for kind, value in payloads.items() if value is not None}
        with self.writing():
            return self.add_run(run, parts)

    def add_run(self, run: Run, parts: Mapping[str, bytes]) -> bool:
        """Write a run, inside :meth:`writing`; False: the night has that cell already."""
        facts = {key: value for key, value in run.to_json().items() if key not in ("night", "judgement")}
        judgement = json.dumps(run.judgement.to_json()) if run.judgement else None
        row = (run.uid, run.night, run.cell.name, json.dumps(facts), judgement)
        if not self._execute("INSERT OR IGNORE INTO run VALUES (?, ?, ?, ?, ?)", *row):
            return False
        for kind, content in parts.items():
            digest = hashlib.sha256(content).hexdigest()
            self._execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", digest, content)
            self._execute("INSERT INTO payload VALUES (?, ?, ?)", run.uid, kind, digest)
        return True

    def bless(self, uids: Sequence[str], reason: str) -> None:
        """Make runs the baselines of their cells, all or none."""
        with self.writing():
            for uid in uids:
                self._set_baseline(uid, reason)

    def _set_baseline(self, uid: str, reason: str) -> None:
        (cell,) = self._one("SELECT cell FROM run WHERE uid = ?", uid)
        self.add_baseline(cell, uid, reason, now())

    def add_baseline(self, cell: str, uid: str, reason: str, at: str, *, again: bool = False) -> bool:
        """Write a baseline, inside :meth:`writing`; False: it is there already, and stays where it is.

        Args:
            cell: name of the cell.
            uid: of the run.
            reason: why.
            at: when it was set, ISO 8601.
            again: make it the cell's last one, even if it is there already.
        """
        row, other = (cell, uid, reason, at), "REPLACE" if again else "IGNORE"
        return bool(self._execute(f"INSERT OR {other} INTO baseline (cell, run, reason, at) VALUES (?, ?, ?, ?)", *row))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: everything in it is recorded, or nothing.

        Raises:
            StorageError: another process keeps the file locked, or the disk is full.
        """
        with self._lock, _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # After a full disk SQLite has rolled back itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _execute(self, statement: str, *values: Any) -> int:
        with self._lock, closing(self._connection.execute(statement, values)) as cursor:
            return cursor.rowcount

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, _explained(self.path), closing(self._connection.execute(statement, values)) as cursor:
            return cursor.fetchall()

    def _one(self, statement: str, *values: Any) -> tuple[Any, ...]:
        (row,) = self._all(statement, *values)
        return row


def now() -> str:
    """The time by this machine's clock, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _facts(night: Night) -> str:
    """A night as it is stored: its number has a column of its own."""
    return json.dumps({key: value for key, value in night.to_json().items() if key != "number"})


def packed(value: Any) -> bytes:
    """Compress a large part of a run."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    """Set what SQLite doesn't store in the file, and check the tables."""
    connection.execute("PRAGMA foreign_keys = ON")
    require_no_other(connection, path)
    # Readers don't wait for a writer, nor it for them.
    connection.execute("PRAGMA journal_mode = WAL")
    # In that mode only FULL has a transaction on the disk when it ends.
    connection.execute("PRAGMA synchronous = FULL")
    bring_up_to_date(connection, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the user's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise StorageError(
                f"Another process keeps {path} locked.",
                remedy="Wait for it to finish, then run the same command again.",
            ) from error
        if "full" in text:
            raise StorageError(
                f"The disk is full: {path} can't grow.",
                remedy="Free some space, then run the same command again: what is recorded is kept.",
            ) from error
        raise StorageError(
            f"{path} can't be read or written: {text}.", remedy="Check its folder and permissions."
        ) from error
    except sqlite3.DatabaseError as error:
        raise SlimError(f"{path} is damaged or is no history: {error}.", remedy=RESTORE) from error
