"""Small file helpers that both halves share: hashes, atomic writes, JSON. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_slim.errors import DISK_IS_FULL, MachineError, SlimError

MOST_NAME_BYTES = 200
"""Bytes of a name that is made of a user's: file systems take 255, and temporary and derived files add to it."""
NETWORKS, DESCRIPTIONS = (".pt", ".onnx"), (".yaml", ".yml")
"""Endings of what is a model, and of what describes data."""
JsonObject = dict[str, Any]
"""A JSON object; what its keys mean is said by whoever reads it."""
_SWAP = threading.Lock()


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def flat(values: Mapping[str, object], start: str = "") -> JsonObject:
    """Return nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{start}{key}.") if isinstance(value, Mapping) else {f"{start}{key}": value}
    return found


def fitted_name(text: str, *, before: str = "", after: str = "") -> str:
    """Return ``before``, as much of a user's ``text`` as fits into :data:`MOST_NAME_BYTES`, and ``after``."""
    room = max(MOST_NAME_BYTES - len(os.fsencode(before + after)), 0)
    encoded = os.fsencode(text)
    # A character of several bytes that doesn't fit is left out as a whole.
    return before + (text if len(encoded) <= room else encoded[:room].decode("utf-8", "ignore")) + after


def named(path: Path) -> Path:
    """Give a path with ``.`` or ``..`` the names that these stand for: what is written beside it is named so.

    Raises:
        SlimError: the root of the file system, which has no name.
    """
    found = path if path.name and ".." not in path.parts else path.resolve()
    if not found.name:
        raise SlimError(f"{path} is the root of the file system.", remedy=f"Give a folder in it: {found}NAME")
    return found


def require_place(file: Path, label: str) -> None:
    """Check where a file is to be written, before the work whose answer it is to hold.

    Args:
        file: as the user gave it; what is there already is replaced.
        label: what gave it, such as ``--out``.

    Raises:
        SlimError: a folder is there, or something else that isn't a file; or the file's own folder is missing.
        MachineError: the folder can't be written.
    """
    folder, shown = file.parent, f"({label} {file})"
    if file.is_dir():
        raise SlimError(
            f"A folder where a file is wanted: {file} ({label})", remedy=f"Name a file in it: {file / 'NAME'}"
        )
    if file.exists() and not file.is_file():
        raise SlimError(f"No ordinary file: {file} ({label})", remedy="Name another file: this one would be replaced.")
    existing = next(one for one in file.parents if one.exists())
    if not existing.is_dir():
        raise SlimError(f"{existing} is a file, not a folder {shown}.", remedy="Name a file in a folder.")
    if existing != folder:
        raise SlimError(
            f"There is no folder {folder} {shown}.", remedy=f"Make it first: mkdir -p {shlex.quote(str(folder))}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MachineError(
            f"The folder can't be written: {folder} {shown}.",
            remedy="Choose another folder, or change its permissions.",
            topic="the-folder-cant-be-written",
        )


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary sibling, then move it into place: a reader sees all of the file or none."""
    path = named(path)
    temporary = _temporary(path)
    try:
        with _refusals_of(path, temporary):
            write(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, and on the disk before the name appears."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    write_atomic(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value atomically, indented and with a final newline."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def merge_json(path: Path, values: JsonObject) -> JsonObject:
    """Add keys to a JSON object that other processes may be adding to, and return all of it."""
    import fcntl  # Unix alone has it, and devices never write such a file.

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merged = {**(read_json(path) if path.is_file() else {}), **values}
        write_json(path, dict(sorted(merged.items())))
    return merged


@contextmanager
def fresh_folder(path: Path, *, stays: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """Yield an empty temporary sibling that replaces ``path`` when the block succeeds, and is removed when it fails.

    Args:
        path: the folder to make.
        stays: whether the folder at ``path`` is as good as the new one and stays; another writer may have made it
            during the block, and a reader may be in it.
    """
    path = named(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _refusals_of(path, temporary):
            temporary.mkdir(parents=True)
            yield temporary
            with _SWAP:
                _swap(temporary, path, stays)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path, stays: Callable[[Path], bool]) -> None:
    while not (path.exists() and stays(path)):
        if path.exists():
            shutil.rmtree(path)
        try:
            new.replace(path)
        except OSError:
            # Another process put its folder here since it was looked at.
            if not path.exists():
                raise
        else:
            return


@contextmanager
def _refusals_of(path: Path, temporary: Path) -> Iterator[None]:
    """Let the system's refusals name what the user knows, in place of its temporary sibling."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = error.filename.replace(str(temporary), str(path))
        elif error.errno in DISK_IS_FULL:
            error.filename = str(path)
        raise


def _temporary(path: Path) -> Path:
    """A hidden sibling that no other process or thread writes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
