"""What is shipped: wheel and sdist install and work, and the Dockerfile has no fault that a linter finds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT
from yolo_slim.version import __version__

needs_hatchling = pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling (extra dev)")


def build(source: Path, out: Path, *kinds: str) -> None:
    """Build archives as `python -m hatchling build` does, without a network."""
    options = [word for kind in kinds for word in ("--target", kind)]
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out), *options]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and the sdist of this repository."""
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out, "sdist", "wheel")
    return out


@needs_hatchling
@pytest.mark.slow
def test_wheel_has_what_it_needs(archives: Path) -> None:
    """Profiles, weights, templates and the commit are in it; tests and documentation are not."""
    names = zipfile.ZipFile(next(archives.glob("*.whl"))).namelist()
    for wanted in ("_targets/rpi5.yaml", "assets/quickstart-yolo11n.pt", "reporting/report.html.j2", "py.typed"):
        assert f"yolo_slim/{wanted}" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    if (ROOT / ".git").exists():
        assert "yolo_slim/commit.txt" in names


@needs_hatchling
@pytest.mark.slow
def test_wheel_installs_and_answers(archives: Path, tmp_path: Path) -> None:
    """In a new environment, which sees this one's packages, the device half works and the version names the commit."""
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path)], check=True)
    python = tmp_path / "bin/python"
    wheel = next(archives.glob("*.whl"))
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run(install, check=True)
    code = "import yolo_slim; from yolo_slim.commit import commit_text; print(yolo_slim.__file__, commit_text())"
    # Isolated: a PYTHONPATH of the caller would come first.
    done = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path)), "another copy answers"
    if (ROOT / ".git").exists():
        assert re.search(r"commit [0-9a-f]{12}", done.stdout)
    command = [python, "-I", "-m", "yolo_slim.runtime", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert b"bench" in shown.stdout


@needs_hatchling
@pytest.mark.slow
def test_sdist_makes_the_same_wheel(archives: Path, tmp_path: Path) -> None:
    """A wheel of the sdist, without git, has the files of the wheel of the clone."""
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    build(tmp_path / f"yolo_slim-{__version__}", tmp_path / "dist", "wheel")

    def files(folder: Path) -> set[str]:
        return set(zipfile.ZipFile(next(folder.glob("*.whl"))).namelist())

    assert files(tmp_path / "dist") == files(archives)


@needs_hatchling
@pytest.mark.slow
def test_sdist_installs(archives: Path, tmp_path: Path) -> None:
    """Pip builds and installs the sdist, and the installed copy answers."""
    sdist, target = next(archives.glob("*.tar.gz")), tmp_path / "target"
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *options, str(sdist)], check=True)
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import yolo_slim; print(yolo_slim.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(target)), "another copy answers"
    assert (target / "yolo_slim/_targets/rpi5.yaml").is_file()


def test_version_is_written_once() -> None:
    """pyproject.toml takes the version from the package; change log and citation name it."""
    assert "version = " not in (ROOT / "pyproject.toml").read_text().partition("[tool")[0]
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def linter() -> str | None:
    """Find hadolint, beside this Python or in the path."""
    beside = Path(sys.executable).with_name("hadolint")
    return str(beside) if beside.is_file() else shutil.which("hadolint")


@pytest.mark.skipif(linter() is None, reason="needs hadolint (extra dev)")
def test_dockerfile_passes_its_linter(tmp_path: Path) -> None:
    """Hadolint finds nothing; negative control: it finds a base image without a version."""
    hadolint = linter()
    assert hadolint is not None
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo apt-get install curl\n")
    assert subprocess.run([hadolint, str(bad)], capture_output=True, check=False).returncode != 0
