"""Print what the installed packages take on the disk, by part and by what each goal of the Makefile installs.

    make sizes                        # or: python scripts/install_sizes.py rpi=host,ssh
    make sizes ARGS='--out docs/benchmarks/records/install.json'

A part has the packages that no part above it has. Sizes are those of the files that pip lists for a package, compiled
ones included. ``pip`` itself and packages that were installed by hand belong to no goal.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from yolo_slim.files import write_json
from yolo_slim.machine import describe_machine

PROJECT = "yolo-slim"
CUDA = "CUDA: NVIDIA's libraries and triton"
"""What torch from PyPI brings for a GPU."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Packages that are installed for one purpose."""

    name: str
    mb: int
    packages: tuple[str, ...]


def canonical(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(project: str, extras: Iterable[str] = ()) -> set[str]:
    """Names of the installed packages that a project needs with these extras, itself included."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(project, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (canonical(name), extra) in seen:
            continue
        seen.add((canonical(name), extra))
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(canonical(name))
        for wanted in map(Requirement, requires):
            if not wanted.marker or wanted.marker.evaluate({"extra": extra}):
                waiting += [(wanted.name, inner) for inner in ("", *wanted.extras)]
    return found


def size_bytes(name: str) -> int:
    """Bytes of an installed package's files."""
    paths = (Path(str(file.locate())) for file in distribution(name).files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def megabytes(names: Iterable[str]) -> int:
    """Size of several packages in MB, of 1,000,000 bytes."""
    return round(sum(map(size_bytes, names)) / 1e6)


def is_cuda(name: str) -> bool:
    """Whether a package of torch's own is for GPUs alone."""
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def parts(extras: Sequence[str]) -> list[Part]:
    """Every part, the largest purposes first: CUDA, torch, then extra by extra."""
    torch = needed("torch") | needed("torchvision")
    groups = {CUDA: set(filter(is_cuda, torch)), "torch and torchvision": {"torch", "torchvision"} & torch}
    groups |= {f"extra {extra}": needed(PROJECT, [extra]) for extra in extras}
    taken: set[str] = set()
    found = []
    for name, packages in groups.items():
        own = packages - taken
        taken |= own
        found.append(Part(name=name, mb=megabytes(own), packages=tuple(sorted(own))))
    return found


def goals(extras: Mapping[str, Sequence[str]], cuda: Iterable[str]) -> dict[str, dict[str, int]]:
    """Each goal's size in MB, with and without CUDA's packages; torch itself stays the one that is installed."""
    sizes = {}
    for goal, names in extras.items():
        packages = needed(PROJECT, names)
        sizes[goal] = {"mb": megabytes(packages), "without_cuda_mb": megabytes(packages - set(cuda))}
    return sizes


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goals", nargs="+", metavar="GOAL=EXTRAS", help="a goal of make and its extras, with commas")
    parser.add_argument("--out", type=Path, help="write the record, JSON, to this file")
    args = parser.parse_args(arguments)
    extras = {goal: names.split(",") for goal, _, names in (text.partition("=") for text in args.goals)}
    found = parts(list(dict.fromkeys(name for names in extras.values() for name in names)))
    sizes = goals(extras, found[0].packages)
    for part in found:
        print(f"{part.name:<40} {part.mb:>6} MB  {len(part.packages):>3} packages")
    for goal, size in sizes.items():
        print(f"make {goal:<35} {size['mb']:>6} MB  {size['without_cuda_mb']} MB without CUDA")
    if args.out:
        about = {"date": date.today().isoformat(), "machine": describe_machine()}
        write_json(args.out, {**about, "parts": [asdict(part) for part in found], "goals": sizes})


if __name__ == "__main__":
    main()
