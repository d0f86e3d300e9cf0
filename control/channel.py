"""What the supervisor and a worker say to each other, and the line that they say it on.

The line is a socket pair that the worker inherits. Messages are pickles after four octets of length: both ends are the
same program in the same version (the worker's first word is its version), nobody else holds the descriptors, and the
specs are frozen dataclasses that need no second description of themselves. End of file means that the other has died.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..dns.registrations import Entries, Key
from ..dns.specs import InstanceSpec
from ..proxy.health import CheckKey, TargetHealth
from .config.settings import Settings

_LENGTH = struct.Struct("!I")

# Octets. A message beyond is unpickled on a thread: settings of ten thousand rules take 50 ms, and traffic does not
# wait for them.
LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker's first word."""

    version: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Answered by None, or by a sentence that says what is in the way. `health` is the whole table, `addresses` what
    targets' names resolve to, `sockets` which listeners' sockets were handed over before this (descriptors.py),
    `registered` what is in DNS beside the settings."""

    settings: Settings
    health: Mapping[CheckKey, TargetHealth]
    addresses: Mapping[str, tuple[str, ...]]
    ticket_key: bytes = field(repr=False)
    sockets: tuple[str, ...] = ()
    registered: Entries = field(default_factory=Entries)


@dataclass(frozen=True, slots=True)
class Commit:
    """What was prepared; answered by None when it is so."""


@dataclass(frozen=True, slots=True)
class Abort:
    """What was prepared is not wanted. Not answered."""


@dataclass(frozen=True, slots=True)
class Health:
    """Records that flipped, or all of them if `whole`. Not answered."""

    records: Mapping[CheckKey, TargetHealth]
    whole: bool


@dataclass(frozen=True, slots=True)
class Addresses:
    """What targets' names resolve to from now on, and the health of all that is checked then. Not answered."""

    addresses: Mapping[str, tuple[str, ...]]
    health: Mapping[CheckKey, TargetHealth]


@dataclass(frozen=True, slots=True)
class Registered:
    """An instance that DNS has from now on beside its settings, or None: has no more. Not answered."""

    key: Key
    instance: InstanceSpec | None


@dataclass(frozen=True, slots=True)
class TicketKey:
    """TLS session tickets are sealed with this from now on. Not answered."""

    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Count:
    """Answered by a Snapshot."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Answered by the report on a recent request, or by None where this worker knows of no such request."""

    request_id: bytes


@dataclass(frozen=True, slots=True)
class ReopenAccessLog:
    """Not answered."""


@dataclass(frozen=True, slots=True)
class WindDown:
    """Go on serving, but tell clients that their connections end. Not answered."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain and end. The last message is then a Snapshot."""

    grace: float


Order = (
    Prepare
    | Commit
    | Abort
    | Health
    | Addresses
    | Registered
    | TicketKey
    | Count
    | Explain
    | ReopenAccessLog
    | WindDown
    | Stop
)


def encode(number: int, message: object) -> bytes:
    """`number` is chosen by who asks and comes back with the answer; 0 is for what is no answer and wants none."""
    body = pickle.dumps((number, message), pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Channel:
    """One end of the line."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """The socket belongs to the channel from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, number: int, message: object) -> None:
        self.send_encoded(encode(number, message))

    def send_encoded(self, frame: bytes) -> None:
        """Never waits. What a dead one is told is lost; that it died is seen by `receive`."""
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def flush(self) -> None:
        with suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> tuple[int, Any] | None:
        """Number and message, or None when the other end is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if length > LARGE:
            return await asyncio.to_thread(pickle.loads, body)
        return pickle.loads(body)

    def close(self) -> None:
        self._writer.close()
