"""The part of PyCUDA's driver module that yolo_slim uses, on the CPU: device memory is host memory.

``FAKE_CUDA`` makes it fail: ``no-gpu``, ``no-devices`` or ``oom``. :class:`Driver` stands in for libcuda's graph calls.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import numpy as np

CONTEXTS: list[Context] = []
"""Contexts that are current, the innermost last."""
ALLOCATED: dict[int, np.ndarray] = {}
_CAPTURE: list[Callable[[], None]] | None = None


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class LogicError(Error):
    pass


def init(flags: int = 0) -> None:
    if os.environ.get("FAKE_CUDA") == "no-gpu":
        raise LogicError("cuInit failed: no CUDA-capable device is detected")


def get_driver_version() -> int:
    return 12060


def do(operation: Callable[[], None]) -> None:
    """Run an operation of a stream, or note it while a graph is captured; a context must be current."""
    if not CONTEXTS:
        raise LogicError("invalid device context")
    if _CAPTURE is None:
        operation()
    else:
        _CAPTURE.append(operation)


class Context:
    def __init__(self) -> None:
        self.is_attached = True

    def push(self) -> None:
        CONTEXTS.append(self)

    @staticmethod
    def pop() -> None:
        CONTEXTS.pop()

    def detach(self) -> None:
        self.is_attached = False


class Device:
    def __init__(self, number: int) -> None:
        self.number = number

    @staticmethod
    def count() -> int:
        return 0 if os.environ.get("FAKE_CUDA") == "no-devices" else 1

    def name(self) -> str:
        return os.environ.get("FAKE_GPU", "Orin")

    def compute_capability(self) -> tuple[int, int]:
        return 8, 7

    def retain_primary_context(self) -> Context:
        return Context()


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._bytes = np.zeros(size, np.uint8)
        ALLOCATED[self._bytes.ctypes.data] = self._bytes

    def __int__(self) -> int:
        return self._bytes.ctypes.data

    def free(self) -> None:
        del ALLOCATED[self._bytes.ctypes.data]


class Stream:
    handle = 77

    def synchronize(self) -> None:
        do(lambda: None)


class Event:
    def record(self, stream: Stream | None = None) -> None:
        pass

    def time_since(self, event: Event) -> float:
        return 1.25


def mem_alloc(size: int) -> DeviceAllocation:
    if os.environ.get("FAKE_CUDA") == "oom":
        raise MemoryError("cuMemAlloc failed: out of memory")
    if not CONTEXTS:
        raise LogicError("invalid device context")
    return DeviceAllocation(size)


def pagelocked_empty(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.empty(shape, dtype)


def memcpy_htod_async(dest: DeviceAllocation, src: np.ndarray, stream: Stream | None = None) -> None:
    do(lambda: ctypes.memmove(int(dest), src.ctypes.data, src.nbytes))


def memcpy_dtoh_async(dest: np.ndarray, src: DeviceAllocation, stream: Stream | None = None) -> None:
    do(lambda: ctypes.memmove(dest.ctypes.data, int(src), dest.nbytes))


class Driver:
    """libcuda's graph functions; a launch replays what was captured.

    ``broken`` names a function that fails, or ``launch`` for one that succeeds and does nothing.
    """

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.calls: list[str] = []
        self._recorded: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            self.calls.append(name)
            if name == self.broken:
                return 900
            inner = getattr(type(self), f"_{name}", None)
            if inner is not None:
                inner(self, *arguments)
            return 0

        return call

    def _cuStreamBeginCapture_v2(self, stream: object, mode: object) -> None:
        global _CAPTURE
        _CAPTURE = self._recorded

    def _cuStreamEndCapture(self, stream: object, graph: object) -> None:
        global _CAPTURE
        _CAPTURE = None

    def _cuGraphInstantiateWithFlags(self, executable: object, graph: object, flags: object) -> None:
        executable._obj.value = 5

    def _cuGraphLaunch(self, executable: object, stream: object) -> None:
        for operation in [] if self.broken == "launch" else self._recorded:
            do(operation)
