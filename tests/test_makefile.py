"""The Makefile's goals as a user gives them: what they would run, without running it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

import pytest

from tests.helpers.constants import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def would_run(*arguments: str, shell: Mapping[str, str] | None = None) -> str:
    """Return the yolo-slim command that a goal ends with; ``shell`` are variables that the user's shell exports."""
    done = subprocess.run(
        ["make", "-n", *arguments, "READY="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", **(shell or {})},
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("goal", "target"), [("rpi", "rpi5"), ("jetson", "jetson-orin-nano"), ("host", "host")])
def test_every_goal_has_its_target(goal: str, target: str) -> None:
    """Each goal runs its own default target, and the one asked for where there is one."""
    assert f"run --target {target} " in would_run(goal)
    assert "run --target other " in would_run(goal, "TARGET=other")


@pytest.mark.parametrize(("goal", "target"), [("rpi", "rpi5"), ("jetson", "jetson-orin-nano"), ("host", "host")])
def test_every_goal_takes_a_device(goal: str, target: str) -> None:
    """HOST= reaches each goal beside its target; a shell's own HOST, the name of this machine, doesn't."""
    assert f"run --target {target} --host pi@10.0.0.7" in would_run(goal, "HOST=pi@10.0.0.7")
    assert "--host" not in would_run(goal, shell={"HOST": "workstation"})


def test_settings_reach_the_command_line() -> None:
    """Every variable of the README becomes the option of its name."""
    given = {"MODEL": "a.pt", "DATA": "d.yaml", "IMGSZ": "320", "PRUNE": "0.5", "EPOCHS": "3", "NAME": "n"}
    command = would_run("jetson", *[f"{key}={value}" for key, value in given.items()], "ARGS=--quiet")
    for key, value in given.items():
        assert f"--{key.lower()} {value} " in command
    assert "--quiet" in command


def test_help_lists_goals_and_variables() -> None:
    """Every variable is listed with the help of its option; a goal's own target is no default of the variable."""
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines if line} >= {"rpi", "jetson", "host", "generate", "MODEL=", "NAME="}
    about = "Fraction of the multiply-accumulates (MACs) to remove from the fused network. [default: 0.5]"
    assert f"PRUNE=   {about}" in lines
    assert not any(line.startswith("TARGET=") and "default" in line for line in lines)


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (1, 2), (2, 2), (3, 0)])
def test_unproven_is_no_failure_of_make(code: int, wanted: int, tmp_path: object) -> None:
    """Without the device on the desk `unproven` (3) is the best there is; a failed gate and bad input stop make."""
    fake = tmp_path / "bin"  # type: ignore[operator]
    fake.mkdir()
    (fake / "yolo-slim").write_text(f"#!/bin/sh\nexit {code}\n")
    (fake / "yolo-slim").chmod(0o755)
    done = subprocess.run(
        ["make", "jetson", "READY=", f"BIN={fake}"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == wanted
