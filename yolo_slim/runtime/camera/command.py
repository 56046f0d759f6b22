"""The ``camera`` command: opens everything, runs until the end, and closes everything."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from yolo_slim.bundle import open_bundle
from yolo_slim.errors import EXIT_BAD_INPUT, EXIT_OK, SlimError
from yolo_slim.machine import cores
from yolo_slim.runtime import tuned
from yolo_slim.runtime.camera.arguments import class_ids, require_possible
from yolo_slim.runtime.camera.capture import CaptureSettings
from yolo_slim.runtime.camera.hang import ModelHung
from yolo_slim.runtime.camera.live import Live, LiveSettings
from yolo_slim.runtime.camera.outputs import service
from yolo_slim.runtime.camera.outputs.health import health
from yolo_slim.runtime.camera.outputs.watchdog import Watchdog
from yolo_slim.runtime.camera.pools import limit_pools
from yolo_slim.runtime.camera.sources import SourceOptions, list_cameras, open_source, parse_source
from yolo_slim.runtime.camera.view import View
from yolo_slim.runtime.camera.window import require_window, run_window
from yolo_slim.runtime.camera.wiring import make_outputs
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.selfcheck import FOLDER as SELFCHECK

LINE_S = 1.0
"""How often the terminal's line is written again."""
LOG_S = 60.0
"""How often it is written where nobody looks at it: into a file or a journal."""
LOOK_S = 0.1
FIRST_S = 5.0
"""How long the link waits for the source."""

Say = Callable[[str], None]


def run(args: argparse.Namespace, typed: list[str]) -> int:
    """Run the camera as the options say; ``typed`` are the words of the command line.

    Raises:
        SlimError: anything that doesn't work at the start, or that ended the camera.
    """
    if args.list:
        return _list()
    require_possible(args)
    if args.bundle is None:
        raise SlimError("No bundle was given.", remedy="Give a bundle: camera BUNDLE --source 0.")
    if args.print_service or args.install_service:
        return _service(args, typed)
    if args.display:
        require_window()
    limit_pools()
    with ExitStack() as models:
        detectors = {name: models.enter_context(_detector(path, args.threads)) for name, path in _bundles(args).items()}
        try:
            with ExitStack() as stack:
                _run(args, detectors, stack)
        except ModelHung as error:
            _leave(error)
    return EXIT_OK


def _detector(path: Path, threads: int | None) -> Detector:
    """Load a bundle; without a number of threads, one core is left to capture, encoder and server.

    A runtime that shares its cores is slower by more than a core (docs/benchmarks/contention.md).
    """
    bundle = open_bundle(path)
    setting = tuned.load(bundle).setting
    usual = setting.threads if setting else bundle.spec.threads
    return Detector(bundle, threads or min(usual, max(cores() - 1, 1)))


def _leave(error: ModelHung) -> NoReturn:
    """End the process at once: freeing a model that hangs, or waiting for its thread, would never end."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(EXIT_BAD_INPUT)


def _run(args: argparse.Namespace, detectors: Mapping[str, Detector], stack: ExitStack) -> None:
    """Open everything else; what fails closes what was opened before it."""
    bundles = {name: one.bundle.spec for name, one in detectors.items()}
    names = bundles["slim"].names
    say = _Terminal(is_quiet=args.quiet)
    for name, one in detectors.items():
        about = one.bundle.spec
        say(f"{name}: {about.name}, {about.runtime} {about.precision}, threads {one.threads}")
    spec = parse_source(args.source, _source_options(args, detectors["slim"].bundle.folder))
    say(f"source: {spec.name}")
    outputs = make_outputs(args, spec.name, names, say, stack)
    settings = LiveSettings(
        conf=args.conf, classes=class_ids(args.classes, names, "--classes") if args.classes else None,
        # A service starts before its camera is there, or before the network is.
        capture=CaptureSettings(wait_for_source="NOTIFY_SOCKET" in os.environ), max_stall_s=args.max_stall,
    )  # fmt: skip
    live = Live(partial(open_source, spec), detectors, settings, track=outputs.track)
    outputs.attach(live)
    if args.max_frames:
        # Behind the outputs, which get the last frame too.
        live.on_shown(lambda shown: live.stop() if shown.sequence + 1 >= args.max_frames else None)
    live.on_message(say)
    view = stack.enter_context(View(args, live, outputs, bundles)) if not args.no_page else None
    watchdog = Watchdog(lambda: health(live.stats().to_json()))
    stack.callback(watchdog.close)
    with _ending() as is_asked, live:
        watchdog.start()
        _until_the_end(args, live, say, is_asked, view.invitation if view else "")
    say.summary(live.stats().as_summary())


def _bundles(args: argparse.Namespace) -> Mapping[str, Path]:
    return {"slim": args.bundle, **({"control": args.control} if args.control else {})}


def _source_options(args: argparse.Namespace, bundle: Path) -> SourceOptions:
    # The scene shows what the bundle can find: its own self-check images.
    pictures = bundle / SELFCHECK if args.source == "scene" and (bundle / SELFCHECK).is_dir() else None
    return SourceOptions(
        size=args.size, rate=args.rate, rotate=args.rotate, flip=args.flip, exposure_ms=args.exposure, loop=args.loop,
        pictures=pictures,
    )  # fmt: skip


def _until_the_end(
    args: argparse.Namespace, live: Live, say: _Terminal, is_asked: Callable[[], bool], invitation: str
) -> None:
    """Wait for the source's end, a signal, or the limit that was given.

    Raises:
        SlimError: a problem ended the camera.
    """
    _invite(live, say, invitation)
    if args.display:
        run_window(live)
        return
    ends_s = time.monotonic() + args.duration if args.duration else float("inf")
    while not live.wait(LOOK_S) and not is_asked() and time.monotonic() < ends_s:
        say.line(live.stats().as_line())


def _invite(live: Live, say: _Terminal, invitation: str) -> None:
    """Say where the page is; not before a source that can't be opened has said so.

    Raises:
        SlimError: the source can't be opened.
    """
    ends_s = time.monotonic() + FIRST_S
    while live.stats().state == "connecting" and time.monotonic() < ends_s:
        if live.wait(LOOK_S):
            break
    if invitation:
        say(invitation)


@contextmanager
def _ending() -> Iterator[Callable[[], bool]]:
    """End on SIGTERM and SIGINT: the first asks for the end, and a second SIGINT is Python's own."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Terminal:
    """Messages, and one line of figures that is written over and over; all of it to standard error."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._is_terminal = sys.stderr.isatty()
        self._next_s = 0.0
        self._length = 0

    def __call__(self, text: str) -> None:
        """Say something once."""
        if not self._is_quiet:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Show the figures: each second on a terminal, each minute in a log."""
        now_s = time.monotonic()
        if self._is_quiet or now_s < self._next_s:
            return
        self._next_s = now_s + (LINE_S if self._is_terminal else LOG_S)
        if not self._is_terminal:
            print(text, file=sys.stderr, flush=True)
            return
        self._clear()
        print(text, end="\r", file=sys.stderr, flush=True)
        self._length = len(text)

    def summary(self, text: str) -> None:
        """Say what happened in all."""
        self(text)

    def _clear(self) -> None:
        if self._length:
            print(" " * self._length, end="\r", file=sys.stderr)
            self._length = 0


def _list() -> int:
    """Print the cameras and their modes."""
    found = list_cameras()
    lines = [line for one in found for line in one.lines()]
    print("\n".join(lines) if lines else "No camera was found. Streams, videos and the scene work without one.")
    return EXIT_OK


def _service(args: argparse.Namespace, typed: list[str]) -> int:
    """Print or install a systemd unit that runs the same command."""
    settings = service.ServiceSettings(
        arguments=tuple(typed), folder=Path.cwd(), python_path=os.environ.get("PYTHONPATH", ""),
        user="" if args.user else os.environ.get("USER", "root"),
    )  # fmt: skip
    if args.print_service:
        print(service.unit(settings))
    elif args.user:
        print(service.install_user_unit(settings))
    else:
        print(service.system_instructions(settings))
    return EXIT_OK
