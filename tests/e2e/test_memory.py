"""Back-pressure: however fast one side sends and however slowly the other reads, the process between them stays small.

What is in flight is in the kernel's socket buffers, whose limits are the kernel's; what Penstock holds is its own few
buffers of 64 KiB. Each test is slow for a moment, which is when a proxy without back-pressure grows, and then goes on
as fast as it can to the last byte.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import pytest

from support import PenstockProcess, free_port

MIB = 1 << 20
ALLOWED_GROWTH = 6 * MIB  # a few buffers, and what an allocator keeps; nothing that follows the size of the body
IN_KERNEL = 24 * MIB  # more than tcp_wmem and tcp_rmem allow two connections together

SLOW_READS = 60
SLOW_READ = 64 * 1024
SLOW_PAUSE = 0.005

# The issue's own number for the plain upload; a quarter, and for TLS less, shows the same for the others in less time.
SIZES = {"HTTP": 1024 * MIB, "HTTPS": 128 * MIB, "TCP": 256 * MIB, "TLS": 128 * MIB}

PATTERN = bytes(range(256)) * (MIB // 256)


@dataclass
class Site:
    penstock: PenstockProcess
    ports: dict[str, int]
    origin: socket.socket

    @contextmanager
    def connected(self, protocol: str) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.ports[protocol]), timeout=20) as plain:
            if protocol not in ("HTTPS", "TLS"):
                yield plain
                return
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) as secure:
                yield secure

    @contextmanager
    def accepted(self) -> Iterator[socket.socket]:
        connection, _ = self.origin.accept()
        connection.settimeout(20)
        with closing(connection):
            yield connection


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports = {protocol: free_port() for protocol in SIZES}
    admin = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as origin:
        origin.settimeout(20)
        target = f"targets: [{{ip: 127.0.0.1, port: {origin.getsockname()[1]}}}]"
        file = tmp_path_factory.mktemp("memory") / "penstock.yaml"
        file.write_text(f"""\
certificates: [{{name: dev, self_signed: [localhost]}}]
load_balancers:
  - name: application
    listeners:
      - {{port: {ports["HTTP"]}, address: 127.0.0.1, protocol: HTTP}}
      - {{port: {ports["HTTPS"]}, address: 127.0.0.1, protocol: HTTPS, certificate: dev}}
    target_groups: [{{name: tg-http, {target}}}]
  - name: network
    type: network
    listeners:
      - {{port: {ports["TCP"]}, address: 127.0.0.1, protocol: TCP}}
      - {{port: {ports["TLS"]}, address: 127.0.0.1, protocol: TLS, certificate: dev}}
    target_groups: [{{name: tg-tcp, {target}}}]
admin: {{listen: "{admin}"}}
""")
        with PenstockProcess(file, admin=admin) as penstock:
            yield Site(penstock, ports, origin)


class Sender(threading.Thread):
    """`with Sender(connection, size):` sends as fast as it is taken; if the block fails, it gives up."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        super().__init__(name="sender")
        self._connection = connection
        self._size = size
        self.sent = 0

    def run(self) -> None:
        with suppress(OSError):  # the reader sees what is missing
            while self.sent < self._size:
                self._connection.sendall(PATTERN)
                self.sent += len(PATTERN)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self.join()


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        assert more, "the connection ended before a head was complete"
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def read_slowly_then_all(
    connection: socket.socket, first: bytes, size: int, memory: Callable[[], int], sender: Sender
) -> int:
    """Read `size` bytes and compare them with what was sent; the most memory that was seen meanwhile."""
    buffer = memoryview(bytearray(MIB))
    position = 0
    peak = memory()

    def take(data: bytes | memoryview) -> None:
        nonlocal position
        offset = position % MIB
        whole = memoryview(PATTERN)[offset : offset + len(data)]
        assert data[: len(whole)] == whole, f"bytes were changed near {position}"
        assert data[len(whole) :] == PATTERN[: len(data) - len(whole)], f"bytes were changed near {position}"
        position += len(data)

    take(first)
    for _ in range(SLOW_READS):
        take(buffer[: connection.recv_into(buffer, SLOW_READ)])
        peak = max(peak, memory())
        time.sleep(SLOW_PAUSE)
    assert sender.sent < size, "the sender should be held back"
    assert sender.sent - position <= IN_KERNEL, "the sender was not held back"
    while position < size:
        before = position // (16 * MIB)
        count = connection.recv_into(buffer)
        assert count, f"the connection ended after {position} of {size} bytes"
        take(buffer[:count])
        if position // (16 * MIB) != before:
            peak = max(peak, memory())
    return peak


@pytest.mark.parametrize("protocol", SIZES)
def test_an_upload_to_a_slow_origin(site: Site, protocol: str) -> None:
    size, memory = SIZES[protocol], site.penstock.memory
    with site.connected(protocol) as client:
        client.sendall(b"PUT /upload HTTP/1.1\r\nHost: example.org\r\nContent-Length: %d\r\n\r\n" % size)
        with site.accepted() as origin:
            head, first = read_head(origin)
            assert head.startswith(b"PUT /upload HTTP/1.1\r\n")
            before = memory()
            with Sender(client, size) as sender:
                peak = read_slowly_then_all(origin, first, size, memory, sender)
            origin.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        assert read_head(client)[0].startswith(b"HTTP/1.1 204 ")
    assert peak - before < ALLOWED_GROWTH


@pytest.mark.parametrize("protocol", SIZES)
def test_a_download_by_a_slow_client(site: Site, protocol: str) -> None:
    size, memory = SIZES[protocol] // 8, site.penstock.memory
    with site.connected(protocol) as client:
        client.sendall(b"GET /download HTTP/1.1\r\nHost: example.org\r\n\r\n")
        with site.accepted() as origin:
            read_head(origin)
            before = memory()
            origin.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size)
            with Sender(origin, size) as sender:
                _, first = read_head(client)
                peak = read_slowly_then_all(client, first, size, memory, sender)
    assert peak - before < ALLOWED_GROWTH
