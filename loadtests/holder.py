"""Holds many client connections open, from several addresses of loopback, and tells which of them were closed.

One after the other and blocking: who holds ten thousand idle connections is in no hurry.
"""

from __future__ import annotations

import resource
import socket
from typing import Self

from servers import BenchError

# Of the descriptors a process may have, those that are for all else: listeners, logs, libraries, health checks.
SPARE_DESCRIPTORS = 200
# Connections from one address: well below the ports there are for each, some of which linger from earlier rows.
PER_SOURCE = 2000
# Longer than any answer takes by far, so that a hang ends.
ANSWER_SECONDS = 10

PLAIN = b"GET / HTTP/1.1\r\nHost: app.example.org\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: app.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAME = b"\x82\x81\x01\x02\x03\x04x"  # binary, one byte, masked


def affordable(wanted: int, descriptors_each: int) -> int:
    """How many connections of `wanted` the limit of open files lets a process hold. It is raised as far as it goes.
    From nine tenths of it on Penstock turns clients away."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, (hard * 9 // 10 - SPARE_DESCRIPTORS) // descriptors_each)


class Holder:
    """Closes what it holds at the end of its block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._sockets:
            held.close()
        self._sockets.clear()

    def __len__(self) -> int:
        return len(self._sockets)

    def hold(self, count: int, request: bytes) -> None:
        """`count` more connections, each after one `request` that was answered."""
        for _ in range(count):
            source = f"127.0.2.{len(self._sockets) // PER_SOURCE + 1}"
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._sockets.append(sock)
            sock.settimeout(ANSWER_SECONDS)
            try:
                sock.bind((source, 0))
                sock.connect(("127.0.0.1", self._port))
                sock.sendall(request)
                _read_answer(sock)
            except OSError as exc:
                raise BenchError(f"connection {len(self._sockets)} of those to be held: {exc}") from None

    def closed(self) -> int:
        """How many the other side has closed or reset. What was sent besides would be a surprise, and counts too."""
        count = 0
        for held in self._sockets:
            try:
                held.settimeout(0)  # MSG_DONTWAIT would not do: Python waits for a socket that has a timeout
                held.recv(1)
            except BlockingIOError:
                continue
            except OSError:
                pass
            count += 1
        return count

    def echoed(self) -> int:
        """On how many WebSockets a frame went there and came back."""
        count = 0
        for held in self._sockets:
            try:
                held.settimeout(ANSWER_SECONDS)
                held.sendall(FRAME)
                count += held.recv(len(FRAME), socket.MSG_WAITALL) == FRAME
            except OSError:
                continue
        return count


def _read_answer(sock: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := sock.recv(4096)):
            raise BenchError("closed before it answered")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.lower().split(b"\r\n")
    if status.split()[1] not in (b"200", b"101"):
        raise BenchError(f"answered {status.decode('latin-1')}")
    lengths = [int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")]
    missing = sum(lengths) - len(body)
    if missing > 0 and len(sock.recv(missing, socket.MSG_WAITALL)) < missing:
        raise BenchError("closed in the middle of its answer")
