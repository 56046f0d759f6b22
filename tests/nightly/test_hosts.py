"""Devices of one night: those elsewhere at the same time, each of them alone, and each checked for all its targets."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.helpers.nights import NightDevice, run_night, runs_of, statuses, write_matrix

WAIT_S = 30.0


class Overlap:
    """Counts how many devices time at the same moment."""

    def __init__(self) -> None:
        self.now, self.most = 0, 0
        self._lock = threading.Lock()

    def of(self, device: NightDevice, meet: threading.Barrier | None = None) -> None:
        """Count a device's timings; ``meet``: the first one waits there."""
        bench, waits = device.bench, iter([meet])

        def counted(*given: object, **settings: object) -> object:
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                if barrier := next(waits, None):
                    barrier.wait(WAIT_S)
                return bench(*given, **settings)  # type: ignore[arg-type]
            finally:
                with self._lock:
                    self.now -= 1

        device.bench = counted  # type: ignore[method-assign, assignment]


def test_two_hosts_are_measured_at_once(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Each waits in its first timing for the other one; every cell gets its own device's figures."""
    targets = {name: {"profile": "host", "host": name} for name in ("slow", "fast")}
    matrix = write_matrix(tmp_path, shapes, targets=targets)
    hosts, overlap, meet = {"slow": NightDevice(), "fast": NightDevice()}, Overlap(), threading.Barrier(2)
    hosts["slow"].here = 3.0
    for host in hosts.values():
        overlap.of(host, meet)
    code, _, err = run_night(matrix, device, hosts=hosts)
    assert (code, statuses(matrix, 1)) == (0, ["first"] * 4), err
    assert overlap.most == 2
    p50 = {run.cell.target: run.measurement.speed.p50_ms for run in runs_of(matrix, 1) if run.measurement}
    assert 2.5 < p50["slow"] / p50["fast"] < 3.5


def test_targets_of_one_host_are_measured_in_turn(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """Negative control: two timings at once on one device would spoil each other."""
    targets = {name: {"profile": "host", "host": "pi"} for name in ("one", "two")}
    matrix = write_matrix(tmp_path, shapes, targets=targets)
    pi, overlap = NightDevice(), Overlap()
    overlap.of(pi)
    assert run_night(matrix, device, hosts={"pi": pi})[0] == 0
    assert (statuses(matrix, 1), overlap.most) == (["first"] * 4, 1)
    assert pi.asked.count("close") == 2


def test_every_target_of_a_host_is_checked(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """A board that is one target isn't the other: the cells of that one are missing, in either order."""
    for order in (("host", "rpi5"), ("rpi5", "host")):
        folder = tmp_path / order[0]
        folder.mkdir()
        targets = {f"as-{name}": {"profile": name, "host": "pi"} for name in order}
        matrix = write_matrix(folder, shapes, targets=targets, only=["*/ncnn-fp16"])
        pi = NightDevice()
        pi.is_checked = True
        code, out, err = run_night(matrix, device, hosts={"pi": pi})
        found = {run.cell.target: run.state for run in runs_of(matrix, 1)}
        assert (code, found) == (3, {"as-host": "measured", "as-rpi5": "missing"}), err
        assert "pi isn't a rpi5." in out
