"""The listening socket, who has a port, and the QR code of the link."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera import ports
from yolo_slim.runtime.camera.qr import qr_text


def test_a_port_in_use_is_explained() -> None:
    """Where /proc shows it, with the program that has it."""
    with ports.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SlimError) as caught:
            ports.listen("127.0.0.1", port)
    by = rf"\w+.* \(process {os.getpid()}\)" if Path("/proc/net/tcp").exists() else "another program"
    assert re.fullmatch(rf"Port {port} of 127.0.0.1 is in use by {by}\.", caught.value.fact)
    assert "--port" in caught.value.remedy


def test_a_free_port_has_no_owner() -> None:
    """Negative control; and a port of the client's side isn't listened on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ports.owner_of(free.getsockname()[1]) == ""


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("192.0.2.7", 0, "no address of this machine"),
        ("127.0.0.1", 70000, "no port"),
    ],
)
def test_wrong_places_are_explained(host: str, port: int, text: str) -> None:
    """Each with the option that helps."""
    with pytest.raises(SlimError, match=text) as caught:
        ports.listen(host, port)
    assert "--" in caught.value.remedy


def test_qr_code_reads_back() -> None:
    """What the terminal shows is a code of the link."""
    link = "http://192.168.1.20:8080/?token=abcdefghijklmnopqrstuvwxyz123456"
    rows = [re.sub("\x1b[^m]*m", "", line) for line in qr_text(link).splitlines()]
    halves = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    modules = [[halves[character][half] for character in row] for row in rows for half in (0, 1)]
    image = cv2.resize(np.array(modules, np.uint8), None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    image = cv2.copyMakeBorder(image, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=255)
    assert cv2.QRCodeDetector().detectAndDecode(image)[0] == link
    assert len(rows[0]) <= 80
