"""The ready workflows: each is valid for what reads it, and calls commands that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.constants import ROOT
from yolo_slim.cli.nightly import nightly

WORKFLOWS = ROOT / "docs/workflows"
OPTIONS = {name for one in nightly.commands["run"].params for name in one.opts}


def read(name: str) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load((WORKFLOWS / name).read_text())


@pytest.mark.parametrize("path", sorted(WORKFLOWS.iterdir()), ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    """Every call of the command line in a workflow is one that `yolo-slim nightly` takes."""
    calls = re.findall(r"yolo-slim\"? nightly (nightly\.yaml[^\n>']*)", path.read_text())
    assert bool(calls) == (path.suffix != ".timer")
    for call in calls:
        assert {word for word in shlex.split(call) if word.startswith("--")} <= OPTIONS


def test_github() -> None:
    """Its steps have an action or a command each, it never runs twice at once, and may only read."""
    workflow = read("github.yml")
    # YAML 1.1 reads the key `on` as true.
    triggers = workflow[True]
    assert re.fullmatch(r"(\S+ ){4}\S+", triggers["schedule"][0]["cron"])
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert workflow["permissions"] == {"contents": "read"}
    job = workflow["jobs"]["night"]
    assert "self-hosted" in job["runs-on"]
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    # A checkout that cleans would throw the history away.
    assert job["steps"][0]["with"]["clean"] is False


def test_gitlab() -> None:
    """It has a script and a rule for schedules, keeps the history, and reports JUnit XML."""
    job = read("gitlab-ci.yml")["nightly"]
    assert job["resource_group"]
    assert "-e runs/" in job["variables"]["GIT_CLEAN_FLAGS"]
    assert '$CI_PIPELINE_SOURCE == "schedule"' in job["rules"][0]["if"]
    assert job["artifacts"]["reports"]["junit"] == "night/junit.xml"


@pytest.mark.parametrize("name", ["github.yml", "gitlab-ci.yml"])
def test_only_this_nights_files_are_shown(name: str, tmp_path: Path) -> None:
    """The files of an earlier night aren't taken for those of a night that was refused, or of the next one."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    workflow = read(name)
    if name == "github.yml":
        steps = {step["name"]: step.get("run") for step in workflow["jobs"]["night"]["steps"] if "name" in step}
        begin, end = steps["Time of the beginning"], [steps["Summary"]]
    else:
        begin, end = workflow["nightly"]["script"][0], workflow["nightly"]["after_script"]
    for number, shown in ((1, ""), (2, "night 2")):
        earlier = tmp_path / f"runs/nightly/nights/{number:04d}"
        earlier.mkdir(parents=True)
        environment = {**os.environ, "GITHUB_STEP_SUMMARY": "shown.md"}
        if number == 1:
            (earlier / "summary.md").write_text("night 1")
            os.utime(earlier / "summary.md", (1, 1))
        subprocess.run(begin, shell=True, check=True, cwd=tmp_path)
        os.utime(tmp_path / "night-begun", (2, 2))
        if number == 2:
            (earlier / "summary.md").write_text("night 2")
        for line in end:
            subprocess.run(line, shell=True, check=True, cwd=tmp_path, env=environment)
        found = tmp_path / ("shown.md" if name == "github.yml" else "night/summary.md")
        assert (found.read_text() if found.exists() else "") == shown


def test_cron() -> None:
    """The one line has five fields of time and a command."""
    (line,) = [one for one in (WORKFLOWS / "crontab").read_text().splitlines() if not one.startswith("#")]
    assert re.match(r"[\d*]+( [\d*]+){4} cd ", line)


def test_systemd(tmp_path: Path) -> None:
    """The units pass systemd's own check."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for path in WORKFLOWS.glob("yolo-slim-nightly.*"):
        # It looks whether the folder and the program exist.
        text = path.read_text().replace("%h/detector", str(tmp_path))
        (tmp_path / path.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.glob("yolo-slim-nightly.*"))
    # Without a session's folder it can't tell a user's units from the system's.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *units], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
