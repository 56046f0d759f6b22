"""The memory pools that the camera's threads share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT
from yolo_slim.runtime.camera.pools import MOST_POOLS

THREADS = """
import ctypes, sys, threading
from yolo_slim.runtime.camera.pools import limit_pools

print(limit_pools() if sys.argv[1] == "limit" else "unlimited")
libc, gate = ctypes.CDLL(None), threading.Barrier(9)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p

def work():
    libc.malloc(4096)
    gate.wait(60)

for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
gate.wait(60)
out = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fclose(ctypes.c_void_p(out))
"""
"""Eight threads take memory at once; malloc's own description of its pools goes into a file."""


def pools(path: Path, how: str, **environment: str) -> tuple[str, int]:
    """What the limit answered, and the number of pools."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS, how, str(path)], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode or not path.exists():
        pytest.skip("this C library describes no pools")
    return done.stdout.strip(), len(re.findall("<heap nr=", path.read_text()))


def test_threads_share_pools(tmp_path: Path) -> None:
    """With the limit two are enough for eight threads. Negative control: without it there are more."""
    assert pools(tmp_path / "limited.xml", "limit") == ("True", MOST_POOLS)
    assert pools(tmp_path / "free.xml", "free")[1] > MOST_POOLS


def test_the_users_own_limit_stays(tmp_path: Path) -> None:
    """What the environment says comes first."""
    assert pools(tmp_path / "own.xml", "limit", MALLOC_ARENA_MAX="3") == ("False", 3)
