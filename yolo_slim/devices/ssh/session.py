"""A link that comes back: what a lost connection interrupted is done again, because every request can be repeated."""

from __future__ import annotations

import asyncio
import getpass
import os
import platform
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeVar

from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.link import SILENCE_S, Link, LinkLost
from yolo_slim.devices.ssh.usable import clock_warnings, require_usable
from yolo_slim.errors import DeviceGone, MachineError
from yolo_slim.files import JsonObject
from yolo_slim.progress import Progress, Silent

Answer = TypeVar("Answer")
MOST_LOSSES = 8
"""A request that loses its link so often is given up: perhaps the device restarts under its load."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
GRACE_S = 3.0
"""A lock that was held a moment ago may be that of a run that just ended."""
WAIT_S = 2.0


@dataclass(kw_only=True)
class Session:
    """One user of a device, for as long as it has the device's lock."""

    address: Address
    progress: Progress = field(default_factory=Silent)
    patience_s: float = 300.0
    """How long a device that is gone may take to come back; a restart is shorter."""
    waits: bool = False
    """Wait for a device that another run uses."""
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    moves: bool = False
    """Set by a push that went on: then its losses don't add up."""
    losses: int = 0
    """Connections lost since the session began."""
    _link: Link | None = None
    _boot: str = ""

    async def open(self) -> Link:
        """Connect for the first time and take the lock.

        Raises:
            SlimError: see :meth:`Link.open`; or no runtime could be installed there.
            MachineError: another run has the lock.
        """
        link = await Link.open(self.address)
        self._boot = link.about["boot"]
        try:
            require_usable(self.address.name, link.about)
            for line in clock_warnings(self.address.name, link.skew_s):
                self.progress.say(line)
            await self._lock(link)
        except BaseException:
            await link.close()
            raise
        self._link = link
        return link

    async def keep(self, phase: str, work: Callable[[Link], Awaitable[Answer]]) -> Answer:
        """Do something over the link; where that is lost, connect and do it again.

        Args:
            phase: what it does, for messages: ``time ncnn-fp16``.
            work: may begin anew at any time.

        Raises:
            DeviceGone: the device doesn't come back, or is lost again and again.
        """
        lost = 0
        while True:
            try:
                return await work(await self._linked(phase))
            except LinkLost:
                lost = 0 if self.moves else lost + 1
                self.moves = False
                self.losses += 1
                await self._drop()
                if lost > MOST_LOSSES:
                    raise DeviceGone(
                        f"The connection to {self.address.name} was lost {lost} times in this step: {phase}.",
                        remedy="Look at the network, and at the device's power supply: it may restart under load. Then "
                        "run the same command again: what is done is kept.",
                    ) from None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._link is not None

    async def sweep(self, keep: Mapping[str, int], most_mb: float) -> float:
        """Remove what wasn't used for longest; give the megabytes that became free."""
        try:
            # Not repeated: nobody waits minutes for a device only to clean it up.
            reply = await (await self._linked("clean up")).ask("sweep", keep=dict(keep), most_mb=most_mb)
        except LinkLost:
            raise DeviceGone(f"The connection to {self.address.name} was lost.", remedy="Try again.") from None
        return float(reply.values["freed_mb"])

    async def close(self) -> None:
        """Give the device back."""
        await self._drop()

    async def _linked(self, phase: str) -> Link:
        """Give the link, or make a new one, with pauses that grow."""
        if self._link is not None:
            return self._link
        self.progress.say(
            f"device: the connection to {self.address.name} was lost in this step: {phase}; connecting again"
        )
        end, pause = time.monotonic() + self.patience_s, FIRST_PAUSE_S
        while True:
            try:
                link = await Link.open(self.address)
                self._note_restart(link)
                await self._locked(link)
                return link
            except (MachineError, LinkLost) as error:
                if time.monotonic() + pause > end:
                    raise DeviceGone(
                        f"{self.address.name} didn't come back within {self.patience_s:.0f} s. The connection was lost "
                        f"in this step: {phase}.",
                        culprits=[error.fact] if isinstance(error, MachineError) else [],
                        remedy="Run the same command again when it is there: what is done is kept.",
                    ) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _locked(self, link: Link) -> None:
        """Take the lock again, or let the link go."""
        try:
            await self._lock(link, returns=True)
        except BaseException:
            await link.close()
            raise
        self._link = link

    def _note_restart(self, link: Link) -> None:
        boot = link.about["boot"]
        if boot != self._boot:
            self.progress.say(f"device: {self.address.name} was restarted meanwhile")
        self._boot = boot

    async def _lock(self, link: Link, *, returns: bool = False) -> None:
        """Take the lock; one that this very session still has there becomes free when that end notices the loss."""
        end, is_said = time.monotonic() + GRACE_S, False
        late = time.monotonic() + SILENCE_S + GRACE_S
        while True:
            reply = await link.ask("lock", holder=self._holder())
            if reply.values["got"]:
                return
            holder = reply.values["holder"]
            is_own = returns and holder.get("session") == self.name
            if time.monotonic() > (late if is_own else end) and not self.waits:
                raise busy(self.address, holder)
            if self.waits and not is_own and not is_said:
                self.progress.say(f"device: {who(self.address, holder)}; waiting")
                is_said = True
            await asyncio.sleep(WAIT_S if self.waits else 0.25)

    def _holder(self) -> JsonObject:
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {
            "user": getpass.getuser(), "host": platform.node(), "pid": os.getpid(), "since": since, "session": self.name
        }  # fmt: skip

    async def _drop(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()


def who(address: Address, holder: JsonObject) -> str:
    """Say who has a device."""
    if not holder:
        return f"{address.name} is used by another run"
    about = f"{holder['user']} on {holder['host']}, process {holder['pid']}, since {holder['since']}"
    return f"{address.name} is used by another run ({about})"


def busy(address: Address, holder: JsonObject) -> MachineError:
    """Refuse a device that another run has."""
    return MachineError(
        f"{who(address, holder)}.",
        remedy="Wait for it to end, or let this run wait: --wait. Two runs at once would spoil each other's timings.",
    )
