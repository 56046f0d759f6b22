"""Timings and checks of ``tune``, each by the device's own command in a new process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim.bundle import Bundle
from yolo_slim.child_process import own_environment
from yolo_slim.errors import EXIT_FAIL, EXIT_OK, SlimError
from yolo_slim.files import read_json
from yolo_slim.runtime.arguments import PROG, REPEATS
from yolo_slim.runtime.tune import Timed
from yolo_slim.runtime.tuned import Setting, typed


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Runs one bundle with any setting."""

    bundle: Bundle
    images: Path | None
    """What is timed; None: the bundle's own images."""
    seconds: float
    """Shortest duration of a timing."""

    def time_once(self, setting: Setting) -> Timed:
        """Time a setting; a busy machine is timed again, as by ``bench``."""
        length = ["--seconds", str(self.seconds), "--queries", "16", "--repeat", str(REPEATS)]
        images = [] if self.images is None else ["--images", str(self.images)]
        found = self._ask("bench", setting, *length, *images)
        return Timed(p50_ms=found["stages"]["total"]["p50_ms"], invalid_reasons=tuple(found["invalid_reasons"]))

    def is_right(self, setting: Setting) -> bool:
        """Whether the self-check passes."""
        return bool(self._ask("check", setting)["passed"])

    def _ask(self, command: str, setting: Setting, *arguments: str) -> Any:
        options = ["--untuned", *(word for text in typed(setting.options) for word in ("--option", text))]
        given = [command, str(self.bundle.folder), "--threads", str(setting.threads), *options, *arguments, "--quiet"]
        with tempfile.TemporaryDirectory(prefix="yolo-slim-tune-") as folder:
            out = Path(folder) / "answer.json"
            process = [sys.executable, "-m", "yolo_slim.runtime", *given, "--json", str(out)]
            done = subprocess.run(process, env=own_environment(), capture_output=True, text=True, check=False)
            if done.returncode not in (EXIT_OK, EXIT_FAIL):
                raise SlimError(
                    f"The bundle doesn't run with {setting} (status {done.returncode}).",
                    culprits=done.stderr.strip().splitlines()[-6:],
                    remedy=f"Run it yourself to see more: {PROG} {' '.join(given)}",
                )
            return read_json(out)
