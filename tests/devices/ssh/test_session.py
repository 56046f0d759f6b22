"""Links that are cut, stalled or slow, and killed clients: work resumes or fails clearly, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import pytest

from tests.helpers.constants import ROOT
from tests.helpers.listeners import Remembers
from tests.helpers.proxy import Proxy
from tests.helpers.ssh_device import leftovers
from tests.helpers.sshd import Sshd
from tests.helpers.waiting import wait_until
from yolo_slim.devices.ssh import connection, link, session
from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.link import Reply, Task
from yolo_slim.devices.ssh.push import Parcel, push
from yolo_slim.devices.ssh.session import Session
from yolo_slim.devices.ssh.shell import limit_s
from yolo_slim.errors import DeviceGone, MachineError, SlimError

Answer = TypeVar("Answer")
Staged = Callable[..., Address]


def using(found: Session, work: Callable[[Session], Awaitable[Answer]]) -> Answer:
    """Open a session, work with it and close it."""

    async def whole() -> Answer:
        try:
            await found.open()
            return await work(found)
        finally:
            await found.close()

    return asyncio.run(whole())


async def until(is_true: Callable[[], object]) -> None:
    """Wait for a condition while the session goes on."""
    await asyncio.to_thread(wait_until, is_true, 120.0)


async def shell(found: Session, script: str, limit_s: float = 30.0) -> Reply:
    """Run a shell script on the device; it may write to ``$ANSWER``."""
    # The folder has quotes of both kinds, so the shell gets the path as its argument.
    command = ["sh", "-c", f"ANSWER=$0; {script}".replace("$ANSWER", '"$ANSWER"'), "{answer}"]
    task = Task(command=command, environment={}, answer="file", limit_s=limit_s)
    return await found.keep("work", lambda one: one.run(task))


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    """Return two files, of which one takes a while."""
    (tmp_path / "big").write_bytes(random.Random(0).randbytes(2_000_000))
    (tmp_path / 'it\'s "small"').write_text("small")
    return Parcel.of("bundles", {name: tmp_path / name for name in ("big", 'it\'s "small"')})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again without a pause."""
    monkeypatch.setattr(session, "FIRST_PAUSE_S", 0.05)


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a silent link be given up within seconds, at both ends."""
    monkeypatch.setattr(connection, "BEAT_S", 0.5)
    monkeypatch.setattr(link, "BEAT_S", 0.5)
    monkeypatch.setattr(link, "SILENCE_S", 3.0)


@pytest.mark.parametrize("seed", range(4))
def test_cuts_at_any_moment(seed: int, far_board: Address, proxy: Proxy, parcel: Parcel, quick: None) -> None:
    """Pushes go on, commands run again, answers come whole; afterwards nothing is left."""
    moments = random.Random(seed)
    proxy.bytes_per_s = 2e6
    lines = Remembers()

    async def cuts() -> None:
        for _ in range(3):
            await asyncio.sleep(moments.uniform(0.05, 1.2))
            proxy.cut()

    async def work(found: Session) -> tuple[str, Reply]:
        cutting = asyncio.create_task(cuts())
        path = await push(found, parcel, "two files")
        reply = await shell(found, "sleep 0.5; head -c 200000 /dev/zero > $ANSWER")
        await cutting
        return path, reply

    found = Session(address=far_board, progress=lines)
    path, reply = using(found, work)
    for name, file in parcel.files.items():
        assert (Path(path) / name).read_bytes() == file.read_bytes()
    assert reply.body == bytes(200000)
    assert found.losses >= 1
    assert "connecting again" in lines.said
    wait_until(lambda: not leftovers(Path(far_board.folder)), 120.0)


def test_a_push_goes_on_where_it_ended(far_board: Address, proxy: Proxy, parcel: Parcel, quick: None) -> None:
    """What had arrived before the cut isn't sent again."""
    # Slow enough for the device to store what arrives before the cut.
    proxy.cut_after, proxy.bytes_per_s = 1_200_000, 1_000_000
    using(Session(address=far_board), lambda found: push(found, parcel, "two files"))
    assert proxy.cuts == 1
    assert proxy.total < 1.5 * 2_000_000


def test_a_stalled_link_is_given_up(far_board: Address, proxy: Proxy, impatient: None) -> None:
    """A link that passes nothing is noticed at both ends: the command there ends, and runs again."""

    async def work(found: Session) -> Reply:
        running = asyncio.create_task(shell(found, "sleep 8; echo done > $ANSWER"))
        await until(lambda: len(leftovers(Path(far_board.folder))) > 2)
        proxy.stall()
        # The agent's own patience ends: nothing of the first run is left.
        await until(lambda: not leftovers(Path(far_board.folder)))
        proxy.stall(False)
        return await running

    found = Session(address=far_board)
    assert using(found, work).body == b"done\n"
    assert found.losses >= 1


def test_a_slow_link_is_no_lost_one(far_board: Address, proxy: Proxy, parcel: Parcel) -> None:
    """A push that takes seconds is left alone."""
    proxy.bytes_per_s = 800_000
    found = Session(address=far_board)
    using(found, lambda one: push(one, parcel, "two files"))
    assert found.losses == 0


def test_a_device_that_restarts(staged: Staged, home: Path, sshd: Sshd, tmp_path: Path, quick: None) -> None:
    """A run goes on with the device that comes back; the command runs again from its beginning."""
    server = Sshd(tmp_path / "restarting").start()
    server.trust(home, "restarting")
    address = Address(name="pi", host="restarting", folder=str(tmp_path / "device"))

    async def work(found: Session) -> Reply:
        running = asyncio.create_task(shell(found, "sleep 1; echo done > $ANSWER"))
        await until(lambda: len(leftovers(Path(address.folder))) > 2)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.4)
        await asyncio.to_thread(server.start)
        return await running

    assert using(Session(address=address), work).body == b"done\n"
    server.stop()


def test_a_device_that_stays_away(home: Path, sshd: Sshd, tmp_path: Path, quick: None) -> None:
    """After its limit the error names the step and what to do."""
    server = Sshd(tmp_path / "leaving").start()
    server.trust(home, "leaving")
    address = Address(name="pi", host="leaving", folder=str(tmp_path / "device"))

    async def work(found: Session) -> None:
        await asyncio.to_thread(server.stop)
        await shell(found, "echo done")

    with pytest.raises(DeviceGone) as refusal:
        using(Session(address=address, patience_s=1.0), work)
    assert "didn't come back within 1 s" in refusal.value.fact
    assert "in this step: work" in refusal.value.fact
    assert any("refuses SSH" in culprit for culprit in refusal.value.culprits)


def test_a_device_that_always_falls(board: Address, quick: None) -> None:
    """A command that takes the device down each time isn't repeated forever."""
    found = Session(address=board)
    with pytest.raises(DeviceGone, match="power supply"):
        using(found, lambda one: shell(one, "kill -9 $PPID; exec sleep 20"))
    assert found.losses == session.MOST_LOSSES + 1
    wait_until(lambda: not [one for one in leftovers(Path(board.folder)) if "/runs/" not in one])


def test_two_runs_on_one_device(board: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one says who has it; or waits, and gets it."""
    monkeypatch.setattr(session, "GRACE_S", 0.3)
    monkeypatch.setattr(session, "WAIT_S", 0.1)
    first, lines = Session(address=board), Remembers()

    async def work() -> None:
        await first.open()
        second = Session(address=board)
        with pytest.raises(MachineError) as refusal:
            await second.open()
        assert f"process {os.getpid()}" in refusal.value.fact
        assert "--wait" in refusal.value.remedy
        assert not second.is_open
        waiting = asyncio.create_task(Session(address=board, waits=True, progress=lines).open())
        await until(lambda: "waiting" in lines.said)
        assert not waiting.done()
        await first.close()
        await (await waiting).close()

    asyncio.run(work())
    assert lines.said.count("waiting") == 1
    assert leftovers(Path(board.folder)) == []


def test_two_devices_at_once(board: Address, tmp_path: Path) -> None:
    """Each has its own lock and its own commands."""
    other = replace(board, folder=str(tmp_path / "other"))

    async def one(address: Address, text: str) -> bytes:
        found = Session(address=address)
        await found.open()
        try:
            return (await shell(found, f"sleep 0.3; echo {text} > $ANSWER")).body
        finally:
            await found.close()

    async def both() -> list[bytes]:
        return await asyncio.gather(one(board, "first"), one(other, "second"))

    assert asyncio.run(both()) == [b"first\n", b"second\n"]


@pytest.mark.parametrize(
    ("delay_s", "number"),
    [(0.0, signal.SIGKILL), (0.15, signal.SIGKILL), (0.5, signal.SIGKILL), (1.0, signal.SIGKILL), (0.7, signal.SIGINT)],
)
def test_killed_clients(
    delay_s: float, number: signal.Signals, far_board: Address, proxy: Proxy, parcel: Parcel
) -> None:
    """Whatever a client was doing, the device is free and clean within seconds, and the next run goes on."""
    proxy.bytes_per_s = 4e6
    command = [
        sys.executable,
        "-m",
        "tests.helpers.ssh_client",
        json.dumps(asdict(far_board)),
        str(parcel.files["big"]),
    ]
    client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert client.stdout is not None
    assert client.stdout.readline() == b"opened\n"
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(delay_s)
    client.send_signal(number)
    client.wait()
    wait_until(lambda: not leftovers(Path(far_board.folder)), 120.0)
    proxy.bytes_per_s = None
    path = using(Session(address=far_board), lambda found: push(found, parcel, "files"))
    assert (Path(path) / "big").read_bytes() == parcel.files["big"].read_bytes()


def test_a_command_that_takes_too_long(board: Address) -> None:
    """It is killed with all that it started."""
    reply = using(Session(address=board), lambda found: shell(found, "sleep 60 & sleep 60", limit_s=0.3))
    assert (reply.values["status"], reply.values["is_late"]) == (-signal.SIGKILL, True)
    assert leftovers(Path(board.folder)) == []


def test_what_a_command_leaves_running_ends_with_it(board: Address) -> None:
    """A process in the background doesn't keep the device."""
    reply = using(Session(address=board), lambda found: shell(found, "sleep 60 & echo line"))
    assert (reply.values["status"], reply.lines) == (0, ["line"])
    assert leftovers(Path(board.folder)) == []


def test_only_what_changed_is_sent(board: Address, parcel: Parcel, tmp_path: Path) -> None:
    """A file that another bundle brought is there already."""
    (tmp_path / "new").write_text("new")
    other = Parcel.of("bundles", {"renamed": parcel.files["big"], "new": tmp_path / "new"})
    lines = Remembers()

    async def work(found: Session) -> str:
        await push(found, parcel, "first")
        lines.steps.clear()
        return await push(found, other, "second")

    path = using(Session(address=board, progress=lines), work)
    assert (Path(path) / "renamed").stat().st_size == 2_000_000
    assert [total for text, _, total in lines.steps if "second" in text] == [3]


def test_damage_is_repaired(board: Address, parcel: Parcel) -> None:
    """A file that changed on the device, or a part that isn't of this file, is sent again."""

    async def work(found: Session) -> str:
        path = await push(found, parcel, "first")
        (Path(path) / "big").write_bytes(b"damaged")
        digest = parcel.digests["big"][0]
        (Path(board.folder) / "store" / f"{digest}.part").write_bytes(b"of another file")
        return await push(found, parcel, "again")

    path = using(Session(address=board), work)
    assert (Path(path) / "big").read_bytes() == parcel.files["big"].read_bytes()


def test_a_file_that_changes_while_it_is_sent(board: Address, parcel: Parcel, tmp_path: Path) -> None:
    """What never arrives as announced isn't taken for whole."""
    (tmp_path / "big").write_bytes(bytes(2_000_000))
    with pytest.raises(MachineError, match="another content"):
        using(Session(address=board), lambda found: push(found, parcel, "files"))
    assert list(Path(board.folder).glob("bundles/*")) == []
    assert list(Path(board.folder).glob("store/*.part")) == []


def test_a_full_disk(board: Address, parcel: Parcel, tmp_path: Path) -> None:
    """A disk that can't take the files is said to be full, with the command that makes room."""
    small = tmp_path / "small disk"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with pytest.raises(MachineError) as refusal:
            using(Session(address=replace(board, folder=str(small))), lambda found: push(found, parcel, "files"))
    finally:
        subprocess.run(["umount", "-l", small], check=True)
    assert "is full" in refusal.value.fact
    assert "device clean" in refusal.value.remedy


def test_caches_are_bounded(board: Address, tmp_path: Path) -> None:
    """The newest entries stay; files that no entry has any more go."""

    async def work(found: Session) -> None:
        for number in range(4):
            (tmp_path / "file").write_text(f"{number}" * 1000)
            await push(found, Parcel.of("images", {"file": tmp_path / "file"}), "one")
        assert await found.sweep({"images": 2}, 1000.0) > 0

    using(Session(address=board), work)
    folder = Path(board.folder)
    assert sorted(path.read_text()[0] for path in folder.glob("images/*/file")) == ["2", "3"]
    assert len(list(folder.glob("store/*"))) == 2


def test_refused_by_the_system(board: Address, parcel: Parcel) -> None:
    """What the device's system refuses is one message."""

    async def work(found: Session) -> None:
        (Path(board.folder) / "bundles").write_text("a file in the way")
        await push(found, parcel, "files")

    with pytest.raises(SlimError, match="can't be written"):
        using(Session(address=board), work)


def test_long_commands_have_the_time_that_they_need() -> None:
    """A run of minutes, which may be repeated, isn't taken for stuck; nor is a tune, which may take an hour on a Pi."""
    usual, long = limit_s(["bench", "b"]), limit_s(["bench", "b", "--minutes", "300.0"])
    assert long == usual + 3 * 300 * 60
    assert limit_s(["tune", "b"]) > limit_s(["check", "b"])
