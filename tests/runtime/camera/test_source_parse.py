"""What a ``--source`` means, and that no password is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.sources import KINDS, SourceOptions, parse_source

NONE = SourceOptions()


@pytest.mark.parametrize(
    ("text", "kind", "address", "name"),
    [
        ("0", "usb", "/dev/video0", "/dev/video0"),
        ("/dev/v4l/by-id/usb-cam", "usb", "/dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam"),
        ("csi", "csi", "0", "csi:0"),
        ("csi:1", "csi", "1", "csi:1"),
        ("scene", "scene", "", "scene"),
        ("RTSP://cam/a", "stream", "rtsp://cam/a", "rtsp://cam/a"),
        ("rtsp://joe:pw@cam/a", "stream", "rtsp://joe:pw@cam/a", "rtsp://joe:***@cam/a"),
    ],
)
def test_forms(text: str, kind: str, address: str, name: str) -> None:
    """Every form is understood without opening anything."""
    spec = parse_source(text, NONE)
    assert (spec.kind, spec.address, spec.name) == (kind, address, name)
    assert kind in KINDS


def test_path(tmp_path: Path) -> None:
    """An existing path is a file."""
    assert parse_source(str(tmp_path), NONE).kind == "file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing.mp4", "Source not found: nothing.mp4"),
        ("scne", "Did you mean 'scene'?"),
        ("", "Source not found"),
        ("rtp://cam/a", "Did you mean 'rtsp'?"),
        ("rtsp:///a", "names no host"),
        ("rtsp://cam:99999/a", "can't be read"),
    ],
)
def test_unknown(text: str, says: str) -> None:
    """What means nothing is refused, and it says what is meant instead."""
    with pytest.raises(SlimError) as caught:
        parse_source(text, NONE)
    assert says in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://joe:hush@cam/a",
        "rtsp://joe:hu/hush@cam/a",
        "rtsp://joe:#hush@cam/a",
        "rtsp://joe:@hush@cam/a",
        "rtsp://cam/a?user=joe&password=hush&channel=1",
        "http://cam/a?channel=1&access_token=hush",
        "rtsp://joe:hush@",
        "rtsp://joe:hush@cam:x/a",
    ],
)
def test_password_is_hidden(url: str) -> None:
    """Whatever a password looks like and wherever it stands: neither name nor text nor message has it."""
    try:
        spec = parse_source(url, NONE)
    except SlimError as error:
        shown = str(error)
    else:
        shown = f"{spec.name} {spec}"
        assert "hush" in spec.address
    assert "hush" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("rtsp://cam/a", {"size": (640, 480)}, "A stream takes no --size."),
        ("rtsp://cam/a", {"loop": True, "rate": 5}, "A stream takes no --rate and no --loop."),
        ("0", {"loop": True}, "A USB camera takes no --loop."),
        ("scene", {"exposure_ms": 3}, "The scene takes no --exposure."),
    ],
)
def test_options_that_do_not_apply(text: str, options: dict[str, object], says: str) -> None:
    """An option that a source can't follow is refused, not ignored."""
    with pytest.raises(SlimError, match=says):
        parse_source(text, replace(NONE, **options))


def test_options_that_apply() -> None:
    """Negative control: options that a source follows are taken."""
    spec = parse_source("0", SourceOptions(size=(640, 480), rate=30, exposure_ms=5, rotate=90, flip="h"))
    assert spec.options.size == (640, 480)


def test_impossible_options() -> None:
    """All impossible values are said at once."""
    bad = SourceOptions(size=(0, 480), rate=-1, rotate=45, flip="x", exposure_ms=0, open_limit_s=0)
    with pytest.raises(SlimError) as caught:
        parse_source("0", bad)
    names = [culprit.split(":")[0] for culprit in caught.value.culprits]
    assert names == ["--size", "--rate", "--rotate", "--flip", "--exposure", "open_limit_s"]
