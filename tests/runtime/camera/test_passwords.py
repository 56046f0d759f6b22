"""Passwords that stand in the environment."""

from __future__ import annotations

import pytest

from tests.helpers.streams import mjpeg_server
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs.broker_address import parse_address as parse_broker
from yolo_slim.runtime.camera.passwords import BROKER, SOURCE, with_password
from yolo_slim.runtime.camera.sources import SourceOptions, open_source, parse_source
from yolo_slim.runtime.camera.sources.address import parse_address


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("rtsp://joe@cam/1", "from@the/environ:ment"),
        ("rtsp://joe@cam:554/1?a=b@c", "from@the/environ:ment"),
        ("rtsp://joe:own@cam/1", "own"),
        ("rtsp://joe:@cam/1", ""),
        ("rtsp://cam/1?user=joe@home", ""),
        ("rtsp://cam/1", ""),
    ],
)
def test_a_user_without_a_password_gets_it(url: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any characters are fine; what the URL says itself comes first, and nobody's URL gets none."""
    monkeypatch.setenv(SOURCE, "from@the/environ:ment")
    address = parse_address(with_password(url, SOURCE))
    assert (address.password, address.host) == (password, "cam")


def test_nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.delenv(SOURCE, raising=False)
    assert with_password("rtsp://joe@cam/1", SOURCE) == "rtsp://joe@cam/1"


def test_a_stream_opens_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens the stream, appears in no name and no message, and a wrong one is refused."""
    with mjpeg_server() as port:
        url = f"http://joe@127.0.0.1:{port}/auth"
        monkeypatch.setenv(SOURCE, "hush")
        spec = parse_source(url, SourceOptions(open_limit_s=30))
        assert "hush" not in repr(spec)
        source = open_source(spec)
        assert source.read().shape == (48, 64, 3)
        source.close()
        monkeypatch.setenv(SOURCE, "loud")
        with pytest.raises(SlimError, match=f"refuses user 'joe' with this password.*\\n.*set {SOURCE}") as caught:
            open_source(parse_source(url, SourceOptions(open_limit_s=30)))
    assert "loud" not in str(caught.value)


def test_a_broker_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker's password isn't the stream's."""
    monkeypatch.setenv(SOURCE, "stream")
    monkeypatch.setenv(BROKER, "br&ker")
    address = parse_broker(with_password("mqtt://cam@127.0.0.1/home/door", BROKER))
    assert (address.user, address.password, address.base) == ("cam", "br&ker", "home/door")
