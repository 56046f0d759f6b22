"""As much of an MQTT 3.1.1 broker as one publisher needs: CONNECT with will and password, PUBLISH, PING, DISCONNECT."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

_CONNECT, _PUBLISH, _PINGREQ, _DISCONNECT = 1, 3, 12, 14
_BAD_PASSWORD = 4


@dataclass(frozen=True)
class Message:
    """What was published."""

    topic: str
    payload: str
    is_retained: bool


@dataclass
class _Packet:
    """One packet, read field by field."""

    kind: int
    flags: int
    body: bytes

    def number(self) -> int:
        """The next two bytes."""
        value, self.body = int.from_bytes(self.body[:2], "big"), self.body[2:]
        return value

    def text(self) -> str:
        """The next text with its length in front."""
        length = self.number()
        value, self.body = self.body[:length].decode(), self.body[length:]
        return value


@dataclass
class Broker:
    """Listens on loopback and keeps what it gets."""

    port: int = 0
    password: str | None = None
    """Clients must give this one."""
    is_silent: bool = False
    """Accept connections and never answer."""
    messages: list[Message] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Broker:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._sockets.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._sockets:
            # Ends a read in another thread too, which close alone doesn't.
            if one.fileno() >= 0:
                _shut(one)
            one.close()

    def wait_for(self, topic: str, accepts: Callable[[str], bool] = bool, timeout_s: float = 10.0) -> Message:
        """The first message on a topic whose payload is accepted, past ones included.

        Raises:
            TimeoutError: there was none.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = next((m for m in self.messages if m.topic == topic and accepts(m.payload)), None)
                if found is not None:
                    return found
                if not self._changed.wait(end - time.monotonic()):
                    raise TimeoutError(f"{topic}: got {[m for m in self.messages if m.topic == topic]}")

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            self._sockets.append(connection)
            if not self.is_silent:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        will: Message | None = None
        try:
            while True:
                packet = _read(connection)
                if packet.kind == _CONNECT:
                    will = self._connect(connection, packet)
                elif packet.kind == _PUBLISH:
                    self._publish(connection, packet)
                elif packet.kind == _PINGREQ:
                    connection.sendall(b"\xd0\0")
                elif packet.kind == _DISCONNECT:
                    will = None
                    return
        except (OSError, EOFError):
            pass
        finally:
            connection.close()
            if will is not None:
                self._keep(will)

    def _connect(self, connection: socket.socket, packet: _Packet) -> Message | None:
        packet.text()
        flags, packet.body = packet.body[1], packet.body[4:]
        packet.text()
        will = Message(packet.text(), packet.text(), bool(flags & 32)) if flags & 4 else None
        given = [packet.text() for flag in (128, 64) if flags & flag]
        is_right = self.password is None or given[1:] == [self.password]
        connection.sendall(bytes((0x20, 2, 0, 0 if is_right else _BAD_PASSWORD)))
        return will if is_right else None

    def _publish(self, connection: socket.socket, packet: _Packet) -> None:
        topic = packet.text()
        if packet.flags & 6:
            connection.sendall(b"\x40\2" + packet.number().to_bytes(2, "big"))
        self._keep(Message(topic, packet.body.decode(), bool(packet.flags & 1)))

    def _keep(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _read(connection: socket.socket) -> _Packet:
    first = _exactly(connection, 1)[0]
    length = shift = 0
    while True:
        byte = _exactly(connection, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return _Packet(first >> 4, first & 15, _exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts
