"""The ready workflows: each is valid for what reads it, and calls commands that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.constants import ROOT
from yolo_slim.cli.nightly import nightly

WORKFLOWS = ROOT / "docs/workflows"
CRONTAB = shutil.which("crontab")
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
        assert set(re.findall(r"--[a-z-]+", call)) <= OPTIONS


@pytest.mark.parametrize(
    ("name", "schema", "right", "wrong"),
    [
        ("github.yml", "vendor.github-workflows", "timeout-minutes:", "timeout-minuts:"),
        ("gitlab-ci.yml", "vendor.gitlab-ci", "exit_codes: 3", "exit_codes: three"),
    ],
)
def test_keys_and_values(name: str, schema: str, right: str, wrong: str, tmp_path: Path) -> None:
    """They follow the published schema of what reads them; negative control: with one typing error they don't."""
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema (extra dev)")

    def problems(path: Path) -> str:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode else ""

    assert problems(WORKFLOWS / name) == ""
    text = (WORKFLOWS / name).read_text()
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong))
    assert "Schema validation errors" in problems(tmp_path / name)


def test_github() -> None:
    """Nights and pull requests wait for each other and cancel none, may only read, and keep the history."""
    workflow = read("github.yml")
    assert workflow["concurrency"] == {"group": "nightly", "cancel-in-progress": False, "queue": "max"}
    assert workflow["permissions"] == {"contents": "read"}
    # A checkout that cleans would throw the history away.
    assert workflow["jobs"]["night"]["steps"][0]["with"]["clean"] is False


def test_gitlab() -> None:
    """Nights and merge requests wait for each other, and keep the history."""
    job = read("gitlab-ci.yml")["nightly"]
    assert job["resource_group"]
    assert "-e runs/" in job["variables"]["GIT_CLEAN_FLAGS"]


def ran(name: str, folder: Path, code: int = 0, **variables: str) -> tuple[int, str, list[str]]:
    """Run a workflow's night where the night exits with ``code``: exit code, output, calls of yolo-slim."""
    workflow = read(name)
    if name == "github.yml":
        (script,) = [step["run"] for step in workflow["jobs"]["night"]["steps"] if step.get("name") == "Night"]
    else:
        script = "\n".join(workflow["nightly"]["script"])
    program = folder / "yolo-slim"
    program.write_text(f'#!/bin/sh\necho "$@" >> calls\n[ "$2" = dashboard ] || exit {code}\n')
    program.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    done = subprocess.run(
        ["sh", "-e", "-c", script], stdout=subprocess.PIPE, text=True, check=False, cwd=folder, env=environment
    )
    return done.returncode, done.stdout, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_github_warns_where_an_answer_is_missing(code: int, tmp_path: Path) -> None:
    """Exit code 3 is a warning; a worse cell or a bad input fails, and the dashboard is written after all."""
    found, output, calls = ran("github.yml", tmp_path, code)
    assert (found != 0, "::warning::" in output, calls) == (code in (1, 2), code == 3, ["nightly nightly.yaml"])
    steps = {step.get("name"): step for step in read("github.yml")["jobs"]["night"]["steps"]}
    assert steps["Dashboard"]["if"].startswith("${{ !cancelled()")


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_gitlab_warns_where_an_answer_is_missing(code: int, tmp_path: Path) -> None:
    """The night's exit code is the job's, which may be 3; the dashboard is written after all."""
    found, _, calls = ran("gitlab-ci.yml", tmp_path, code)
    assert (found, calls) == (code, ["nightly nightly.yaml", "nightly dashboard --out dashboard"])
    assert read("gitlab-ci.yml")["nightly"]["allow_failure"] == {"exit_codes": 3}


def test_pull_request_is_compared_with_its_branch(tmp_path: Path) -> None:
    """It is a trial against the branch that it goes to, and writes no dashboard."""
    of_branch = {"github.yml": {"GITHUB_BASE_REF": "main"}, "gitlab-ci.yml": {"AGAINST": "--against main"}}
    for name, variables in of_branch.items():
        folder = tmp_path / name
        folder.mkdir()
        assert ran(name, folder, **variables)[2] == ["nightly nightly.yaml --against main"]


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


def test_cron(tmp_path: Path) -> None:
    """The crontab passes cron's own check; negative control: a minute that no hour has doesn't."""
    usage = subprocess.run(["crontab", "-h"], capture_output=True, text=True, check=False) if CRONTAB else None
    # Another cron's option of that name means something else.
    if usage is None or "-n\t(dry run" not in usage.stdout + usage.stderr:
        pytest.skip("needs crontab -n (Debian: apt install cron)")
    good = (WORKFLOWS / "crontab").read_text()
    for text, is_right in ((good, True), (good.replace("\n17 ", "\n77 "), False)):
        (tmp_path / "crontab").write_text(text)
        done = subprocess.run(["crontab", "-n", str(tmp_path / "crontab")], capture_output=True, check=False)
        assert (done.returncode == 0) == is_right


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
