"""The options of ``camera``, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.runtime.camera.hang import MAX_STALL_S
from yolo_slim.runtime.camera.passwords import BROKER, SOURCE, TOKEN

HERE = "127.0.0.1"
"""Where the page listens by default: this machine alone can open it."""


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Add everything but ``--quiet``."""
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, nargs="?", help="a bundle folder or its .tar.gz")
    parser.add_argument("--threads", type=int, metavar="N", help="inference threads (default: one fewer than cores)")
    _add_source(parser.add_argument_group("source"))
    _add_detection(parser.add_argument_group("detection"))
    _add_page(parser.add_argument_group("page and window"))
    _add_outputs(parser.add_argument_group("outputs"))
    _add_end(parser.add_argument_group("end and service"))


def _add_source(group: argparse._ArgumentGroup) -> None:
    known = "a number or /dev/videoN, csi, rtsp:// or http://, a video, a folder, or scene (default: scene)"
    password = f"rtsp://user@host/path takes its password from ${SOURCE}"
    group.add_argument("--source", default="scene", metavar="S", help=f"{known}; {password}")
    group.add_argument("--list", action="store_true", help="list the cameras of this machine and their modes, and end")
    group.add_argument("--loop", action="store_true", help="begin a file again at its end")
    group.add_argument("--size", type=_size, metavar="WxH", help="resolution (default: the source's own)")
    group.add_argument("--rate", type=float, metavar="FPS", help="frames per second (default: the source's own)")
    group.add_argument("--rotate", type=int, default=0, metavar="DEG", help="turn clockwise: 0, 90, 180 or 270")
    group.add_argument("--flip", default="", metavar="HV", help="mirror: h, v or hv")
    group.add_argument("--exposure", type=float, metavar="MS", help="exposure in milliseconds (default: automatic)")


def _add_detection(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--control", type=Path, metavar="BUNDLE", help="another bundle that runs on the same frames")
    group.add_argument("--conf", type=float, help="score threshold (default: the bundle's)")
    group.add_argument("--classes", metavar="A,B", help="names or numbers of the classes to show (default: all)")
    group.add_argument("--track", action="store_true", help="follow objects; lines need it")
    group.add_argument(
        "--zones", type=Path, metavar="FILE", help="file of lines and zones; the page saves drawings there"
    )


def _add_page(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--display", action="store_true", help="show a window on this machine's screen")
    group.add_argument("--no-page", action="store_true", help="serve no page")
    listen = f"address that the page listens at; 0.0.0.0: all of this machine's, with a token (default: {HERE})"
    group.add_argument("--listen", default=HERE, metavar="ADDRESS", help=listen)
    group.add_argument("--port", type=int, default=8080, help="port of the page; 0: any free one (default: 8080)")
    group.add_argument("--token", default="", help=f"token of the page's link (default: ${TOKEN}, or a new one)")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--jsonl", metavar="FILE", help="a JSON line for every frame; -: to standard output")
    group.add_argument(
        "--rotate-mb", type=float, default=100.0, metavar="MB", help="begin a new file at this size (default: 100)"
    )
    group.add_argument("--mqtt", metavar="URL", help=f"publish to mqtt://user@host/topic; its password: ${BROKER}")
    group.add_argument("--clips", type=Path, metavar="DIR", help="folder for clips of the last seconds")
    group.add_argument("--clip-on", metavar="A,B", help="classes that start a clip")
    group.add_argument("--clip-zone", metavar="NAME", help="zone that they must be in to start a clip")
    group.add_argument("--clip-seconds", type=float, default=10.0, metavar="S", help="length of a clip (default: 10)")
    budget = "megabytes of clips to keep (default: 500)"
    group.add_argument("--clip-budget-mb", type=float, default=500.0, metavar="MB", help=budget)


def _add_end(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--duration", type=float, metavar="S", help="end after so many seconds")
    group.add_argument("--max-frames", type=int, metavar="N", help="end after so many frames")
    stall = f"end with an error if the model takes more than S seconds for a frame (default: {MAX_STALL_S:g})"
    group.add_argument("--max-stall", type=float, default=MAX_STALL_S, metavar="S", help=stall)
    group.add_argument("--print-service", action="store_true", help="print a systemd unit of this command, and end")
    install = "with --user, write that unit for your user; without, say how to install it"
    group.add_argument("--install-service", action="store_true", help=install)
    group.add_argument("--user", action="store_true", help="the unit is for your user alone")


def require_possible(args: argparse.Namespace) -> None:
    """Refuse values and pairs of options that can't be meant, all at once.

    Raises:
        SlimError: with one culprit for each.
    """
    above = ("duration", "rotate_mb", "clip_seconds", "clip_budget_mb", "max_frames", "max_stall", "threads")
    given = {name: getattr(args, name) for name in above if getattr(args, name) is not None}
    # Not `<= 0`: NaN must be refused too.
    wrong = [f"{_typed(name)}: got {value}; expected more than 0" for name, value in given.items() if not value > 0]
    if args.conf is not None and not 0 <= args.conf <= 1:
        wrong.append(f"--conf: got {args.conf}; expected 0 to 1")
    if args.no_page and args.listen != HERE:
        wrong.append("--listen needs the page; --no-page serves none")
    if not 0 <= args.port <= 65535:
        wrong.append(f"--port: got {args.port}; expected 0 to 65535")
    needs = (("clip_on", "clips"), ("clip_zone", "clip_on"), ("clip_zone", "zones"))
    alone = [(one, other) for one, other in needs if getattr(args, one) and not getattr(args, other)]
    wrong += [f"{_typed(one)} needs {_typed(other)}" for one, other in alone]
    if wrong:
        raise SlimError("These options can't be used.", culprits=wrong, remedy="Correct them.")


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def class_ids(text: str, names: Mapping[int, str], option: str) -> frozenset[int]:
    """The classes that a list of names and numbers means.

    Raises:
        SlimError: the bundle has no such class.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    # A name that several classes have stands with its number in ``names``: "bolt (3)".
    found = {
        word: [key for key, name in names.items() if word in (name, name.removesuffix(f" ({key})"), str(key))]
        for word in words
    }
    unknown = [f"'{word}'{did_you_mean(word, list(names.values()))}" for word, keys in found.items() if not keys]
    if unknown or not words:
        known = ", ".join(f"{key} {name}" for key, name in list(names.items())[:20])
        raise SlimError(f"{option}: the bundle has no such class.", culprits=unknown, remedy=f"It has: {known}.")
    return frozenset(key for keys in found.values() for key in keys)


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}; expected WIDTHxHEIGHT, such as 1280x720") from None
    return width, height
