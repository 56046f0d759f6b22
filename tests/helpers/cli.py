"""Run the command line in the process of the test."""

from __future__ import annotations

import contextlib
import io
import sys
from unittest.mock import patch

import pytest

from yolo_slim import cli


def run_cli(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["yolo-slim", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as caught,
    ):
        cli.main()
    code = caught.value.code
    return code if isinstance(code, int) else 0, out.getvalue(), err.getvalue()
