"""Waiting for another thread."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Return when a condition holds.

    Raises:
        TimeoutError: it doesn't within the time.
    """
    end = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError("the condition doesn't hold")
        time.sleep(0.01)
