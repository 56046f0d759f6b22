"""What keeps a connection from being made, as a user understands it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from yolo_slim.devices.ssh.address import Address
from yolo_slim.errors import DeviceGone, MachineError, SlimError

if TYPE_CHECKING:
    import asyncssh

UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT)


def explain(error: Exception, address: Address, is_known: Callable[[], bool]) -> SlimError | None:
    """Say what an error of a connection means; None for one that isn't about the connection.

    Args:
        error: from asyncssh, or from the system.
        address: of the device.
        is_known: whether known_hosts has any key for it.
    """
    import asyncssh

    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _host_key(error, address, is_known=is_known())
    if isinstance(error, asyncssh.PermissionDenied):
        # Of the machine: a device that is starting lets nobody in yet.
        return MachineError(
            f"{address.name} accepts none of your keys: {error.reason}.",
            remedy="yolo_slim logs in with a key and never asks for a password. Copy your key there: "
            f"ssh-copy-id {address.typed}. A key with a passphrase is used through the agent: ssh-add KEYFILE",
            topic="ssh-refuses-your-key",
        )
    if isinstance(error, (asyncssh.KeyEncryptionError, asyncssh.KeyImportError)):
        return SlimError(
            f"The key for {address.name} can't be read: {error}.",
            remedy="A key with a passphrase is used through the agent: ssh-add KEYFILE",
        )
    if isinstance(error, asyncssh.ConfigParseError):
        return SlimError(f"Your ssh configuration can't be read: {error}.", remedy="Correct ~/.ssh/config.")
    if isinstance(error, (asyncssh.ProtocolError, asyncssh.KeyExchangeFailed)):
        return SlimError(
            f"{address.name} doesn't speak SSH as it should: {error.reason}.",
            remedy=f"Check host and port, and try: ssh {address.typed}",
        )
    if isinstance(error, (asyncssh.DisconnectError, asyncssh.ChannelOpenError)):
        return unreachable(address, f"closed the connection ({error.reason})")
    return _of_system(error, address)


def _of_system(error: Exception, address: Address) -> SlimError | None:
    """The same for errors of the system."""
    if isinstance(error, socket.gaierror):
        local = " Names that end in .local need mDNS on both machines." if address.host.endswith(".local") else ""
        return DeviceGone(
            f"{address.name}: no machine is called {address.host} in this network.",
            remedy=f"Check the name (`yolo-slim device list` shows yours), or give its IP address "
            f"(on the device: hostname -I).{local}",
            topic="the-device-doesnt-answer",
        )
    if isinstance(error, ConnectionRefusedError):
        return DeviceGone(
            f"{address.name} refuses SSH.",
            remedy="Turn it on there (Raspberry Pi: sudo raspi-config nonint do_ssh 0), or correct the port.",
            topic="the-device-doesnt-answer",
        )
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return unreachable(address, "doesn't answer in time")
    if isinstance(error, ConnectionError):
        return unreachable(address, f"closed the connection ({error.strerror or error})")
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return unreachable(address, f"can't be reached ({error.strerror})")
    if isinstance(error, FileNotFoundError):
        return SlimError(
            f"File not found: {error.filename}", remedy="Correct the key's path (--identity, IdentityFile)."
        )
    if isinstance(error, PermissionError):
        return SlimError(f"{error.filename} can't be read: {error.strerror}.", remedy="Check its permissions.")
    return None


def unreachable(address: Address, what: str) -> SlimError:
    """Make the error of a device that is perhaps off."""
    return DeviceGone(f"{address.name} {what}.", remedy=f"Is it on, and in this network? Try: ssh {address.typed}")


def _host_key(error: asyncssh.HostKeyNotVerifiable, address: Address, *, is_known: bool) -> SlimError:
    if "revoked" in error.reason:
        return SlimError(f"The host key of {address.name} is revoked.", remedy="Don't use this device.")
    if is_known:
        port = f"[{address.host}]:{address.port}" if address.port not in (None, 22) else address.host
        return SlimError(
            f"The host key of {address.name} isn't the one of known_hosts: another machine answers, or the device was "
            "set up anew.",
            remedy=f"If you did that: ssh-keygen -R '{port}', then ssh {address.typed} and compare the fingerprint.",
            topic="the-host-key-is-unknown",
        )
    return SlimError(
        f"The host key of {address.name} isn't in known_hosts, so the device can't be told from another machine.",
        remedy=f"Log in once, compare the fingerprint and say yes: ssh {address.typed}",
        topic="the-host-key-is-unknown",
    )
