"""Print the torch to install beside the other packages: the build without CUDA, where that is enough and can be had.

    pip install $(python -m scripts.torch_build) -c constraints.txt -e '.[host]'

It prints requirements for pip, or nothing where pip's own choice is right: with an NVIDIA GPU, off Linux, or where the
package index has no such build. A line on stderr says which. The index is the one that pip is configured for; options
for another one, such as ``--find-links FOLDER``, go to pip. It needs no package itself.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from yolo_slim.prerequisites import CUDA_GB, nvidia_gpus

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PACKAGES = ("torch", "torchvision")
"""Both or none: a torchvision that was compiled for CUDA can't load its operators beside a torch without it."""
LOCAL = "cpu"
"""What builds without CUDA have after the ``+`` of their version."""
Versions = Callable[[str], set[str]]


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Whether NVIDIA's driver shows a GPU."""
    return bool(nvidia_gpus(root))


def pinned(constraints: str) -> dict[str, str]:
    """The versions of torch and torchvision in a text of constraints."""
    found = re.findall(r"^([\w-]+)==([^\s;]+)", constraints, re.M)
    return {name: version for name, version in found if name in PACKAGES}


def offered(name: str, options: Sequence[str] = ()) -> set[str]:
    """Versions of a package for this Python in pip's index; none where it can't be asked."""
    quick = ["--retries", "1", "--timeout", "10", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "index", "versions", *quick, *options, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed = re.search(r"^Available versions: (.*)$", done.stdout, re.M)
    return set(listed[1].split(", ")) if listed else set()


def choose(pins: dict[str, str], versions: Versions) -> tuple[list[str], str]:
    """Requirements for pip on a machine without an NVIDIA GPU, and the reason in one line."""
    wanted = {name: f"{version}+{LOCAL}" for name, version in pins.items()}
    have = [name for name in wanted if wanted[name] in versions(name)]
    if len(have) == len(wanted):
        return [f"{name}=={wanted[name]}" for name in have], "No NVIDIA GPU here: torch is installed without CUDA."
    lacking = " and ".join(f"{name} {wanted[name]}" for name in wanted if name not in have)
    reason = (
        f"No NVIDIA GPU here, but the package index has no {lacking}: torch is installed with CUDA, {CUDA_GB} GB more. "
        "With an index that has torch without CUDA: make TORCH_INDEX=URL and the goal."
    )
    # `==` would also take the one build without CUDA, which breaks beside the other package.
    return [f"{name}==={pins[name]}" for name in have], reason


def main(options: Sequence[str] = ()) -> int:
    """Print requirements on stdout, why on stderr; ``options`` are pip's."""
    if platform.system() != "Linux":
        return 0
    if has_nvidia_gpu():
        print("NVIDIA GPU found: torch is installed with CUDA.", file=sys.stderr)
        return 0
    requirements, reason = choose(pinned(CONSTRAINTS.read_text(encoding="utf-8")), partial(offered, options=options))
    print(*requirements)
    print(reason, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
