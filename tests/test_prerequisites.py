"""A fresh machine: what it lacks is named with the line to type, before anything is installed and by every command."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.constants import ROOT
from tests.helpers.hidden import without
from yolo_slim import prerequisites
from yolo_slim.cli.doctor import EXTRAS
from yolo_slim.system_libraries import DEBIAN_PACKAGES, OPENCV_LIBRARIES, explain_import, extra_line, install_line

GONE = ("libGL.so.1", "libxcb.so.1")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have apt, and be an ordinary user."""
    (tmp_path / "apt").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)


def as_line(text: str) -> str:
    """Return the line that names what to install."""
    (line,) = [line for line in text.splitlines() if line.startswith("Install: ")]
    return line


def test_libraries_are_checked_before_the_installation(tmp_path: Path) -> None:
    """Make stops with the libraries' names and one line to type; nothing was installed."""
    done = without(GONE, "make", "install", f"VENV={tmp_path / 'venv'}", f"PYTHON={sys.executable}")
    assert done.returncode == 2, done.stderr
    assert "MISSING  OpenCV needs libraries that this system lacks: libGL.so.1, libxcb.so.1" in done.stderr
    assert not (tmp_path / "venv").exists()
    if shutil.which("apt"):
        assert as_line(done.stderr).endswith(" libgl1 libxcb1")
    packages = without(GONE, sys.executable, "-m", "scripts.check_machine", "--packages")
    assert packages.stdout == "libgl1 libxcb1\n", packages.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "code"),
    [
        ("yolo_slim.cli", ["doctor"], 2),
        ("yolo_slim.cli", ["show", "yolo_slim/assets/quickstart-yolo11n.pt"], 2),
        ("yolo_slim.runtime", ["bench", "targets"], 2),
        ("yolo_slim.runtime", ["doctor"], 1),
    ],
)
def test_no_command_ends_in_a_traceback(module: str, arguments: list[str], code: int) -> None:
    """Whatever imports OpenCV names the libraries that it lacks; doctor too."""
    done = without(GONE, sys.executable, "-m", module, *arguments)
    text = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in text) == (code, False), text
    assert "OpenCV needs libraries that this system lacks: " in text
    assert all(name in text for name in (*GONE, "Install: "))
    assert ("Missing: cv2" in text) == (module == "yolo_slim.cli" and arguments == ["doctor"])


def test_complete_machine() -> None:
    """Negative control: where nothing is missing both doctors say so, and that nothing is to be typed."""
    code, text, err = run_cli("doctor")
    assert (code, err) == (0, "")
    assert text.splitlines()[-2:] == ["Missing: nothing.", "This machine can prune and build. Try it: yolo-slim run"]
    assert "Fine: cv2, onnxruntime, ncnn, torch" in text
    value = json.loads(run_cli("doctor", "--json")[1])
    assert (value["missing"], value["problems"]) == ([], [])
    assert {"arch", "opencv", "torch"} <= value.keys()


def test_doctor_says_what_a_run_can_do_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GPU, disk and the emulated Pi have a line each, with what to type; OpenCV's version stands there once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(prerequisites, "nvidia_gpus", list)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 0, 50e9))
    text = run_cli("doctor")[1]
    assert [line for line in text.splitlines() if line.startswith(("GPU", "Disk", "Emulated"))] == [
        "GPU: none from NVIDIA. Training runs on the CPU.",
        "Disk: 50.0 GB free here, 50.0 GB free for temporary files.",
        "Emulated Pi: not prepared for the packages here: yolo-slim device prepare",
    ]
    assert len(re.findall("^opencv", text, re.MULTILINE)) == 1
    monkeypatch.setattr(prerequisites, "nvidia_gpus", lambda: ["Example A", "Example B"])
    monkeypatch.setattr("yolo_slim.machine.package_version", lambda _: "2.14.1+cpu")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 0, 1e9))
    assert json.loads(run_cli("doctor", "--json")[1])["resources"] == {
        "GPU": "Example A, Example B, but torch is without CUDA: "
        f"pip install -c {ROOT}/constraints.txt --force-reinstall torch torchvision",
        "Disk": "1.0 GB free here, 1.0 GB free for temporary files. Free some space before a run.",
        "Emulated Pi": "not prepared for the packages here: yolo-slim device prepare",
    }


def test_every_extra_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a workstation may add is named with its extra, all of pyproject's."""
    find = prerequisites.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in EXTRAS else find(name))
    code, out, err = run_cli("doctor", "--json")
    assert code == 0, err
    # tomllib needs Python 3.11.
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2]
    extras = set(re.findall(r"^(\w+) = ", section.partition("\n[")[0], flags=re.MULTILINE))
    assert {"host", "mlflow"} <= extras
    assert set(json.loads(out)["optional"]) == extras - {"host", "opencv", "onnxruntime", "ncnn", "docs", "dev"}


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that aren't installed share one line to type, in the text and in the JSON."""
    find = prerequisites.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("pnnx", "onnx") else find(name))
    code, out, err = run_cli("doctor", "--json")
    assert (code, json.loads(out)["missing"]) == (2, ["onnx", "pnnx"])
    (line,) = [line for line in err.splitlines() if "pip install" in line]
    assert line == f"Install the packages: pip install -c {ROOT}/constraints.txt 'yolo-slim[host]'"


def test_pins_are_named_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a clone the line to type has its constraints.txt, from any folder; an installed wheel has no such file."""
    monkeypatch.chdir(tmp_path)
    assert shlex.split(extra_line("ssh")) == ["pip", "install", "-c", f"{ROOT}/constraints.txt", "yolo-slim[ssh]"]
    monkeypatch.setattr("yolo_slim.system_libraries.CLONE", tmp_path / "site-packages")
    assert extra_line("ssh") == "pip install 'yolo-slim[ssh]'"


def test_this_python_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt: None) -> None:
    """Python, its virtual environments and the disk are each judged, with sizes; what is met needs nothing."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 0, 99e9))
    monkeypatch.setattr(prerequisites, "missing_libraries", list)
    assert all(finding.is_met for finding in prerequisites.look(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 0, 6.5e9))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else name)
    text = prerequisites.report(prerequisites.look(tmp_path / "not" / "yet"))
    minor = sys.version_info[1]
    assert "MISSING  no virtual environments: this Python lacks ensurepip" in text
    assert as_line(text) == f"Install: sudo apt install python3.{minor}-venv"
    assert f"MISSING  6.5 GB free for {tmp_path}/not/yet; the packages take about 7 GB" in text
    assert text.splitlines()[-1].startswith(f"Free some space on the disk of {tmp_path}")
    assert prerequisites.disk(tmp_path / "not" / "yet", has_cuda=False).is_met
    (tmp_path / "venv/lib/python3.11/site-packages/torch").mkdir(parents=True)
    assert prerequisites.disk(tmp_path / "venv").is_met


def test_older_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt: None) -> None:
    """A Python that constraints.txt doesn't know says which one is needed and how to name it."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    monkeypatch.setattr(prerequisites, "missing_libraries", lambda: ["libGL.so.1"])
    text = prerequisites.report(prerequisites.look(tmp_path))
    assert "MISSING  Python 3.10.12 (3.11 or newer is needed, 64-bit)" in text
    assert as_line(text) == "Install: sudo apt install python3.11 python3.11-venv libgl1"
    assert "make PYTHON=python3.11" in text


@pytest.mark.parametrize(
    "file", ["__init__.py", "errors.py", "system_libraries.py", "prerequisites.py", "../scripts/check_machine.py"]
)
def test_older_python_can_read_it(file: str) -> None:
    """The check is written for Python 3.8 too, and needs the standard library alone."""
    tree = ast.parse((ROOT / "yolo_slim" / file).read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "yolo_slim"}


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (ImportError("libGL.so.1: cannot open shared object file: No such file", name="cv2"), ["OpenCV", "libgl1"]),
        (ImportError("/lib/libgthread-2.0.so.0: file too short"), ["OpenCV", "libglib2.0-0"]),
        (
            ImportError("Original: libopenblas.so.0: cannot open shared object file", name="numpy"),
            ["libopenblas0"],
        ),
        (ImportError("libfoo-1.2.so.3: cannot open shared object file", name="ncnn"), ["libfoo-1.2.so.3", "contain"]),
        (ImportError('recursion is detected during loading of "cv2" binary extensions'), ["OpenCV can't be imported"]),
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), ["cv2 isn't", "pip install opencv-python-headless"]),
        (ModuleNotFoundError("No module named 'ncnn.x'", name="ncnn.x"), ["ncnn isn't", "pip install ncnn"]),
    ],
)
def test_imports_that_fail(error: ImportError, parts: list[str], apt: None) -> None:
    """Each kind of failed import is a message with what to type."""
    assert [part for part in parts if part not in str(explain_import(error))] == []


def test_faults_of_ours_keep_their_traceback() -> None:
    """Negative control: a name or module of our own that is missing isn't the machine's."""
    assert explain_import(ImportError("cannot import name 'x' from 'yolo_slim.files'", name="yolo_slim.files")) is None
    assert explain_import(ModuleNotFoundError("No module named 'yolo_slim.x'", name="yolo_slim.x")) is None
    assert explain_import(ImportError("cannot import name 'x' from 'torch'", name="torch")) is None


def test_line_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt: None) -> None:
    """An ordinary user needs sudo; root in a fresh container needs the list of packages; others get the names."""
    assert install_line(["a", "b", "a"]) == "sudo apt install a b"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert install_line(["a"]) == "apt update && apt install -y a"
    (tmp_path / "apt").unlink()
    assert install_line(["a"]).endswith("what Debian calls a")
    assert set(OPENCV_LIBRARIES) <= DEBIAN_PACKAGES.keys()
