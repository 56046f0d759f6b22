"""Where frames come from: cameras, streams, files and a rendered scene."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.runtime.camera import passwords
from yolo_slim.runtime.camera.frame import Source
from yolo_slim.runtime.camera.passwords import with_password
from yolo_slim.runtime.camera.sources.address import DEFAULT_PORTS, parse_address, redacted
from yolo_slim.runtime.camera.sources.listing import CameraFacts, list_cameras
from yolo_slim.runtime.camera.sources.options import SourceOptions, SourceSpec, check_options, check_taken

__all__ = ["KINDS", "CameraFacts", "SourceOptions", "SourceSpec", "list_cameras", "open_source", "parse_source"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of source."""

    what: str
    """In prose."""
    forms: str
    """How people write it."""
    takes: frozenset[str]
    """Keys of :data:`yolo_slim.runtime.camera.sources.options.OPTION_NAMES` that it follows."""
    opener: str
    """``module:function`` below this package, imported when such a source is opened."""


_CAMERA = frozenset({"size", "rate", "exposure_ms"})
KINDS = {
    "usb": Kind(what="A USB camera", forms="0, 1, /dev/video0", takes=_CAMERA, opener="v4l2:open_usb"),
    "csi": Kind(what="A CSI camera", forms="csi, csi:1", takes=_CAMERA, opener="csi:open_csi"),
    "stream": Kind(
        what="A stream", forms="rtsp://..., rtsps://..., http://..., https://...", takes=frozenset(),
        opener="stream:open_stream",
    ),
    "file": Kind(
        what="A file", forms="a video, an image or a folder of images", takes=frozenset({"rate", "loop"}),
        opener="files:open_file",
    ),
    "scene": Kind(
        what="The scene", forms="scene", takes=frozenset({"size", "rate", "pictures"}), opener="scene:open_scene"
    ),
}  # fmt: skip


def parse_source(text: str, options: SourceOptions) -> SourceSpec:
    """Say what a ``--source`` means; nothing is opened.

    Args:
        text: one of the forms of :data:`KINDS`; a user's password may stand in the environment.
        options: what is asked of it.

    Raises:
        SlimError: it means nothing, or the options can't be used with it.
    """
    check_options(options)
    kind, address, name = _meaning(text.strip())
    check_taken(options, KINDS[kind].takes, KINDS[kind].what)
    return SourceSpec(kind=kind, address=address, name=name, options=options)


def open_source(spec: SourceSpec) -> Source:
    """Open a source; a live one has given its first frame when this returns.

    Raises:
        SourceLost: it isn't there, is busy, or gives nothing now: trying again may help.
        SlimError: anything else: trying again doesn't help.
    """
    from yolo_slim.runtime.camera.sources.turned import TurnedSource

    module, function = KINDS[spec.kind].opener.split(":")
    opener: Callable[[SourceSpec], Source] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    source = opener(spec)
    is_turned = spec.options.rotate or spec.options.flip
    return TurnedSource(source, spec.options) if is_turned else source


def _meaning(text: str) -> tuple[str, str, str]:
    """(kind, address, name)."""
    scheme, separator, _ = text.partition("://")
    if separator:
        return _stream(scheme.lower(), text)
    if text == "scene":
        return "scene", "", text
    if text == "csi" or (text.startswith("csi:") and text[4:].isdecimal()):
        number = text.partition(":")[2] or "0"
        return "csi", number, f"csi:{number}"
    if text.isdecimal():
        return "usb", f"/dev/video{int(text)}", f"/dev/video{int(text)}"
    if text.startswith("/dev/"):
        return "usb", text, text
    return _file(text)


def _stream(scheme: str, text: str) -> tuple[str, str, str]:
    if scheme not in DEFAULT_PORTS:
        known = list(DEFAULT_PORTS)
        fact = f"Streams of {scheme}:// can't be opened.{did_you_mean(scheme, known)}"
        raise SlimError(fact, remedy=f"Known are {', '.join(f'{one}://' for one in known)}.")
    address = with_password(scheme + text[len(scheme) :], passwords.SOURCE)
    parse_address(address)
    return "stream", address, redacted(address)


def _file(text: str) -> tuple[str, str, str]:
    if not text or not Path(text).exists():
        forms = [f"{kind.what.lower()}: {kind.forms}" for kind in KINDS.values()]
        fact = f"Source not found: {text}{did_you_mean(text, ['scene', 'csi']) if text else ''}"
        raise SlimError(fact, culprits=forms, remedy="Give one of these; --list shows the cameras of this machine.")
    return "file", text, Path(text).name or text
