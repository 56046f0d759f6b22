"""A home of one's own, and ways to a device that can be disturbed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.proxy import Proxy
from tests.helpers.ssh_device import FOLDER, fake_python, home_of
from tests.helpers.sshd import Sshd, free_port
from yolo_slim.devices import inventory
from yolo_slim.devices.ssh.address import Address


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return an empty home folder that is the user's."""
    with home_of(tmp_path / "home") as found:
        found.mkdir()
        yield found


@pytest.fixture
def board(home: Path, sshd: Sshd, tmp_path: Path) -> Address:
    """Return the address of a device that the home knows; its packages are those of the tests."""
    sshd.trust(home, "board")
    return Address(name="desk", host="board", folder=str(tmp_path / FOLDER), python=sys.executable)


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[Proxy]:
    """Return a way to the server that can be cut."""
    with closing(Proxy(sshd.port)) as found:
        yield found


@pytest.fixture
def far_board(home: Path, sshd: Sshd, proxy: Proxy, tmp_path: Path) -> Address:
    """Return the address of a device behind the proxy."""
    sshd.trust(home, "board", proxy.port)
    return Address(name="desk", host="board", folder=str(tmp_path / FOLDER), python=sys.executable)


CLOSED = f"http://127.0.0.1:{free_port()}/simple"
NO_NETWORK = {
    "PIP_INDEX_URL": CLOSED,
    "PIP_EXTRA_INDEX_URL": CLOSED,
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_RETRIES": "0",
}
"""A test never installs from a package index."""
Staged = Callable[..., Address]


@pytest.fixture
def staged(home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Staged]:
    """Return a function that starts a device whose agent begins with a program, or that has another environment."""
    request.getfixturevalue("sshd")  # skips where there is none
    servers: list[Sshd] = []

    def start(prelude: str = "", before: str = "", **environment: str) -> Address:
        given = {"PATH": fake_python(tmp_path / "bin", prelude)} if prelude else {}
        server = Sshd(tmp_path / f"sshd{len(servers)}", {**NO_NETWORK, **given, **environment}, before).start()
        servers.append(server)
        server.trust(home, f"staged{len(servers)}")
        return Address(name="staged", host=f"staged{len(servers)}", folder=str(tmp_path / FOLDER))

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def desk(board: Address) -> Address:
    """Return a device that is in the inventory as ``desk``."""
    entry = inventory.Entry(host=board.host, target="host", folder=board.folder, python=board.python)
    inventory.add("desk", entry)
    return board
