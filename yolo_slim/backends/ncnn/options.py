"""How NCNN computes on one device: its options, and how long its threads spin."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from yolo_slim.backends import OptionValue

SPIN_COUNT = {"x86_64": "3000"}
"""``GOMP_SPINCOUNT`` by processor: how long NCNN's threads spin before they sleep (docs/benchmarks/contention.md).

NCNN's wheels compute with GNU OpenMP. At the end of every layer its threads spin 300000 times, which takes milliseconds
on x86. If another process has a core, the thread that lost it waits behind one that spins, in every layer. Arm spins
without pauses, so the same count is far shorter there; what helps is unproven, and the count stays.
"""
GOMP_SPIN_COUNT = 300000
"""GNU OpenMP's own count."""
OWN_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Variables by which a user decides that."""


def _usual_spin() -> int:
    return int(SPIN_COUNT.get(platform.machine(), GOMP_SPIN_COUNT))


USUAL_SPIN = 0
"""Value of the option ``spin`` for the processor's own count, see :data:`SPIN_COUNT`."""
OPTIONS: dict[str, tuple[OptionValue, ...]] = {
    "spin": (USUAL_SPIN, *(count for count in (30000, 3000, 1000) if count < _usual_spin())),
    "light": (True, False),
    "packing": (True, False),
    "winograd": (True, False),
    "sgemm": (True, False),
    "fp16_arithmetic": (True, False),
}
"""``spin``: how long a thread waits busily at the end of a layer. ``light``: intermediate tensors are freed at once.
``packing``: channels in blocks. ``winograd``, ``sgemm``: these ways to compute convolutions. ``fp16_arithmetic``: off,
sums are fp32, which is more exact but on most Arm processors slower. Longer spins than usual aren't offered: alone they
gain a tenth, beside another program they cost seconds. Threads aren't bound to cores, because GNU OpenMP would bind the
calling one too, and with it all threads that a program starts later."""
NAMES_IN_NCNN = {
    "light": "lightmode",
    "packing": "use_packing_layout",
    "winograd": "use_winograd_convolution",
    "sgemm": "use_sgemm_convolution",
    "fp16_arithmetic": "use_fp16_arithmetic",
}
"""Our names of NCNN's options to its own."""


@contextmanager
def waiting_briefly(count: object) -> Iterator[None]:
    """Set the number of spins while NCNN is loaded: its OpenMP reads the environment then and never again."""
    if count is None or "ncnn" in sys.modules or any(name in os.environ for name in OWN_WAITING):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = str(count)
    try:
        yield
    finally:
        # Other OpenMP libraries of this process, such as PyTorch's, and its children keep their own ways.
        del os.environ["GOMP_SPINCOUNT"]
