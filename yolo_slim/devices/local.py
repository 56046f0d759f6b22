"""The machine at hand as the device: each bundle runs in a process of its own, by the device's own commands."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_slim.bundle import read_spec
from yolo_slim.child_process import own_environment
from yolo_slim.config.profile import Profile
from yolo_slim.config.record import read_record
from yolo_slim.devices.answers import Bench, DeviceFacts, SelfCheck
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json
from yolo_slim.machine import cores, describe_machine, device_model
from yolo_slim.runtime.infer import ImageDetections, load_detections
from yolo_slim.runtime.paired import Paired

INVALID = (0, 1)
"""Exit codes of a command whose answer may be no: a timing that doesn't count, a check that failed."""


class LocalDevice:
    """The machine that runs this program. Bundles stay where they are, so nothing is copied or removed."""

    name = "this machine"

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""
        return read_record(DeviceFacts, describe_machine(), self.name, "")

    def is_target(self, profile: Profile) -> bool:
        """Compare the architecture and the model with the profile's."""
        is_arch = profile.arch in ("any", platform.machine())
        model = profile.device_model
        return is_arch and (model is None or re.search(model, device_model()) is not None)

    def put(self, bundle: Path) -> Placed:
        """Name a bundle's folder; its commands verify the files."""
        return Placed(spec=read_spec(bundle), path=str(bundle))

    def build(self, placed: Placed) -> None:
        """Build the engine, see ``python -m yolo_slim.runtime build``."""
        _run("build", placed.path)

    def check(self, placed: Placed) -> SelfCheck:
        """Run the bundle's self-check."""
        with _answer("check") as out:
            _run("check", placed.path, "--quiet", "--json", str(out), allowed=INVALID)
            return SelfCheck.from_device(read_json(out))

    def infer(self, placed: Placed, images: Path) -> list[ImageDetections]:
        """Detect in a folder of images with all cores: accuracy doesn't depend on their number."""
        with _answer("infer") as out:
            _run("infer", placed.path, str(images), "--out", str(out), "--quiet", "--threads", str(cores()))
            return load_detections(out)

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Time a bundle with its own number of threads, or as many as there are cores."""
        limit = [] if settings.max_celsius is None else ["--max-celsius", str(settings.max_celsius)]
        length = ["--seconds", str(settings.seconds), "--queries", str(settings.queries)]
        length += ["--repeat", str(settings.repeats)]
        threads = ["--threads", str(min(placed.spec.threads, cores()))]
        given = ["--images", str(images), *length, *threads, *limit]
        with _answer("bench") as out:
            _run("bench", placed.path, *given, "--quiet", "--json", str(out), allowed=INVALID)
            return Bench.from_device(read_json(out))

    def time_paired(self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int) -> Paired:
        """Time two bundles in turns."""
        given = ["--images", str(images), "--rounds", str(rounds), "--frames", str(frames)]
        with _answer("pair") as out:
            _run("pair", before.path, after.path, *given, "--quiet", "--json", str(out), allowed=INVALID)
            return Paired.from_json(read_json(out))

    def close(self) -> None:
        """Do nothing: the bundles are the user's own."""


@contextmanager
def _answer(command: str) -> Iterator[Path]:
    """A file for a command's answer."""
    with tempfile.TemporaryDirectory(prefix=f"yolo-slim-{command}-") as folder:
        yield Path(folder) / "answer.json"


def _run(*arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Run the device's command line here."""
    command = [sys.executable, "-m", "yolo_slim.runtime", *arguments]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
    if done.returncode not in allowed:
        # A process that the system killed, mostly for memory, says nothing of the bundle.
        kind = MachineError if done.returncode < 0 else SlimError
        raise kind(
            f"The bundle failed here: `python -m yolo_slim.runtime {shlex.join(arguments)}` "
            f"ended with status {done.returncode}.",
            culprits=done.stderr.strip().splitlines()[-6:],
            remedy="Run that command yourself to see more.",
        )
