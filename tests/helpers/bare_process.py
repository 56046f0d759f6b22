"""The process of :mod:`tests.helpers.bare`, which takes one job after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers.constants import ROOT


class BareUltralytics:
    """Plain Ultralytics with yolo_slim out of reach; it is started by the first job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where it runs; what it says beside its answers goes to ``bare.log`` there."""
        self._process: subprocess.Popen[str] | None = None

    def use(self, data: Path, imgsz: int, *weights: Path) -> list[dict[str, Any]]:
        """Let it load, validate and export every file; a row for each says what worked.

        Raises:
            RuntimeError: the process ended.
        """
        process = self._process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"data": str(data), "imgsz": imgsz, "files": [*map(str, weights)]}) + "\n")
        process.stdin.flush()
        found: list[dict[str, Any]] = []
        for line in process.stdout:
            found += [json.loads(line[5:])] if line.startswith("BARE ") else []
            if len(found) == len(weights):
                return found
        raise RuntimeError(f"bare.py ended: {(self.folder / 'bare.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End the process, if it was started."""
        if self._process:
            self._process.kill()
            self._process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with (self.folder / "bare.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "helpers" / "bare.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder, env=environment,
            )  # fmt: skip
