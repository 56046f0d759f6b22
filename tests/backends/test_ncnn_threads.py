"""NCNN's OpenMP threads spin briefly before they sleep, so that another program on a core doesn't stop all of them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from yolo_slim.backends.ncnn.options import OWN_WAITING, SPIN_COUNT

LOAD = "from yolo_slim.backends import ncnn; ncnn.versions()"
PLAIN = "import ncnn"


def spin_count(code: str, **environment: str) -> str:
    """Return how long GNU OpenMP says that it spins in a process that runs some code."""
    clean = {key: value for key, value in os.environ.items() if key not in OWN_WAITING}
    shown = {**clean, **environment, "OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", code], env=shown, capture_output=True, text=True, check=True)
    counts = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    if not counts:
        pytest.skip("this ncnn doesn't compute with GNU OpenMP")
    return str(counts[-1])


def test_the_threads_spin_briefly() -> None:
    """Loaded by us, NCNN's OpenMP has our count; loaded plainly it has its own, which is far longer."""
    own = spin_count(PLAIN)
    expected = SPIN_COUNT.get(platform.machine(), own)
    assert spin_count(LOAD) == expected
    assert expected == own or int(expected) * 10 < int(own)
    assert (expected == own) == (platform.machine() != "x86_64")


def test_an_unmeasured_processor_keeps_its_count() -> None:
    """Where no count was measured, OpenMP's own stays."""
    other = f"import platform; platform.machine = lambda: 'aarch64'; {LOAD}"
    assert spin_count(other) == spin_count(PLAIN)


def test_the_users_own_setting_stays() -> None:
    """Who sets the count, or the policy that decides it, gets that."""
    assert spin_count(LOAD, GOMP_SPINCOUNT="77") == "77"
    assert spin_count(LOAD, OMP_WAIT_POLICY="passive") == spin_count(PLAIN, OMP_WAIT_POLICY="passive") == "0"


def test_the_environment_is_as_before() -> None:
    """The process that loads NCNN, and so its children, keep their environment."""
    code = f"import os; before = dict(os.environ); {LOAD}; print(before == dict(os.environ))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
