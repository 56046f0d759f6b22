"""The options of the device's command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from yolo_slim.errors import EXIT_BAD_INPUT, did_you_mean, not_found
from yolo_slim.files import require_place
from yolo_slim.runtime.camera.arguments import add_camera_options

PROG = "python -m yolo_slim.runtime"
MAX_BENCH_IMAGES = 64
"""Most distinct frames that ``bench`` times."""

REPEATS = 2
"""How often ``bench`` times a device again that other programs keep busy."""

COMMAND = "COMMAND"
RENAMED: Mapping[str, Mapping[str, str]] = {"camera": {"--host": "--listen"}}
"""Command to the old names of its options, with the new ones."""
A_BUNDLE, A_SOURCE = "Give a bundle folder or its .tar.gz.", "Give an image, a folder of images or a video."
REMEDIES = {
    "bundle": A_BUNDLE,
    "other": A_BUNDLE,
    "control": A_BUNDLE,
    "source": A_SOURCE,
    "images": A_SOURCE,
    "file": "Give a file of layers that `yolo-slim latency` wrote.",
}
"""Arguments that name what is read, to what to do where it isn't there."""

Command = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines: what is wrong, with what was meant, and where to read more."""

    renamed: Mapping[str, str] = MappingProxyType({})
    """Old name of an option to its new one. An old name is refused with the new one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; words that nothing takes are an error, of the command that they were given to."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            options = [word.partition("=")[0] for word in left if word.startswith("-")]
            self.error(self._no_such(options[0]) if options else f"Unexpected: {' '.join(left)}.")
        return found, left

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        text = self._explained(message.removeprefix("argument "))
        self.exit(EXIT_BAD_INPUT, f"error: {text[:1].upper()}{text[1:]}\nSee `{self.prog} --help`.\n")

    def _no_such(self, option: str) -> str:
        """Say what to type in place of an option that doesn't exist."""
        if option in self.renamed:
            return f"No such option '{option}'. It is now called '{self.renamed[option]}'."
        return f"No such option '{option}'.{did_you_mean(option, self._option_string_actions)}"

    def _explained(self, message: str) -> str:
        """Say of a word that is none of those expected what was probably meant; another message stays."""
        found = re.match(r"(\S+): invalid choice: '(.*?)'", message)
        if not found:
            return message
        name, word = found.groups()
        action = next(one for one in self._actions if name in (one.metavar, *one.option_strings))
        choices = list(action.choices or ())
        what = "No such command" if name == COMMAND else f"{name}: got"
        return f"{what} '{word}'." + (did_you_mean(word, choices) or f" Choose from {', '.join(choices)}.")


def make_parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """The parser of all commands; ``args.run`` is the function of the chosen one."""
    parser = Parser(prog=PROG, description="Run a yolo_slim bundle on this device.")
    choice = parser.add_subparsers(required=True, metavar=COMMAND)
    for run in commands:
        name, text = run.__name__, run.__doc__ or ""
        command = choice.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
        _OPTIONS[name](command)
        command.renamed = RENAMED.get(name, {})
        command.set_defaults(inputs=_inputs(command))
    return parser


def _inputs(command: argparse.ArgumentParser) -> dict[str, str]:
    """What a command reads, to what people call it: ``--images``, or ``BUNDLE``."""
    return {
        one.dest: (one.option_strings or [str(one.metavar)])[-1] for one in command._actions if one.dest in REMEDIES
    }


def require_inputs(args: argparse.Namespace) -> None:
    """Check the files and folders that a command reads.

    Raises:
        SlimError: all that aren't there.
    """
    given = {name: getattr(args, name) for name in args.inputs}
    # Text is an address, or a camera.
    missing = [name for name, path in given.items() if isinstance(path, Path) and not path.exists()]
    if missing:
        remedies = dict.fromkeys(REMEDIES[name] for name in missing)
        raise not_found({args.inputs[name]: given[name] for name in missing}, " ".join(remedies))


def require_answer(args: argparse.Namespace) -> None:
    """Check the file that ``--json`` names: a measurement of half an hour must not end without a place for it.

    Raises:
        SlimError: nothing can be written there.
    """
    file, folder = getattr(args, "json", None), getattr(args, "out", None)
    if file in (None, "-") or (folder is not None and Path(file).parent == folder and not folder.exists()):
        return  # to standard output, or into the folder that the command makes
    require_place(Path(file), "--json")


def has_command(name: str) -> bool:
    """Whether the device has a command of this name."""
    return name in _OPTIONS


def _add_bundle(parser: argparse.ArgumentParser, *, is_optional: bool = False) -> None:
    count = "?" if is_optional else None
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, nargs=count, help="a bundle folder or its .tar.gz")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_count, metavar="N", help="inference threads (default: the bundle's)")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the answer as JSON; -: to standard output")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-celsius", type=_positive, metavar="C", help="a timing that is hotter doesn't count")


def _doctor(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser, is_optional=True)
    _add_json(parser)


def _build(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    _add_json(parser)
    parser.add_argument("--force", action="store_true", help="build again even if the engine is up to date")


def _check(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    _add_json(parser)
    _add_threads(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--untuned", action="store_true", help="leave out what `tune` found on this machine")
    option = "an option of the runtime, such as spinning=off, in place of the tuned ones; may be repeated"
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=option)


def _check_and_options(parser: argparse.ArgumentParser) -> None:
    _check(parser)
    _add_options(parser)


def _tune(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    _add_json(parser)
    parser.add_argument("--images", metavar="SRC", type=_source, help="image, folder or video (default: the bundle's)")
    seconds = "shortest duration of one timing in seconds (default: 1)"
    parser.add_argument("--seconds", type=_positive, default=1.0, help=seconds)
    parser.add_argument("--force", action="store_true", help="tune again even if it was tuned on this machine")


def _bench(parser: argparse.ArgumentParser) -> None:
    _check_and_options(parser)
    first = f"of which the first {MAX_BENCH_IMAGES} frames are used"
    images = f"image, folder or video, {first} (default: the bundle's self-check images)"
    parser.add_argument("--images", metavar="SRC", type=_source, help=images)
    parser.add_argument("--seconds", type=_positive, default=10.0, help="shortest duration in seconds (default: 10)")
    parser.add_argument("--queries", type=_count, default=64, help="smallest number of timed frames (default: 64)")
    minutes = "then run for M minutes without a pause: FPS over time, and what is left at the end (default: 0)"
    parser.add_argument("--minutes", type=_not_negative, default=0.0, metavar="M", help=minutes)
    repeat = f"time a busy device again, up to N times (default: {REPEATS})"
    parser.add_argument("--repeat", type=_count_or_none, default=REPEATS, metavar="N", help=repeat)
    breakdown = "then run a few frames more to see where the time goes: convolutions, activations, copies, ..."
    parser.add_argument("--breakdown", action="store_true", help=breakdown)
    _add_limit(parser)


def _detect(parser: argparse.ArgumentParser) -> None:
    _check(parser)
    parser.add_argument("source", metavar="SOURCE", type=_source, help="image, folder or video")
    out = Path("runs/detect")
    parser.add_argument("--out", metavar="DIR", type=Path, default=out, help=f"new folder (default: {out}; then DIR-2)")
    parser.add_argument("--conf", type=_share, help="score threshold (default: the bundle's)")
    parser.add_argument("--iou", type=_share, help="NMS threshold (default: the bundle's)")
    parser.add_argument("--convert-channels", action="store_true", help="convert grey and transparent images")


def _infer(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    _add_threads(parser)
    parser.add_argument("source", metavar="SOURCE", type=_source, help="image or folder of images")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="JSON file to write")
    mode = "val: every class of a box with a score above .001, as mAP needs it (default); predict: as detect"
    parser.add_argument("--mode", choices=("val", "predict"), default="val", help=mode)
    candidates = "add what non-maximum suppression chose from, at most 3000 boxes an image"
    parser.add_argument("--candidates", action="store_true", help=candidates)


def _pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BEFORE", type=Path, help="the bundle that the other is compared with")
    parser.add_argument("other", metavar="AFTER", type=Path, help="the other bundle")
    _add_json(parser)
    parser.add_argument("--images", metavar="SRC", type=_source, required=True, help="image, folder or video")
    rounds, frames = "rounds; each times both bundles (default: 25)", "timed frames per bundle and round (default: 6)"
    parser.add_argument("--rounds", type=_count, default=25, metavar="N", help=rounds)
    parser.add_argument("--frames", type=_count, default=6, metavar="N", help=frames)
    _add_limit(parser)


def _layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON file of layers that `yolo-slim latency` wrote")
    _add_json(parser)
    _add_limit(parser)


_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "doctor": _doctor,
    "build": _build,
    "check": _check_and_options,
    "tune": _tune,
    "bench": _bench,
    "detect": _detect,
    "infer": _infer,
    "pair": _pair,
    "layers": _layers,
    "camera": add_camera_options,
}


def _source(text: str) -> Path:
    # Checked as text, because a Path turns rtsp://host into rtsp:/host.
    is_live = "://" in text or text.startswith("/dev/video") or (text.isdigit() and not Path(text).exists())
    if is_live:
        address = f"/dev/video{text}" if text.isdigit() else text
        remedy = f"Record a part of it first, for example: ffmpeg -i {address} -t 60 clip.mp4"
        raise argparse.ArgumentTypeError(f"{text} is a stream or a camera, expected a file or a folder. {remedy}")
    return Path(text)


def _count(text: str) -> int:
    return int(_checked(text, lambda: int(text) >= 1, "a positive integer"))


def _count_or_none(text: str) -> int:
    return int(_checked(text, lambda: int(text) >= 0, "an integer of at least 0"))


def _positive(text: str) -> float:
    return float(_checked(text, lambda: 0 < float(text) < float("inf"), "a positive number"))


def _not_negative(text: str) -> float:
    return float(_checked(text, lambda: 0 <= float(text) < float("inf"), "a number of at least 0"))


def _share(text: str) -> float:
    return float(_checked(text, lambda: 0 <= float(text) <= 1, "a number from 0 to 1"))


def _checked(text: str, is_valid: Callable[[], bool], expected: str) -> str:
    # argparse would name the function that a ValueError comes from.
    with suppress(ValueError):
        if is_valid():
            return text
    raise argparse.ArgumentTypeError(f"got {text}, expected {expected}")
