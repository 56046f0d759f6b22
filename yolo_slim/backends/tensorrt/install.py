"""``install.sh`` of a Jetson bundle: from a bare JetPack to a checked and timed detector in one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolo_slim.backends.tensorrt.sdk import PYCUDA

if TYPE_CHECKING:
    from yolo_slim.bundle import BundleSpec

_SCRIPT = r"""#!/usr/bin/env bash
# Build, check and time this bundle on a Jetson:   bash install.sh
# It makes .venv in this folder and touches nothing else. PYTHON, VENV and CUDA may be set to others.
set -euo pipefail
cd "$(dirname "$0")"
PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"
CUDA="${CUDA:-/usr/local/cuda}"

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}
step() { printf '== %s\n' "$1"; }

step "look at this machine"
[ "$(uname -m)" = aarch64 ] || fail "this bundle is for a Jetson (aarch64); this machine is $(uname -m)."
command -v "$PYTHON" >/dev/null || fail "no $PYTHON here. Install it: sudo apt install python3"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "$PYTHON is older than 3.10. Install JetPack 6.0 or newer."
"$PYTHON" -c 'import tensorrt' 2>/dev/null ||
  fail "$PYTHON has no TensorRT. It comes with JetPack: sudo apt install python3-libnvinfer"

step "make the environment $VENV"
# An environment that couldn't be finished has no pip, and doesn't see TensorRT: ours is made again in its place.
if ! "$VENV/bin/python" -c 'import pip, tensorrt' 2>/dev/null; then
  [ "$VENV" = .venv ] || [ ! -e "$VENV" ] ||
    fail "$VENV has no pip or doesn't see TensorRT. Remove it, make it with --system-site-packages, or leave VENV out."
  "$PYTHON" -m venv --system-site-packages "$VENV" ||
    fail "the environment can't be made. Install it: sudo apt install python3-venv"
fi
python="$VENV/bin/python"
"$python" -m pip install --quiet ./yolo_slim-*.whl || fail "the yolo_slim wheel of this folder can't be installed."
"$python" -c 'import cv2' 2>/dev/null ||
  "$python" -m pip install --quiet opencv-python-headless ||
  fail "OpenCV can't be installed. Without a network: sudo apt install python3-opencv"
if ! "$python" -c 'import pycuda.driver' 2>/dev/null; then
  step "compile PyCUDA (some minutes)"
  [ -f "$CUDA/include/cuda.h" ] ||
    fail "no CUDA toolkit in $CUDA, which PyCUDA needs. Install it: sudo apt install nvidia-jetpack"
  PATH="$CUDA/bin:$PATH" CUDA_ROOT="$CUDA" "$python" -m pip install --quiet "@PYCUDA@" ||
    fail "PyCUDA can't be installed. Its compiler: sudo apt install build-essential python3-dev"
fi

step "build the TensorRT engine of @NAME@ (@PRECISION@)"
"$python" -m yolo_slim.runtime build . || fail "the engine wasn't built; engine/build.log has TensorRT's messages."
step "check its detections"
"$python" -m yolo_slim.runtime check . || fail "the detections differ from the workstation's."
step "time it"
"$python" -m yolo_slim.runtime bench . --json bench.json ||
  fail "the timing doesn't count, see above (clocks: sudo jetson_clocks; power: sudo nvpmodel -q)."
step "done: bench.json has every sample"
"""


def install_script(spec: BundleSpec) -> str:
    """The script's text for one bundle."""
    # A name is the user's: whatever a shell would interpret is replaced.
    name = "".join(letter if letter.isalnum() or letter in " ._-" else "_" for letter in spec.name)
    # Not str.format: the script is full of the shell's own braces.
    return _SCRIPT.replace("@PYCUDA@", PYCUDA).replace("@NAME@", name).replace("@PRECISION@", spec.precision)
