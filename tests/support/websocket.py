"""As much of RFC 6455 as a test needs: both handshakes, and frames of any size."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from asyncio import StreamReader
from dataclasses import dataclass

from .origin import Exchange

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION, FINAL = 0x0, 0x80

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + MAGIC).digest())


def frame(opcode: int, payload: bytes, *, masked: bool, final: bool = True) -> bytes:
    first = bytes([opcode | (FINAL if final else 0)])
    mask_bit = 0x80 if masked else 0
    match len(payload):
        case size if size < 126:
            length = bytes([mask_bit | size])
        case size if size < 1 << 16:
            length = bytes([mask_bit | 126]) + size.to_bytes(2)
        case size:
            length = bytes([mask_bit | 127]) + size.to_bytes(8)
    if not masked:
        return first + length + payload
    mask = os.urandom(4)
    return first + length + mask + unmask(payload, mask)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """The same in both directions."""
    stream = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(len(payload))


@dataclass(frozen=True, slots=True)
class Frame:
    opcode: int
    final: bool
    payload: bytes
    masked: bool


async def read_frame(reader: StreamReader) -> Frame:
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    mask = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(size)
    return Frame(first & 0x0F, bool(first & FINAL), unmask(payload, mask) if mask else payload, bool(mask))


async def echo_frames(exchange: Exchange) -> None:
    """An origin's reply: accept the upgrade, then send every frame back until one says close."""
    key = exchange.request.value(b"Sec-WebSocket-Key")
    assert key is not None
    exchange.writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
    )
    while True:
        got = await read_frame(exchange.reader)
        assert got.masked, "RFC 6455 5.1: what a client sends is masked"
        opcode = PONG if got.opcode == PING else got.opcode
        exchange.writer.write(frame(opcode, got.payload, masked=False, final=got.final))
        await exchange.writer.drain()
        if got.opcode == CLOSE:
            exchange.writer.close()
            return


class Client:
    """The client's side of one connection that is open already."""

    def __init__(self, connection: socket.socket, *, host: str, path: str = "/") -> None:
        self._connection = connection
        self._buffer = b""
        key = base64.b64encode(os.urandom(16))
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
            + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % key
        )
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head
        assert b"\r\nsec-websocket-accept: " + accept_key(key).lower() in self.head.lower()

    def send(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        self._connection.sendall(frame(opcode, payload, masked=True, final=final))

    def receive(self) -> Frame:
        first, second = self._take(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8))
        return Frame(first & 0x0F, bool(first & FINAL), self._take(size), masked=bool(second & 0x80))

    def ended(self) -> bool:
        return not self._buffer and self._connection.recv(1) == b""

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _more(self) -> None:
        data = self._connection.recv(65536)
        assert data, f"the connection ended after {self._buffer!r}"
        self._buffer += data
