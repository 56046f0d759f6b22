"""A connection as the user's ssh configuration says, with a host key that is always checked."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.refusals import explain
from yolo_slim.errors import SlimError
from yolo_slim.system_libraries import extra_line

if TYPE_CHECKING:
    import asyncssh

CONNECT_S, LOGIN_S = 10.0, 20.0
BEAT_S = 5.0
"""The server is asked for a sign of life so often."""
KEEPALIVES = 4
"""The connection is taken for lost when so many of them weren't answered."""


async def connected(address: Address, jump: asyncssh.SSHClientConnection | None = None) -> asyncssh.SSHClientConnection:
    """Connect as the user's ssh configuration says; the host key is always checked, and those of jump hosts.

    Args:
        address: where to.
        jump: connection to go through; None: as the configuration says.

    Raises:
        SlimError: no connection.
    """
    try:
        import asyncssh
    except ImportError:
        raise SlimError("Devices over SSH need asyncssh.", remedy=f"Install it: {extra_line('ssh')}") from None
    known = _Known()
    try:
        options = _options(address, known)
        # Not left to asyncssh, which would check a jump host's key by the configuration alone.
        if jump is None and isinstance(options.tunnel, str) and options.tunnel != "none":
            jump = await _through(options.tunnel)
        connecting = asyncssh.connect(address.host, options=options, tunnel=jump or ())
        connection = await asyncio.wait_for(connecting, CONNECT_S + LOGIN_S)
        connection.set_tunnel(jump)
        return connection
    except SlimError:
        raise
    except Exception as error:
        refused = explain(error, address, known.has_key)
        if refused is None:
            raise
        raise refused from error


async def _through(hosts: str) -> asyncssh.SSHClientConnection | None:
    """Connect to jump hosts (``ProxyJump``), each through the one before it; give the last."""
    connection = None
    for host in hosts.split(","):
        connection = await connected(Address.parse(host.strip()), connection)
    return connection


@dataclass
class _Known:
    """Where the host key of a device would be known."""

    files: list[str] = field(default_factory=list)
    host: str = ""
    port: int = 22

    def has_key(self) -> bool:
        """Whether there is any key of it."""
        import asyncssh

        found = asyncssh.match_known_hosts(self.files or b"", self.host, "", self.port if self.port != 22 else None)
        return any(found[:3])


def _options(address: Address, known: _Known) -> asyncssh.SSHClientConnectionOptions:
    """The user's options, with known_hosts that can't be turned off."""
    import asyncssh

    given: dict[str, Any] = {"port": address.port, "username": address.user, "client_keys": address.identity}
    given = {key: value for key, value in given.items() if value is not None} | {
        "host": address.host, "config": _readable("~/.ssh/config", "/etc/ssh/ssh_config"),
        "connect_timeout": CONNECT_S, "login_timeout": LOGIN_S,
        "keepalive_interval": BEAT_S, "keepalive_count_max": KEEPALIVES,
    }  # fmt: skip
    chosen = asyncssh.SSHClientConnectionOptions(**given)
    named = cast("list[str]", chosen.known_hosts)
    # UserKnownHostsFile none would mean: trust anybody.
    known.files = _readable(*(named or ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")))
    known.host, known.port = chosen.host, chosen.port
    return asyncssh.SSHClientConnectionOptions(**given, known_hosts=known.files or b"")


def _readable(*paths: str) -> list[str]:
    """Those files that are there."""
    return [str(path) for path in (Path(one).expanduser() for one in paths) if os.access(path, os.R_OK)]
