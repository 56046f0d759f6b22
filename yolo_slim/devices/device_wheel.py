"""The wheel that travels inside a bundle: the device half of yolo_slim, the same bytes every time."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from yolo_slim.files import sha256, sha256_json
from yolo_slim.version import __version__

PACKAGE = Path(__file__).parents[1]
MODULES = (
    *("__init__.py", "version.py", "errors.py", "files.py", "machine.py", "requirements.py", "bundle.py", "py.typed"),
    *("child_process.py", "sensors.py", "system_libraries.py"),
    *("runtime/**/*.py", "runtime/**/*.html", "runtime/**/*.css", "runtime/**/*.js", "backends/**/*.py"),
)
"""What runs on a device."""


def code_files() -> list[Path]:
    """List the files of the device half."""
    return sorted(file for pattern in MODULES for file in PACKAGE.glob(pattern))


def code_digest() -> str:
    """Identify the device half by its content, so that a bundle with older code is known to be stale."""
    return sha256_json({file.relative_to(PACKAGE).as_posix(): sha256(file) for file in code_files()})


def write(folder: Path) -> Path:
    """Write ``yolo_slim-VERSION-py3-none-any.whl`` into a folder and return its path."""
    from wheel.wheelfile import WheelFile

    path = folder / f"yolo_slim-{__version__}-py3-none-any.whl"
    info = f"yolo_slim-{__version__}.dist-info"
    # OpenCV isn't required here: the system's own one, usual on a Pi or a Jetson, has no pip metadata, and pip would
    # install another one beside it.
    metadata = (
        f"Metadata-Version: 2.1\nName: yolo-slim\nVersion: {__version__}\n"
        "Summary: The device half of yolo_slim.\nLicense: AGPL-3.0-only\n"
        "Requires-Python: >=3.10\nRequires-Dist: numpy>=1.24\n"
    )
    tags = "Wheel-Version: 1.0\nGenerator: yolo_slim\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    # The wheel library stamps its entries with this; without it two builds differ.
    # The value is 1980-01-01, the earliest date that a zip archive can store.
    with patch.dict(os.environ, {"SOURCE_DATE_EPOCH": "315532800"}), WheelFile(str(path), "w") as wheel:
        for file in code_files():
            wheel.writestr(f"yolo_slim/{file.relative_to(PACKAGE).as_posix()}", file.read_bytes())
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", tags)
    return path
