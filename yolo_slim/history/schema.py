"""The tables of a history, and how a file of an earlier schema is brought to this one."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from yolo_slim.errors import SlimError


def versions_of(result: Any) -> dict[str, str]:
    """The package versions in a result as JSON, whatever its schema; empty: it has none."""
    found = result.get("versions") if isinstance(result, dict) else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _record_workstations(connection: sqlite3.Connection) -> None:
    """Copy the package versions of every result into the facts of its run."""
    runs = "SELECT r.uid, r.facts, p.sha256 FROM run r JOIN payload p ON p.run = r.uid WHERE p.kind = 'result'"
    versions: dict[str, dict[str, str]] = {}
    for uid, facts, digest in connection.execute(runs).fetchall():
        if digest not in versions:
            (content,) = connection.execute("SELECT content FROM blob WHERE sha256 = ?", (digest,)).fetchone()
            versions[digest] = _versions_in(content)
        # Whoever reads damaged facts is told so; here they stay as they are.
        with suppress(ValueError):
            updated = json.dumps({**json.loads(facts), "workstation": versions[digest]})
            connection.execute("UPDATE run SET facts = ? WHERE uid = ?", (updated, uid))


def _versions_in(content: bytes) -> dict[str, str]:
    try:
        return versions_of(json.loads(zlib.decompress(content)))
    except (zlib.error, ValueError):
        # Whoever reads the result itself is told that it is damaged.
        return {}


STEPS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
    """
    CREATE TABLE night (
        number INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        facts TEXT NOT NULL
    );
    CREATE TABLE run (
        uid TEXT PRIMARY KEY,
        night INTEGER NOT NULL REFERENCES night (number),
        cell TEXT NOT NULL,
        facts TEXT NOT NULL,
        judgement TEXT,
        UNIQUE (night, cell)
    );
    CREATE INDEX run_by_cell ON run (cell, night);
    CREATE TABLE baseline (
        number INTEGER PRIMARY KEY,
        cell TEXT NOT NULL,
        run TEXT NOT NULL REFERENCES run (uid),
        reason TEXT NOT NULL,
        at TEXT NOT NULL,
        UNIQUE (cell, run, at)
    );
    CREATE TABLE blob (
        sha256 TEXT PRIMARY KEY,
        content BLOB NOT NULL
    );
    CREATE TABLE payload (
        run TEXT NOT NULL REFERENCES run (uid),
        kind TEXT NOT NULL,
        sha256 TEXT NOT NULL REFERENCES blob (sha256),
        PRIMARY KEY (run, kind)
    );
    """,
    _record_workstations,
)
"""What makes each schema out of the one before; the first one starts with an empty file.

A new field of the rows (history/rows.py) needs a step too, if only to tell an earlier yolo_slim that it is older.
"""


def require_no_other(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse another program's database, before anything is written into it.

    Raises:
        SlimError: it is one.
    """
    # One statement: another process may make the tables now.
    question = "SELECT user_version, (SELECT COUNT(*) FROM sqlite_master) FROM pragma_user_version"
    version, tables = connection.execute(question).fetchone()
    if tables and not version:
        raise SlimError(f"{path} is no history: another program's tables are in it.", remedy="Give the history's file.")


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or those of a later schema, in one transaction; a file with content is copied first.

    Raises:
        SlimError: a newer yolo_slim made the file.
    """
    found = _version(connection)
    if found > len(STEPS):
        raise SlimError(
            f"{path} has schema {found}, this yolo_slim reads {len(STEPS)}: a newer version made it.",
            remedy="Update yolo_slim.",
        )
    if found == len(STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited.
        found = _version(connection)
        if 0 < found < len(STEPS):
            _back_up(path, found)
        for number, step in enumerate(STEPS[found:], found + 1):
            if callable(step):
                step(connection)
            else:
                for statement in filter(str.strip, step.split(";")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _back_up(path: Path, version: int) -> None:
    """Copy a file beside itself, with what its write-ahead log has."""
    copy = path.with_name(f"{path.name}.schema{version}")
    partial = copy.with_name(f".{copy.name}.tmp")
    partial.unlink(missing_ok=True)
    source, target = sqlite3.connect(path), sqlite3.connect(partial)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    partial.replace(copy)
