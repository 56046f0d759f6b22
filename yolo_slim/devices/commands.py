"""A device that is asked through its own command line, ``python -m yolo_slim.runtime``, wherever that runs.

What differs between machines is small: how a command is started there, and how files come there. That is a
:class:`Shell`; a new kind of device is a new shell.
"""

from __future__ import annotations

import re
import shlex
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from yolo_slim.bundle import read_spec
from yolo_slim.config.profile import Profile
from yolo_slim.devices.answers import Bench, DeviceFacts, SelfCheck, tuning_from_json
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import JsonObject
from yolo_slim.runtime.infer import ImageDetections, detections_from_json
from yolo_slim.runtime.layers import LayerTimes
from yolo_slim.runtime.paired import Paired

ANSWERED = (0, 1)
"""Exit codes of a command that answered, though perhaps with no: a timing that doesn't count, a failed check."""


class Shell(Protocol):
    """Starts commands on one machine and brings files there."""

    @property
    def name(self) -> str:
        """What people call the machine: ``this machine``, or its address."""

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""

    def bundle_path(self, bundle: Path) -> str:
        """Bring a bundle's folder to the machine and say where it is there."""

    def images_path(self, images: Path) -> str:
        """Bring an image, or a folder of images, to the machine and say where it is there."""

    def file_path(self, file: Path) -> str:
        """Bring a small file to the machine and say where it is there."""

    def run(self, *arguments: str) -> None:
        """Run ``python -m yolo_slim.runtime`` with arguments.

        Raises:
            SlimError: it ended with another status than 0, see :func:`failed`.
        """

    def ask(self, *arguments: str, option: str = "--json") -> Any:
        """Run a command that writes its answer as JSON to the file that ``option`` names; return that value.

        Raises:
            SlimError: it ended with a status that isn't in :data:`ANSWERED`, or its answer can't be read.
        """

    def close(self) -> None:
        """End the connection and remove what was put there."""


class CommandDevice:
    """A machine that has yolo_slim's runtime: each bundle runs in a process of its own."""

    is_here = False
    """Whether it is the machine that runs this program."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    @property
    def name(self) -> str:
        """What people call it."""
        return self.shell.name

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""
        return self.shell.facts()

    def is_target(self, profile: Profile) -> bool:
        """Compare the architecture and the model with the profile's."""
        facts, model = self.facts(), profile.device_model
        return profile.arch in ("any", facts.arch) and (model is None or re.search(model, facts.model) is not None)

    def put(self, bundle: Path) -> Placed:
        """Bring a bundle's folder there; its commands verify the files."""
        return Placed(spec=read_spec(bundle), path=self.shell.bundle_path(bundle))

    def build(self, placed: Placed) -> None:
        """Build the engine, see ``python -m yolo_slim.runtime build``."""
        self.shell.run("build", placed.path)

    def tune(self, placed: Placed, images: Path) -> str:
        """Tune a bundle, see ``python -m yolo_slim.runtime tune``."""
        found = self.shell.ask("tune", placed.path, "--images", self.shell.images_path(images), "--quiet")
        return tuning_from_json(found)

    def check(self, placed: Placed) -> SelfCheck:
        """Run the bundle's self-check."""
        return SelfCheck.from_device(self.shell.ask("check", placed.path, "--quiet"))

    def infer(self, placed: Placed, images: Path, *, candidates: bool = False) -> list[ImageDetections]:
        """Detect in a folder of images with all cores: accuracy doesn't depend on their number."""
        value = self._inferred(placed, images, candidates=candidates)
        return detections_from_json(value, f"The answer of {self.name}")

    def _inferred(self, placed: Placed, images: Path, *, candidates: bool) -> JsonObject:
        given = [placed.path, self.shell.images_path(images), "--quiet", *self._threads(None)]
        given += ["--candidates"] if candidates else []
        return self.shell.ask("infer", *given, option="--out")

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Time a bundle as it runs there: with the threads that were tuned, else its own, at most one a core."""
        length = ["--seconds", str(settings.seconds), "--queries", str(settings.queries)]
        length += ["--repeat", str(settings.repeats)]
        length += ["--minutes", str(settings.minutes)] if settings.minutes else []
        length += ["--breakdown"] if settings.breakdown else []
        found = self.shell.ask(
            "bench",
            placed.path,
            "--images",
            self.shell.images_path(images),
            *length,
            *_limit(settings.max_celsius),
            "--quiet",
        )
        return Bench.from_device(found)

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Time two bundles in turns."""
        given = ["--images", self.shell.images_path(images), "--rounds", str(rounds), "--frames", str(frames)]
        given += _limit(max_celsius)
        return Paired.from_json(self.shell.ask("pair", before.path, after.path, *given, "--quiet"))

    def time_layers(self, layers: Path, *, max_celsius: float | None = None) -> LayerTimes:
        """Time single layers."""
        given = [self.shell.file_path(layers), *_limit(max_celsius)]
        return LayerTimes.from_json(self.shell.ask("layers", *given, "--quiet"))

    def close(self) -> None:
        """End the connection and remove what was put there."""
        self.shell.close()

    def _threads(self, wanted: int | None) -> list[str]:
        """The option for a number of threads: at most one a core; None: all cores."""
        counts = [count for count in (wanted, self._cores) if count is not None]
        return ["--threads", str(min(counts))] if counts else []

    @cached_property
    def _cores(self) -> int | None:
        return self.facts().cores


def _limit(max_celsius: float | None) -> list[str]:
    """The option for the temperature above which a timing doesn't count."""
    return [] if max_celsius is None else ["--max-celsius", str(max_celsius)]


def failed(shell: Shell, arguments: tuple[str, ...], status: int, errors: str) -> SlimError:
    """Make the error of a command that ended with a status that is no answer, from the end of its error output."""
    # A process that the system killed, mostly for memory, says nothing of the bundle.
    kind = MachineError if status < 0 else SlimError
    return kind(
        f"The bundle failed on {shell.name}: `python -m yolo_slim.runtime {shlex.join(arguments)}` "
        f"ended with status {status}.",
        culprits=errors.strip().splitlines()[-6:],
        remedy="Run that command there yourself to see more.",
    )
