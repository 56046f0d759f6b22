"""The inventory: names for devices, kept in the user's configuration, and the commands that use them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import yolo_slim.api
from tests.helpers.cli import run_cli
from tests.helpers.sshd import free_port
from yolo_slim.config import targets
from yolo_slim.config.targets import profiles_folder
from yolo_slim.devices import inventory
from yolo_slim.devices.ssh.address import Address
from yolo_slim.errors import SlimError

Staged = Callable[..., Address]


def added(*more: str) -> tuple[int, str, str]:
    """Add a device."""
    return run_cli("device", "add", "kitchen", "pi@10.0.0.7:2222", "--target", "rpi5", *more)


def test_add_list_remove(home: Path) -> None:
    """A device is kept with what was given, listed, found by its name, and forgotten."""
    assert "make rpi HOST=kitchen" in added("--folder", "/data/it's")[1]
    found = inventory.address_of("kitchen")
    assert (found.host, found.user, found.port, found.folder) == ("10.0.0.7", "pi", 2222, "/data/it's")
    assert json.loads(run_cli("device", "list", "--json")[1])["kitchen"]["target"] == "rpi5"
    listed = run_cli("device", "list")[1].splitlines()
    assert listed[0] == "kitchen  rpi5               -p 2222 pi@10.0.0.7"
    assert listed[1].startswith("Emulated: rpi4-emulated, rpi5-emulated")
    assert run_cli("device", "remove", "kitchen")[0] == 0
    assert "You have none" in run_cli("device", "list")[1]
    assert inventory.inventory_path() == home / ".config/yolo_slim/devices.yaml"


def test_a_name_that_is_no_device_is_an_address(home: Path) -> None:
    """What the inventory doesn't know is an address."""
    assert inventory.address_of("pi@board:22").user == "pi"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "a.b", "pi", "--target", "rpi5"), "can't be the name"),
        (("add", "a", "p i", "--target", "rpi5"), "Not an address"),
        (("add", "a", "pi", "--target", "rpi6"), "Did you mean"),
        (("add", "a", "pi", "--target", "rpi5", "--port", "0"), "port"),
        (("show", "kitchne"), "Did you mean 'kitchen'?"),
        (("remove", "nobody"), "no device called nobody"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, home: Path) -> None:
    """Every mistake is one message and exit code 2."""
    added()
    code, _, errors = run_cli("device", *arguments)
    assert code == 2
    assert message in errors
    assert list(inventory.load()) == ["kitchen"]


def test_a_name_is_taken(home: Path) -> None:
    """A second device of one name replaces the first only where that is asked for."""
    added()
    assert "already" in added()[2]
    assert added("--replace", "--port", "23")[0] == 0
    assert inventory.entry_of("kitchen").port == 23


@pytest.mark.parametrize("text", ["a: [", "- a", "a: {host: b}", "a: {host: b, target: rpi5, prot: 22}", "a: b"])
def test_a_damaged_inventory(text: str, home: Path) -> None:
    """All mistakes of the file are named; it isn't overwritten."""
    path = inventory.inventory_path()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(SlimError) as refusal:
        inventory.load()
    assert str(path) in refusal.value.fact
    assert added()[0] == 2
    assert path.read_text() == text


def test_several_writers(home: Path) -> None:
    """Devices that are added at once are all there."""
    entry = inventory.Entry(host="pi", target="rpi5")
    writers = [threading.Thread(target=inventory.add, args=(f"pi{number}", entry)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(inventory.load()) == 8


def test_show_and_clean(desk: Address) -> None:
    """What a device is and what is kept there; cleaning leaves the lock alone."""
    folder = Path(desk.folder)
    assert run_cli("device", "show", "desk")[0] == 0  # makes the folder
    for name, size in [("older", 0), ("newest", 3_000_000)]:
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "file").write_bytes(bytes(size))
    os.utime(folder / "images/older", (0, 0))
    shown = json.loads(run_cli("device", "show", "desk", "--json")[1])
    assert shown["kept_mb"]["images"] == 3.0
    assert shown["used_by"] == "nobody"
    assert run_cli("device", "clean", "desk")[1] == "desk: 0 MB freed.\n"
    assert run_cli("device", "clean", "desk", "--all")[1] == "desk: 3 MB freed.\n"
    assert [path.name for path in folder.glob("images/*")] == []


def test_doctor_of_a_device(desk: Address) -> None:
    """The device's own doctor speaks, with the packages that runs there have."""
    code, out, errors = run_cli("doctor", "--host", "desk")
    assert (code, errors) == (0, "")
    assert "fine         opencv, onnxruntime" in out
    report = json.loads(run_cli("doctor", "--host", "desk", "--json")[1])
    assert report["doctor"]["machine"]["arch"] == report["about"]["arch"]
    assert report["used_by"] is None


def test_doctor_of_a_device_that_is_away(home: Path) -> None:
    """It says that it doesn't answer."""
    code, _, errors = run_cli("doctor", "--host", f"127.0.0.1:{free_port()}")
    assert code == 2
    assert "refuses SSH" in errors


def test_which_devices_answer(desk: Address) -> None:
    """All are asked at once; one that is away is a line, no error."""
    inventory.add("away", inventory.Entry(host="127.0.0.1", port=free_port(), target="rpi5"))
    code, out, _ = run_cli("targets", "--devices", "--json")
    found = json.loads(out)
    assert code == 0
    assert {name: one["answers"] for name, one in found.items()} == {"away": False, "desk": True}
    assert "refuses SSH" in run_cli("targets", "--devices")[1]


def target_chosen(*arguments: str) -> str:
    """Return the target of a configuration with these options, or the refusal."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    try:
        return yolo_slim.api.make_config("best.pt", "data.yaml", **options).target  # type: ignore[arg-type]
    except SlimError as error:
        return f"{error.fact} {error.remedy}"


def test_a_device_brings_its_target(home: Path, tmp_path: Path) -> None:
    """Without --target a run is made for what the inventory says; what is given, by option or file, wins."""
    said = run_cli("device", "add", "shed", "pi@10.0.0.8", "--target", "rpi4")[1]
    assert "make rpi HOST=shed TARGET=rpi4" in said
    assert "make jetson" in run_cli("device", "add", "orin", "nv@10.0.0.9", "--target", "jetson-orin-nx")[1]
    config = tmp_path / "run.yaml"
    config.write_text("device: {host: shed}\n")
    assert target_chosen("host", "shed") == target_chosen("config", str(config)) == "rpi4"
    assert target_chosen("host", "shed", "target", "host") == "host"
    assert target_chosen("host", "rpi5-emulated") == "rpi5"
    assert target_chosen() == "host"


def test_a_device_that_nobody_described_needs_a_target(home: Path) -> None:
    """An address, or a name with a slip, isn't taken for any machine, for which nearly every verdict is a pass."""
    added()
    assert "isn't in your inventory. Did you mean 'kitchen'?" in target_chosen("host", "kitchne")
    assert "Give --target" in target_chosen("host", "pi@10.0.0.9")
    assert target_chosen("host", "pi@10.0.0.9", "target", "rpi4") == "rpi4"


def test_an_own_profile_is_found_from_every_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile's file is kept with its whole path."""
    text = (profiles_folder() / "rpi5.yaml").read_text().replace("name: rpi5", "name: mine")
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert run_cli("device", "add", "shed", "pi@10.0.0.8", "--target", "mine.yaml")[0] == 0
    monkeypatch.chdir("/")
    assert targets.load(inventory.target_of("shed")).name == "mine"


def test_emulated_devices_are_none_of_the_inventory(home: Path) -> None:
    """Their names can't be taken, and they aren't looked for in the network."""
    assert "emulated device" in run_cli("device", "add", "rpi5-emulated", "pi", "--target", "rpi5")[2]
    for command in (("doctor", "--host"), ("device", "clean")):
        code, _, errors = run_cli(*command, "rpi5-emulated")
        assert (code, "emulated on this machine" in errors) == (2, True)
