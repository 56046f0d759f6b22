"""A TCP proxy on loopback that cuts, stalls and slows what passes through it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

BLOCK = 1 << 14
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER without a wait: closing sends a reset, as a router that restarted does."""


class Proxy:
    """Passes connections on to a port of loopback."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.bytes_per_s: float | None = None
        self.passed = 0
        """Bytes that passed since the last cut, both ways."""
        self.total = 0
        """Bytes that passed at all."""
        self.cut_after: int | None = None
        """Cut once so many bytes have passed; None: never."""
        self.cuts = 0
        self._flows = threading.Event()
        self._flows.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection; new ones pass."""
        pairs, self._pairs, self.passed, self.cut_after = self._pairs, [], 0, None
        self.cuts += bool(pairs)
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)
                with contextlib.suppress(OSError):
                    end.close()

    def stall(self, stalls: bool = True) -> None:
        """Keep connections open, but pass nothing."""
        self._flows.clear() if stalls else self._flows.set()

    def close(self) -> None:
        """End."""
        self._server.close()
        self.stall(False)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except ConnectionError:
                near.close()
                continue
            except OSError:
                return
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK):
                self._flows.wait()
                sink.sendall(block)
                self.passed += len(block)
                self.total += len(block)
                if self.cut_after is not None and self.passed >= self.cut_after:
                    self.cut()
                if self.bytes_per_s:
                    time.sleep(len(block) / self.bytes_per_s)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
