"""Look at devices and clean them up, without running anything of a bundle's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.environment import CLEAN, SHORT_S, Installer
from yolo_slim.devices.ssh.link import Link, Task
from yolo_slim.devices.ssh.session import Session, who
from yolo_slim.devices.ssh.shell import KEPT
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.progress import Progress

ANSWER_S = 8.0
"""A device that takes longer doesn't answer."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look at a device found."""

    about: JsonObject
    """What its agent says: system, Python, room."""
    sizes: Mapping[str, float]
    """What yolo_slim keeps there, megabytes by kind."""
    environments: tuple[str, ...]
    """Finished environments, the last used first."""
    holder: str
    """Who uses it; empty: nobody."""

    def line(self) -> str:
        """Say it in one line."""
        about = self.about
        facts = f"answers: {about['arch']}, Python {about['python']}, {about['free_mb']:.0f} MB free"
        return self.holder or facts


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What the doctor of a device's own found."""

    seen: Seen
    report: JsonObject = field(default_factory=dict)
    """``python -m yolo_slim.runtime doctor --json``; empty: another run uses the device."""
    text: tuple[str, ...] = ()
    """The same for people."""


def look(address: Address) -> Seen:
    """Look at a device.

    Raises:
        SlimError: it doesn't answer, or can't be used.
    """
    return asyncio.run(_look(address))


def look_at_all(addresses: Mapping[str, Address]) -> dict[str, Seen | SlimError]:
    """Look at several devices at once; one that doesn't answer gives its error."""

    async def one(address: Address) -> Seen | SlimError:
        try:
            return await asyncio.wait_for(_look(address), ANSWER_S)
        except asyncio.TimeoutError:
            return SlimError(f"{address.name} doesn't answer within {ANSWER_S:.0f} s.")
        except SlimError as error:
            return error

    async def every() -> list[Seen | SlimError]:
        return await asyncio.gather(*(one(address) for address in addresses.values()))

    return dict(zip(addresses, asyncio.run(every()), strict=True))


def clean(address: Address, *, everything: bool) -> float:
    """Remove what wasn't used for longest, or everything of yolo_slim; give the megabytes that became free.

    Raises:
        MachineError: another run uses the device.
    """

    async def work() -> float:
        session = Session(address=address)
        try:
            await session.open()
            keep = dict.fromkeys(KEPT, 0) if everything else {**KEPT, "bundles": 4, "images": 1, "env": 1, "code": 1}
            return await session.sweep(keep, 0.0)
        finally:
            await session.close()

    return asyncio.run(work())


def examine(address: Address, progress: Progress) -> Examined:
    """Let a device's own doctor speak, by the environment that was used last, else by its own Python.

    Raises:
        SlimError: it doesn't answer, or can't be used.
    """

    async def work() -> Examined:
        seen = await _look(address)
        if seen.holder:
            return Examined(seen=seen)
        session = Session(address=address, progress=progress)
        try:
            await session.open()
            return await _examine(session, seen)
        finally:
            await session.close()

    return asyncio.run(work())


async def _examine(session: Session, seen: Seen) -> Examined:
    code = await Installer(session=session, about=seen.about, offline=False, cache=Path()).code()
    python = session.address.python or (
        f"{seen.environments[0]}/bin/python" if seen.environments else seen.about["executable"]
    )
    command = [python, "-m", "yolo_slim.runtime", "doctor", "--json", "{answer}"]
    task = Task(command=command, environment={**CLEAN, "PYTHONPATH": code}, answer="file", limit_s=SHORT_S)
    reply = await session.keep("doctor", lambda link: link.run(task))
    if not reply.body:
        raise SlimError(f"The doctor of {session.address.name} failed.", culprits=reply.lines[-4:], remedy="Try again.")
    return Examined(seen=seen, report=json.loads(reply.body), text=tuple(reply.lines))


async def _look(address: Address) -> Seen:
    link = await Link.open(address)
    try:
        usage = (await link.ask("usage")).values
    finally:
        await link.close()
    holder = usage["holder"]
    return Seen(
        about=link.about,
        sizes=usage["sizes"],
        environments=tuple(usage["environments"]),
        holder="" if holder is None else who(address, holder),
    )
