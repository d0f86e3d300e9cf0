"""An HTTP origin that follows a script: the n-th request gets the n-th reply, and the last reply repeats.

It keeps what it received byte for byte, so a test can say what a proxy really sent, and its replies are bytes too, so
a test can send what no honest server would. It understands just enough framing to know where a request ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

MAX_HEAD = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived. `head` ends with the empty line; `body` is without its framing, `wire` with it."""

    head: bytes
    body: bytes
    wire: bytes
    connection: int  # counted from 0 in the order of accepting: two requests with one number shared a connection

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def method(self) -> bytes:
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header field, in order; names compare without case."""
        return [value for key, value in _fields(self.head) if key == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """The value of a field that stands at most once."""
        values = self.values(name)
        assert len(values) <= 1, f"{name!r} stands {len(values)} times in {self.head!r}"
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a reply that is a coroutine function gets: the request, and the connection to answer on."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Reply = bytes | Callable[[Exchange], Awaitable[None]]


def response(body: bytes = b"ok\n", *, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A plain answer with Content-Length."""
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def hang(exchange: Exchange) -> None:
    """Answer nothing until the other side gives up."""
    while await exchange.reader.read(65536):
        pass


async def reset(exchange: Exchange) -> None:
    """End the connection with RST instead of an answer."""
    sock = exchange.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.writer.transport.abort()


class Origin:
    """`async with Origin(response(b"one"), reset) as origin:` listens on `origin.port` and fills `origin.requests`.

    A connection whose reply was a coroutine stays open when it returns, unless the coroutine closed it.
    """

    __slots__ = ("_server", "_tasks", "address", "connections", "port", "requests", "script")

    def __init__(self, *script: Reply, address: str = "127.0.0.1", port: int = 0) -> None:
        self.script = script or (response(),)
        self.address = address
        self.port = port
        self.requests: list[Request] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.address, self.port, limit=MAX_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        number = self.connections
        self.connections += 1
        # Cancelled when the test ends, and a peer that leaves early is part of many scripts.
        with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                request = await _read_request(reader, number)
                reply = self.script[min(len(self.requests), len(self.script) - 1)]
                self.requests.append(request)
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(Exchange(request, reader, writer))
        writer.close()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await writer.wait_closed()


@contextlib.contextmanager
def serving(*origins: Origin) -> Iterator[None]:
    """The same origins on a loop in a thread of their own, for a test that drives real programs and so blocks."""
    ready = threading.Event()
    failure: list[BaseException] = []
    loop = asyncio.new_event_loop()
    finish = asyncio.Event()

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for origin in origins:
                await stack.enter_async_context(origin)
            ready.set()
            await finish.wait()

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())
        except BaseException as exc:  # noqa: BLE001 - handed to the test's own thread below
            failure.append(exc)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="scripted origins")
    thread.start()
    ready.wait()
    try:
        if not failure:
            yield
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish.set)
        thread.join()
    if failure:
        raise failure[0]


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(_fields(head))
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        body, framed = await _read_chunked(reader)
    else:
        body = framed = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return Request(head, body, head + framed, connection)


async def _read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    body, framed = [], []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        chunk = await reader.readexactly(size + 2) if size else b""
        framed += [line, chunk]
        body.append(chunk[:-2])
        if size == 0:
            break
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        framed.append(line)  # trailers
    return b"".join(body), b"".join([*framed, line])
