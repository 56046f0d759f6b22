"""The C library's memory pools: a process of many threads keeps more memory than it uses, and more with each day."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

MOST_POOLS = 2
_M_ARENA_MAX = -8
"""Of ``mallopt`` in glibc's malloc.h."""


def limit_pools() -> bool:
    """Let all threads share :data:`MOST_POOLS`; glibc alone gives each one of its own, and returns little of it.

    For the start, before there are threads. Returns false where nothing was limited: another C library, or a
    ``MALLOC_ARENA_MAX`` of the user's own.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    with suppress(AttributeError, OSError, TypeError):  # no such function, or no library of the process
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST_POOLS))
    return False
