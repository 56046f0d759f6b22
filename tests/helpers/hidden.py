"""Run commands on a machine that lacks a library, as a fresh server or a slim container does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT

HIDE = """empty=$(mktemp); trap 'rm -f "$empty"' EXIT
while [ "$1" != -- ]; do mount --bind "$empty" "$1" || exit 99; shift; done; shift; "$@" """
"""Put an empty file in the place of every file before the ``--``, then run what follows."""


def without(libraries: Sequence[str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where libraries can't be loaded, in a mount namespace of its own; skip where that's forbidden."""
    if not _may_hide():
        pytest.skip("needs the right to mount in a namespace of its own (unshare --mount)")
    files = [str(_place_of(name)) for name in libraries]
    return _hidden([*files, "--", *command])


def _hidden(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["unshare", "--mount", "bash", "-c", HIDE, "hide", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@cache
def _may_hide() -> bool:
    """Whether an empty file can be put in a file's place here."""
    try:
        return _hidden([str(ROOT / "pyproject.toml"), "--", "true"]).returncode == 0
    except OSError:
        return False


def _place_of(library: str) -> Path:
    """The file that the dynamic linker loads for a name."""
    code = f"import ctypes; ctypes.CDLL({library!r}); print(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    found = re.findall(rf"/\S+/{re.escape(library.partition('.so')[0])}\.so\S*", maps)
    if not found:
        pytest.skip(f"this machine has no {library}")
    return Path(found[0])
