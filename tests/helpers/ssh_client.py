"""A client of a device, for tests that kill it: ``python -m tests.helpers.ssh_client ADDRESS FILE`` sends and runs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.link import Task
from yolo_slim.devices.ssh.push import Parcel, push
from yolo_slim.devices.ssh.session import Session


async def main() -> None:
    """Open the device, say so, send a file, and run a command for a minute."""
    session = Session(address=Address(**json.loads(sys.argv[1])))
    await session.open()
    print("opened", flush=True)
    await push(session, Parcel.of("bundles", {"big": Path(sys.argv[2])}), "a file")
    task = Task(command=["sh", "-c", "sleep 60 & sleep 60"], environment={}, limit_s=60)
    await session.keep("work", lambda link: link.run(task))


if __name__ == "__main__":
    asyncio.run(main())
