"""HTTP/2 peers for tests: a client that sends what it is told, and an origin that answers what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Headers = list[tuple[bytes, bytes]]
GET: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"example.org"), (b":path", b"/")]


@dataclass
class Answer:
    headers: Headers = field(default_factory=list)
    interim: list[Headers] = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> bytes:
        return dict(self.headers).get(b":status", b"")


class Client:
    """`async with Client(port) as client: answer = await client.ask(GET)`. Nothing is validated on the way out."""

    def __init__(self, port: int, **tls: Any) -> None:
        self.port = port
        self.tls = tls  # for open_connection
        self.frames = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, **self.tls)
        self.frames.initiate_connection()
        self.flush()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def flush(self) -> None:
        self.writer.write(self.frames.data_to_send())

    def send(self, headers: Headers, body: Sequence[bytes] = (), *, end: bool = True) -> int:
        number = self.frames.get_next_available_stream_id()
        self.answers[number] = Answer()
        self.frames.send_headers(number, headers, end_stream=end and not body)
        for index, piece in enumerate(body):
            self.frames.send_data(number, piece, end_stream=end and index + 1 == len(body))
        self.flush()
        return number

    async def ask(self, headers: Headers, body: Sequence[bytes] = ()) -> Answer:
        number = self.send(headers, body)
        return await self.answer(number)

    async def answer(self, number: int) -> Answer:
        answer = self.answers[number]
        while not answer.ended and answer.reset is None and not self.closed:
            await self.receive()
        return answer

    async def receive(self) -> None:
        try:
            data = await self.reader.read(65536)
        except ConnectionResetError:  # closed while we were still sending
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.frames.receive_data(data):
            answer = self.answers.get(getattr(event, "stream_id", 0) or 0, Answer())
            match event:
                case h2.events.ResponseReceived():
                    answer.headers = list(event.headers or [])
                case h2.events.InformationalResponseReceived():
                    answer.interim.append(list(event.headers or []))
                case h2.events.DataReceived():
                    answer.body += event.data or b""
                    self.frames.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                case h2.events.TrailersReceived():
                    answer.trailers = list(event.headers or [])
                case h2.events.StreamEnded():
                    answer.ended = True
                case h2.events.StreamReset():
                    answer.reset = int(event.error_code or 0)
                case h2.events.ConnectionTerminated():
                    self.goaway = int(event.error_code or 0)
                case _:
                    pass
        self.flush()


@dataclass
class Request:
    headers: Headers
    body: bytes = b""
    connection: int = 0


Reply = Callable[[h2.connection.H2Connection, int, Request], None]


def reply(status: bytes = b"200", body: bytes = b"ok", trailers: Headers | None = None) -> Reply:
    def answer(frames: h2.connection.H2Connection, number: int, request: Request) -> None:
        frames.send_headers(number, [(b":status", status), (b"content-type", b"text/plain")], end_stream=False)
        frames.send_data(number, body, end_stream=trailers is None)
        if trailers is not None:
            frames.send_headers(number, trailers, end_stream=True)

    return answer


class Http2Origin:
    """Answers each request, once complete, with `answer`; `max_streams` is what it allows on one connection."""

    def __init__(self, answer: Reply | None = None, *, max_streams: int = 100) -> None:
        self._answer = answer or reply()
        self._max_streams = max_streams
        self.requests: list[Request] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = self.connections
        self.connections += 1
        frames = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        frames.local_settings.max_concurrent_streams = self._max_streams
        frames.initiate_connection()
        writer.write(frames.data_to_send())
        pending: dict[int, Request] = {}
        with suppress(OSError, asyncio.CancelledError, h2.exceptions.ProtocolError):
            while data := await reader.read(65536):
                for event in frames.receive_data(data):
                    match event:
                        case h2.events.RequestReceived():
                            pending[event.stream_id or 0] = Request(list(event.headers or []), connection=connection)
                        case h2.events.DataReceived():
                            pending[event.stream_id or 0].body += event.data or b""
                            frames.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                        case h2.events.StreamEnded():
                            request = pending.pop(event.stream_id or 0)
                            self.requests.append(request)
                            self._answer(frames, event.stream_id or 0, request)
                        case _:
                            pass
                writer.write(frames.data_to_send())
                await writer.drain()
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()


__all__ = ["GET", "Answer", "Client", "Http2Origin", "Reply", "Request", "reply"]
