"""Many datagrams in one system call, and their answers in another: recvmmsg(2) and sendmmsg(2), by way of ctypes.

The structures are made once and serve both ways. The kernel fills a slot with what came, from whom, and to which of our
addresses; the answer is written over the question, behind the id that both have, and leaves by the same slot.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any, Protocol, cast

SLOTS = 64  # datagrams before the loop gets its turn back: 0.4 ms at most, so TCP and timers are not starved
SLOT_SIZE = 4096  # octets; no query is longer, no answer over UDP either (1232). What is cut off is malformed then

# A cache line more than a power of two, lest all slots want the same lines of the first-level cache.
_STRIDE = SLOT_SIZE + 64
_NAME_SIZE = 32  # for a sockaddr_in (16) or a sockaddr_in6 (28)
_CONTROL_SIZE = 64  # for one in_pktinfo (28 with its header) or in6_pktinfo (36)
# struct mmsghdr and struct iovec as 64-bit Linux has them. The first: name, its size, vectors, their number, control
# data, their size, flags, and octets received.
_HEADER = Struct("@PI4xPLPLi4xI4x")
_VECTOR = Struct("@PL")
_LENGTH_AT = 56
_CONTROL_SIZE_AT = 40
_CONTROL_HEADER = Struct("@Lii")  # struct cmsghdr: size with itself, level, type

Functions = tuple[Callable[..., int], Callable[..., int]]
Address = tuple[Any, ...]
Ancillary = list[tuple[int, int, bytes]]


class Octets(Protocol):
    def __getitem__(self, index: slice, /) -> bytes: ...


def _functions() -> Functions | None:
    """None where there are no such calls, or where their structures may look different."""
    if sys.platform != "linux" or (_HEADER.size, _VECTOR.size) != (64, 16):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    try:
        receive, send = library.recvmmsg, library.sendmmsg
    except AttributeError:
        return None
    receive.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
    send.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    return receive, send


_FUNCTIONS = _functions()


class Burst:
    """The slots of one socket. Slot n is `memory[places[n]:]`, and its sender's address is `senders[hosts[n]]`.

    Slices of `received` and `senders` are bytes. Answers are written to `memory`, and their sizes to `sizes`.
    """

    __slots__ = (
        "_control_sizes",
        "_controls",
        "_headers_at",
        "_lengths",
        "_receive",
        "_send",
        "_sock",
        "_table",
        "_template",
        "hosts",
        "memory",
        "places",
        "received",
        "senders",
        "sizes",
    )

    def __init__(self, sock: socket.socket, functions: Functions) -> None:
        self._sock = sock
        self._receive, self._send = functions
        vectors = SLOTS * _HEADER.size  # where they begin in the table
        memory, names, controls, table = (
            bytearray(SLOTS * size) for size in (_STRIDE, _NAME_SIZE, _CONTROL_SIZE, _HEADER.size + _VECTOR.size)
        )
        self.received, self.senders, self._controls = map(_array, (memory, names, controls))
        memory_at, names_at, controls_at = map(_address, (self.received, self.senders, self._controls))
        self._headers_at = _address(_array(table))
        for slot in range(SLOTS):
            vector = vectors + slot * _VECTOR.size
            _VECTOR.pack_into(table, vector, memory_at + slot * _STRIDE, SLOT_SIZE)
            _HEADER.pack_into(
                table,
                slot * _HEADER.size,
                names_at + slot * _NAME_SIZE,
                _NAME_SIZE,
                self._headers_at + vector,
                1,
                controls_at + slot * _CONTROL_SIZE,
                _CONTROL_SIZE,
                0,
                0,
            )
        self._template = bytes(table)
        self._table = memoryview(table)
        numbers = self._table.cast("L")
        self._control_sizes = numbers[_CONTROL_SIZE_AT // 8 : vectors // 8 : _HEADER.size // 8]
        self.sizes = numbers[vectors // 8 + 1 :: _VECTOR.size // 8]
        self._lengths = self._table[:vectors].cast("I")[_LENGTH_AT // 4 :: _HEADER.size // 4]
        self.memory = memoryview(memory)
        self.places = range(0, SLOTS * _STRIDE, _STRIDE)
        begin, end = (8, 24) if sock.family == socket.AF_INET6 else (4, 8)  # of the address within a sockaddr
        self.hosts = [slice(at + begin, at + end) for at in range(0, SLOTS * _NAME_SIZE, _NAME_SIZE)]

    def receive(self) -> list[int]:
        """The lengths of what has come, slot by slot. What came before is gone."""
        self._table[:] = self._template  # what the kernel and `sizes` have written there
        count = self._receive(self._sock.fileno(), self._headers_at, SLOTS, socket.MSG_DONTWAIT, None)
        return self._lengths[:count].tolist() if count > 0 else []

    def send(self, first: int, end: int) -> str | None:
        """Sends the answers of these slots. Returns the name of the last error; who is meant by it asks again."""
        failed = None
        while first < end:
            sent = self._send(
                self._sock.fileno(), self._headers_at + first * _HEADER.size, end - first, socket.MSG_DONTWAIT
            )
            if sent > 0:
                first += sent
            else:
                failed = errno.errorcode.get(ctypes.get_errno(), "other")
                first += 1
        return failed

    def client(self, slot: int) -> Address:
        """Who sent that, as Python's own sockets tell it."""
        at = slot * _NAME_SIZE
        port = int.from_bytes(self.senders[at + 2 : at + 4])
        host = self.senders[self.hosts[slot]]
        if len(host) == 4:
            return socket.inet_ntop(socket.AF_INET, host), port
        flow = int.from_bytes(self.senders[at + 4 : at + 8])
        scope = int.from_bytes(self.senders[at + 24 : at + 28], sys.byteorder)
        return socket.inet_ntop(socket.AF_INET6, host), port, flow, scope

    def ancillary(self, slot: int) -> Ancillary:
        """What the kernel said about its destination, where it was asked to."""
        if not self._control_sizes[slot]:
            return []
        at = slot * _CONTROL_SIZE
        size, level, kind = _CONTROL_HEADER.unpack(self._controls[at : at + _CONTROL_HEADER.size])
        return [(level, kind, self._controls[at + _CONTROL_HEADER.size : at + size])]


def _array(buffer: bytearray) -> Octets:
    """A view of it that has an address, and whose slices are bytes."""
    return cast("Octets", (ctypes.c_char * len(buffer)).from_buffer(buffer))


def _address(octets: Octets) -> int:
    return ctypes.addressof(cast("ctypes.Array[ctypes.c_char]", octets))


def burst(sock: socket.socket) -> Burst | None:
    """None where datagrams come one by one."""
    return Burst(sock, _FUNCTIONS) if _FUNCTIONS is not None else None
