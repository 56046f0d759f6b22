"""Run the command line in the process of the test, on good and on bad inputs."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

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


def refused(model: Path, data: Path, project: Path, *more: str) -> str:
    """Run the chain, assert that it refuses without leaving anything, and return the message."""
    given = ["--model", str(model), "--data", str(data), "--project", str(project / "runs"), "--imgsz", "96"]
    code, out, err = run_cli("run", *given, *more)
    assert code == 2, err
    assert "Traceback" not in err + out
    assert [line for line in err.splitlines() if line.startswith("error: ")]
    assert not list((project / "runs").rglob("*.pt"))
    return err


def edit(data: Path, **values: object) -> None:
    """Change keys of a data.yaml; None removes one."""
    content = {**yaml.safe_load(data.read_text()), **values}
    data.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
