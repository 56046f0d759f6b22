"""Whether this machine has what a bundle requires: for every requirement, what was wanted and what was found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from yolo_slim.backends import backend
from yolo_slim.bundle import BundleSpec
from yolo_slim.errors import SlimError
from yolo_slim.machine import (
    describe_machine,
    is_release,
    jetpack_of,
    l4t_version,
    package_version,
    power_mode,
    read_state,
)
from yolo_slim.requirements import Requirements, satisfies

SMALLEST_SHARE = 0.75
"""Firmware and kernel keep a part of the memory that a device is sold with; more than this share must be left."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One requirement against this machine."""

    name: str
    """What is required."""
    wanted: str
    """What the target's profile asks for."""
    found: str | None
    """What this machine has; None: it doesn't say."""
    is_met: bool | None
    """None: unknown, because this machine doesn't say."""

    def to_json(self) -> dict[str, object]:
        """The answer of ``doctor --json``."""
        return {"name": self.name, "wanted": self.wanted, "found": self.found, "ok": self.is_met}

    def __str__(self) -> str:
        found = "this machine doesn't say" if self.found is None else f"found {self.found}"
        return f"{self.name}: required {self.wanted}, {found}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What this machine has. None: it doesn't say."""

    arch: str
    device_model: str
    power_mode: str | None
    packages: dict[str, str]
    """Installed packages only."""
    memory_gb: float | None
    """Memory that programs can use, gibibytes as in a device's name."""
    sm: str | None
    l4t: str | None


def unmet(spec: BundleSpec) -> tuple[str, ...]:
    """One line for every requirement of a bundle that this machine surely doesn't meet."""
    return tuple(str(item) for item in compare_with_machine(spec) if item.is_met is False)


def compare_with_machine(spec: BundleSpec) -> tuple[Comparison, ...]:
    """Compare everything that a bundle requires with this machine."""
    return tuple(compare(spec.requires, find(spec)))


def compare(requires: Requirements, found: Found) -> Iterator[Comparison]:
    """Compare every requirement with what was found; what isn't required isn't mentioned."""
    if requires.arch != "any":
        yield _comparison("arch", requires.arch, found.arch, found.arch == requires.arch)
    if requires.device_model is not None:
        is_met = re.search(requires.device_model, found.device_model) is not None
        yield _comparison("device", requires.device_model, found.device_model, is_met)
    if requires.memory_gb:
        yield _memory(requires.memory_gb, found.memory_gb)
    if requires.l4t:
        wanted = ", ".join(f"{release} (JetPack {jetpack})" for release, jetpack in requires.l4t.items())
        yield _comparison("Jetson Linux", wanted, found.l4t, _is_jetson_linux(requires.l4t, found.l4t))
    if requires.sm is not None:
        yield _comparison("GPU's SM", requires.sm, found.sm, found.sm == requires.sm)
    if requires.power_mode is not None:
        yield _comparison("power mode", requires.power_mode, found.power_mode, found.power_mode == requires.power_mode)
    for package, specifier in requires.packages.items():
        version = found.packages.get(package)
        is_met = version is not None and satisfies(version, specifier)
        yield _comparison(package, specifier, version or "not installed", is_met)


def find(spec: BundleSpec) -> Found:
    """Look for what a bundle requires on this machine."""
    facts = describe_machine()
    memory_mb = facts["memory_total_mb"]
    return Found(
        arch=facts["arch"],
        device_model=facts["model"],
        power_mode=_power_mode_or_governor(),
        packages=_installed(spec),
        memory_gb=None if memory_mb is None else memory_mb * 1e6 / 2**30,
        sm=None if spec.requires.sm is None else _sm(),  # asking starts CUDA: only where it matters
        l4t=l4t_version(),
    )


def _comparison(name: str, wanted: str, found: str | None, is_met: bool) -> Comparison:
    return Comparison(name=name, wanted=wanted, found=found, is_met=None if found is None else is_met)


def _is_jetson_linux(wanted: dict[str, str], found: str | None) -> bool:
    """A profile names one release of a JetPack; its later releases (36.5 of JetPack 6.2) serve as well."""
    # A release may stand for two JetPacks: 36.4 is "6.1 or 6.2".
    same_jetpack = set((jetpack_of(found) or "").split(" or ")) & set(wanted.values())
    return bool(same_jetpack) or any(is_release(found, release) for release in wanted)


def _memory(sizes: tuple[int, ...], found: float | None) -> Comparison:
    is_met = found is not None and any(SMALLEST_SHARE * size <= found <= size for size in sizes)
    wanted = f"{' or '.join(map(str, sizes))} GB"
    return _comparison("memory", wanted, None if found is None else f"{found:.1f} GB", is_met)


def _power_mode_or_governor() -> str | None:
    """A Jetson has power modes; on other devices the CPU's governor decides the clocks."""
    return power_mode() or ", ".join(read_state().governors) or None


def _installed(spec: BundleSpec) -> dict[str, str]:
    """Versions of the required packages; the runtime's own come from the runtime, which may have no pip metadata."""
    try:
        own = backend(spec.runtime).versions()
    except SlimError:  # one of them is missing; pip's metadata still knows the others
        own = {}
    versions = {package: own.get(package) or package_version(package) for package in spec.requires.packages}
    return {package: version for package, version in versions.items() if version is not None}


def _sm() -> str | None:
    from yolo_slim.backends import tensorrt

    try:
        return tensorrt.gpu().sm
    except SlimError:
        return None
