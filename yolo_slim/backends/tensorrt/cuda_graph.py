"""A frame as one CUDA graph: hundreds of launches become one.

PyCUDA (2026.1) has no graph API, so the six functions of the CUDA driver that this needs are called through ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from yolo_slim.errors import SlimError

LIBRARY = "libcuda.so.1"
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads of the program may still allocate during a capture."""


class GraphUnavailable(SlimError):
    """Why there is no graph, or why it stopped to work; while a session opens, the caller runs without one."""

    def __init__(self, fact: str) -> None:
        super().__init__(fact, remedy="Set tensorrt.cuda_graph to false in the device profile, and build again.")


def load_driver() -> Any:
    """The CUDA driver's library, which is loaded already where PyCUDA works."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise GraphUnavailable(str(error)) from None


class CudaGraph:
    """Work captured from a stream, to be launched again and again."""

    def __init__(self, stream_handle: int, enqueue: Callable[[], None], driver: Any = None) -> None:
        """Capture what ``enqueue`` puts on a stream; the CUDA context must be current.

        Raises:
            GraphUnavailable: the driver refuses, or something in it can't be captured.
        """
        self._driver = load_driver() if driver is None else driver
        self._stream = ctypes.c_void_p(stream_handle)
        self._executable = ctypes.c_void_p()
        graph = self._captured(enqueue)
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0))
        finally:
            # The executable graph doesn't need the captured one.
            self._call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Put the captured work on the stream."""
        self._call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free the graph."""
        if self._executable:
            # Its status doesn't matter: what the driver doesn't free now, it frees with the process.
            self._driver.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()

    def _captured(self, enqueue: Callable[[], None]) -> ctypes.c_void_p:
        # A stream whose capture doesn't end is unusable, so capturing ends on every path.
        graph = ctypes.c_void_p()
        # cuda.h maps the name without _v2 to this one by a macro, which ctypes doesn't see.
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(THREAD_LOCAL))
        try:
            enqueue()
        except Exception as error:  # a refused call inside a capture shows as any of three SDKs' errors
            self._driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
            raise GraphUnavailable(f"can't be captured: {error}") from None
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        return graph

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status != 0:
            raise GraphUnavailable(f"{name} failed with CUDA error {status}")
