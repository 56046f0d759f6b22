"""A real sshd on loopback, without privileges: its own keys, port and configuration, and a home that knows it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.waiting import wait_until

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""A folder that sshd wants where root starts it."""


def why_not() -> str:
    """Say why no sshd can run here; empty: it can."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        return "needs sshd and ssh-keygen (Debian: apt install openssh-server)"
    if os.getuid() == 0 and not PRIVILEGE_SEPARATION.is_dir():
        try:
            PRIVILEGE_SEPARATION.mkdir()
        except OSError:
            return f"needs {PRIVILEGE_SEPARATION}, where root starts sshd"
    return ""


def free_port() -> int:
    """Find a port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path, passphrase: str = "") -> Path:
    """Write a new pair of keys."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@dataclass
class Sshd:
    """One server. Its sessions get no environment but ``environment``, a home and a PATH."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    """What its shell does before a command."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sshd:
        """Start it, with keys of its own the first time."""
        self.folder.mkdir(exist_ok=True)
        for name in ("host", "user"):
            if not (self.folder / name).exists():
                make_key(self.folder / name)
        config = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f'HostKey "{self.folder / "host"}"',
            f'AuthorizedKeysFile "{self.folder / "user.pub"}"', "UsePAM no", "StrictModes no", "PidFile none",
            "PasswordAuthentication no", "PermitRootLogin yes", "MaxStartups 100", "PrintMotd no",
            f"ForceCommand {self._command()}",
        ]  # fmt: skip
        path = self.folder / "sshd_config"
        path.write_text("\n".join(config) + "\n")
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(path)], stdout=log, stderr=log)
        wait_until(self._answers)
        return self

    def stop(self) -> None:
        """End it and every session that it has, as a reboot does."""
        if self.process is not None:
            for pid in descendants(self.process.pid):
                kill(pid)
            self.process.kill()
            self.process.wait()
            self.process = None

    def known_hosts(self, port: int | None = None) -> str:
        """The line of known_hosts for this server, at its own port or a proxy's."""
        key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        return f"[127.0.0.1]:{port or self.port} {key}\n"

    def trust(self, home: Path, name: str, port: int | None = None) -> None:
        """Let a home's ssh configuration know the server as ``name``."""
        ssh = home / ".ssh"
        ssh.mkdir(parents=True, exist_ok=True)
        lines = [
            f"Host {name}", "  HostName 127.0.0.1", f"  Port {port or self.port}",
            f"  IdentityFile \"{self.folder / 'user'}\"", "  IdentitiesOnly yes",
        ]  # fmt: skip
        for path, text in [("config", "\n".join(lines) + "\n"), ("known_hosts", self.known_hosts(port))]:
            with (ssh / path).open("a") as stream:
                stream.write(text)

    def _command(self) -> str:
        """What runs a session's command: with exactly this environment, whatever the user's login scripts set."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        given = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.environment}
        words = ["env", "-i", *(f"{key}={text}" for key, text in given.items()), "/bin/sh", "-c"]
        return f'{self.before} exec {shlex.join(words)} "$SSH_ORIGINAL_COMMAND"'

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def descendants(pid: int) -> list[int]:
    """All processes below a process, the nearest first."""
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        children = []
    return children + [below for child in children for below in descendants(child)]


def kill(pid: int) -> None:
    """Kill a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)
