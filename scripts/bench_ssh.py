"""Cut links and kill clients of a device over SSH, and time its first and second contact, against sshd on loopback.

    python scripts/bench_ssh.py cuts --count 100 --kills 100 --out docs/benchmarks/records/ssh-cuts.json
    python scripts/bench_ssh.py contact --out docs/benchmarks/records/ssh-contact.json  # needs a package index

Every cut is at a random moment of one of the phases in turn: connect, send 2 MB, run a command of half a second, fetch
an answer of 200 kB. Clients are killed at random moments of the same work. Afterwards the device is looked at:
processes, temporary files, the lock; and all bytes are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from tests.helpers.constants import ROOT
from tests.helpers.proxy import Proxy
from tests.helpers.ssh_device import leftovers
from tests.helpers.sshd import Sshd
from tests.helpers.tiny_detector import build_bundle, write_onnx
from tests.helpers.waiting import wait_until
from yolo_slim.config import targets
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.device import open_device
from yolo_slim.devices.ssh.link import Task
from yolo_slim.devices.ssh.push import Parcel, push
from yolo_slim.devices.ssh.session import Session
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, merge_json
from yolo_slim.machine import cores, device_model
from yolo_slim.progress import Silent

SIZE, ANSWER, BYTES_PER_S = 2_000_000, 200_000, 2e6
CLEAN_S = 60.0
"""An agent ends within 20 seconds of a silent link; a loaded machine takes longer."""
CONNECTING = 25_000
"""Bytes until the lock is taken: keys are exchanged, the agent is sent."""
PHASES = {
    "connect": (0, CONNECTING),
    "send": (CONNECTING, SIZE),
    "run": (SIZE + CONNECTING, SIZE + CONNECTING),
    "answer": (SIZE + CONNECTING + 10_000, SIZE + CONNECTING + ANSWER - 10_000),
}
"""Phase of the work to the first and last byte, both ways, at which its link is cut."""
RUN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Place:
    """One device on loopback, behind a proxy of its own."""

    address: Address
    proxy: Proxy
    files: Path
    """A folder for what is sent."""


def worked(place: Place, seed: int) -> tuple[str, int]:
    """Do the whole work once; say how it ended, and how often the link was lost."""
    big = place.files / f"{place.address.name}-{seed}"
    big.write_bytes(random.Random(seed).randbytes(SIZE))
    parcel = Parcel.of("bundles", {"big": big})
    session = Session(address=place.address)

    async def work() -> bool:
        try:
            await session.open()
            path = await push(session, parcel, "a file")
            command = ["sh", "-c", f'sleep {RUN_S}; head -c {ANSWER} "$1" > "$0"', "{answer}", f"{path}/big"]
            task = Task(command=command, environment={}, answer="file", limit_s=60)
            reply = await session.keep("work", lambda link: link.run(task))
            sent = big.read_bytes()
            return reply.body == sent[:ANSWER] and (Path(path) / "big").read_bytes() == sent
        finally:
            await session.close()

    try:
        return ("resumed" if session.losses else "undisturbed") if asyncio.run(work()) else "wrong", session.losses
    except SlimError as error:
        return f"failed clearly: {error.fact.replace(place.address.name, 'device')}", session.losses
    except Exception as error:
        return f"failed with {type(error).__name__}", session.losses
    finally:
        big.unlink()


def cut(place: Place, seed: int) -> Counter[str]:
    """Cut the link once, in a phase of the work."""
    phase, moments = list(PHASES)[seed // 4 % len(PHASES)], random.Random(seed)
    byte, pause = moments.randint(*PHASES[phase]), moments.uniform(0, RUN_S) if phase == "run" else 0.0
    done = threading.Event()
    place.proxy.cut()

    def cutting() -> None:
        while not done.wait(0.001):
            if place.proxy.passed >= byte:
                done.wait(pause)
                place.proxy.cut()
                return

    thread = threading.Thread(target=cutting)
    thread.start()
    outcome, _ = worked(place, seed)
    done.set()
    thread.join()
    return Counter([f"{phase}: {outcome}"]) + left(place)


def kill(place: Place, seed: int) -> Counter[str]:
    """Kill a client at a random moment, then do the work with another one."""
    big = place.files / f"{place.address.name}-{seed}-killed"
    big.write_bytes(random.Random(seed).randbytes(SIZE))
    command = [sys.executable, "-m", "tests.helpers.ssh_client", json.dumps(asdict(place.address)), str(big)]
    client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if client.stdout:
        client.stdout.readline()
    time.sleep(random.Random(seed).uniform(0, 2 * RUN_S + SIZE / BYTES_PER_S))
    client.kill()
    client.wait()
    found = left(place)
    outcome, losses = worked(place, seed)
    big.unlink()
    return Counter(["next run went on" if outcome == "undisturbed" and not losses else outcome]) + found


def left(place: Place) -> Counter[str]:
    """Say what a run left on the device after its time to end."""
    try:
        wait_until(lambda: not leftovers(Path(place.address.folder)), CLEAN_S)
    except TimeoutError:
        found = leftovers(Path(place.address.folder))
        return Counter({"leftovers": len(found) - found.count("the lock"), "stuck locks": found.count("the lock")})
    return Counter()


def many(count: int, jobs: int, sshd: Sshd, home: Path, attempt: Callable[[Place, int], Counter[str]]) -> JsonObject:
    """Make attempts on several devices at once; count how they ended."""
    total, begin = Counter[str]({"leftovers": 0, "stuck locks": 0}), time.monotonic()

    def series(job: int) -> list[Counter[str]]:
        with closing(Proxy(sshd.port)) as proxy:
            proxy.bytes_per_s = BYTES_PER_S
            name = f"{attempt.__name__}{job}"
            sshd.trust(home, name, proxy.port)
            place = Place(address=Address(name=name, host=name, folder=str(home / name)), proxy=proxy, files=home)
            return [attempt(place, seed) for seed in range(job, count, jobs)]

    with ThreadPoolExecutor(jobs) as pool:
        for counts in pool.map(series, range(jobs)):
            for one in counts:
                total.update(one)
    return {"attempts": count, **total, "seconds": round(time.monotonic() - begin)}


def contact(sshd: Sshd, home: Path, *, offline: bool) -> JsonObject:
    """Time the first contact, with an environment to make, and three later ones: open, send a bundle, close."""
    sshd.trust(home, "board")
    address = Address(name="board", host="board", folder=str(home / f"device-offline-{offline}"))
    built = home / f"bundle-{offline}"
    bundle = build_bundle(write_onnx(home / "tiny.onnx"), built, "onnxruntime").folder
    seconds = []
    for _ in range(4):
        begin = time.monotonic()
        device = open_device(address, targets.load("host"), DeviceConfig(host="board", offline=offline), Silent())
        device.put(bundle)
        device.close()
        seconds.append(round(time.monotonic() - begin, 1))
    return {"first": seconds[0], "later": seconds[1:]}


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cuts", "contact"))
    parser.add_argument("--count", type=int, default=100, help="cuts (default: 100)")
    parser.add_argument("--kills", type=int, default=100, help="killed clients (default: 100)")
    parser.add_argument("--jobs", type=int, default=4, help="devices at once (default: 4)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="yolo-slim-ssh-") as folder:
        home = Path(folder)
        os.environ["HOME"] = folder
        sshd = Sshd(home / "sshd").start()
        try:
            if args.what == "cuts":
                record(args.out, "cuts", many(args.count, args.jobs, sshd, home, cut))
                record(args.out, "killed clients", many(args.kills, args.jobs, sshd, home, kill))
            else:
                record(args.out, "pip", contact(sshd, home, offline=False))
                record(args.out, "offline", contact(sshd, home, offline=True))
        finally:
            sshd.stop()


def record(path: Path, part: str, found: JsonObject) -> None:
    """Add a part to the record, with where it was measured."""
    about = {
        "machine": device_model(), "cores": cores(), "date": date.today().isoformat(),
        "load_average": round(os.getloadavg()[1], 1), "asyncssh": version("asyncssh"),
    }  # fmt: skip
    merge_json(path, {part: {**found, **about}})
    print(json.dumps({part: found}, indent=2), flush=True)


if __name__ == "__main__":
    main()
