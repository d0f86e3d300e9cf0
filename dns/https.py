"""DNS over HTTPS on a connection: HTTP/2, or HTTP/1.1 by aiohttp for clients that speak no other.

It is a listener of the DNS plane with the proxy's certificates and policies, for its answers are made here, in the turn
of the loop in which the question is complete.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from .aiohttp_log import keep_clients_mistakes_out
from .doh import MEDIA_TYPE, MESSAGE_LIMIT, max_age, message_of
from .responder import LATER
from .tcp import Stream
from .wire import Question, read_query

if TYPE_CHECKING:
    from .tcp import Connections

STREAMS = 100  # at once; what RFC 9113 section 6.5.2 recommends as least
RESETS = 200  # streams that a client may begin and take back on one connection (CVE-2023-44487)

Headers = list[tuple[bytes, bytes]]


class HttpsStream(Stream):
    """Which of the two it is shows when the handshake is over."""

    __slots__ = ("_inner", "_path", "_pending")

    def __init__(self, connections: Connections, client: str, *, path: bytes) -> None:
        super().__init__(connections, client)
        self._path = path
        self._pending = 0
        self._inner: asyncio.Protocol | None = None

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._open:
            return
        spoken = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if spoken == "h2":
            self._inner = _Http2(self)
        else:
            # aiohttp's timeouts do not matter: the connection's deadline is nearer.
            keep_clients_mistakes_out()
            server = web.Server(self._answer_http1, access_log=None)
            self._inner = cast("asyncio.Protocol", server())
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return False

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._inner is not None:
            self._inner.connection_lost(exc)
            self._inner = None
        super().connection_lost(exc)

    def answer(self, method: bytes, target: bytes, content_type: bytes, body: bytes) -> asyncio.Future[Answer]:
        """What is answered to one request, when it is known."""
        answered: asyncio.Future[Answer] = self._connections.loop.create_future()
        message = message_of(method, target, content_type, body, self._path)
        if isinstance(message, int):
            answered.set_result(Answer(message))
            return answered
        self._alive()
        self._pending += 1

        def deliver(reply: bytes) -> None:
            self._pending -= 1
            if not answered.done():
                question = read_query(message)
                answered.set_result(
                    Answer(200, reply, max_age(reply, question if isinstance(question, Question) else None))
                )

        reply = self._connections.respond(message, self.client, "https", deliver)
        if isinstance(reply, bytes):
            deliver(reply)
        elif reply is not LATER:  # what DNS is silent about is no question
            self._pending -= 1
            answered.set_result(Answer(400))
        return answered

    async def _answer_http1(self, request: web.BaseRequest) -> web.StreamResponse:
        body = b""
        if request.method == "POST":
            try:
                body = await request.content.read(MESSAGE_LIMIT + 1)
                while len(body) <= MESSAGE_LIMIT and not request.content.at_eof():
                    body += await request.content.read(MESSAGE_LIMIT + 1)
            except (ConnectionError, PayloadEncodingError):  # the client has left, or its chunks are none
                return web.Response(status=400)
        content_type = request.headers.get("Content-Type", "").encode("latin-1", "replace")
        answer = await self.answer(
            request.method.encode("ascii", "replace"), request.raw_path.encode("utf-8", "replace"), content_type, body
        )
        headers = {name.decode(): value.decode() for name, value in answer.fields() if name != b"content-length"}
        return web.Response(status=answer.status, headers=headers, body=answer.body)


class Answer:
    __slots__ = ("body", "max_age", "status")

    def __init__(self, status: int, body: bytes = b"", max_age: int = 0) -> None:
        self.status = status
        self.body = body
        self.max_age = max_age

    def fields(self) -> Headers:
        found = [(b"content-length", b"%d" % len(self.body))]
        if self.status == 200:
            found += [(b"content-type", MEDIA_TYPE), (b"cache-control", b"max-age=%d" % self.max_age)]
        elif self.status == 405:
            found.append((b"allow", b"GET, HEAD, POST"))
        return found


class _Request:
    __slots__ = ("body", "headers")

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.headers = headers
        self.body = bytearray()


class _Http2(asyncio.Protocol):
    """Answers wait for the client's window where they are longer than that."""

    def __init__(self, stream: HttpsStream) -> None:
        self._stream = stream
        self._transport: asyncio.Transport | None = None
        self._connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._requests: dict[int, _Request] = {}
        self._waiting: dict[int, bytes] = {}  # what is left of answers
        self._resets = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS})
        self._connection.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._requests.clear()
        self._waiting.clear()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._connection.receive_data(data):
                self._handle(event)
        except ProtocolError:
            self._flush()  # with the GOAWAY that h2 has made
            self._stream.close()
            return
        self._flush()

    def _handle(self, event: object) -> None:
        match event:
            case RequestReceived(stream_id=number, headers=headers):
                self._requests[number] = _Request(dict(cast("Headers", headers)))
            case DataReceived(stream_id=number, data=data, flow_controlled_length=length):
                self._connection.acknowledge_received_data(length, number)
                request = self._requests.get(number)
                if request is not None and len(request.body) <= MESSAGE_LIMIT:
                    request.body += data
            case StreamEnded(stream_id=number):
                self._complete(number)
            case StreamReset(stream_id=number):
                self._requests.pop(number, None)
                self._waiting.pop(number, None)
                self._resets += 1
                if self._resets > RESETS:
                    self._connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                    self._flush()
                    self._stream.close()
            case WindowUpdated():
                for number in list(self._waiting):
                    self._send_body(number)
            case _:
                pass

    def _complete(self, number: int) -> None:
        request = self._requests.get(number)
        if request is None:
            return
        headers = request.headers
        method = headers.get(b":method", b"")
        answered = self._stream.answer(
            method, headers.get(b":path", b""), headers.get(b"content-type", b""), bytes(request.body)
        )
        if answered.done():
            self._respond(number, method, answered)
        else:
            answered.add_done_callback(partial(self._respond_later, number, method))

    def _respond_later(self, number: int, method: bytes, answered: asyncio.Future[Answer]) -> None:
        if self._transport is not None:
            self._respond(number, method, answered)
            self._flush()

    def _respond(self, number: int, method: bytes, answered: asyncio.Future[Answer]) -> None:
        if self._requests.pop(number, None) is None:  # reset meanwhile
            return
        answer = answered.result()
        fields = [(b":status", b"%d" % answer.status), *answer.fields()]
        body = b"" if method == b"HEAD" else answer.body
        try:
            self._connection.send_headers(number, fields, end_stream=not body)
            if body:
                self._waiting[number] = body
                self._send_body(number)
        except ProtocolError:  # the connection was ended meanwhile
            self._waiting.pop(number, None)

    def _send_body(self, number: int) -> None:
        left = self._waiting[number]
        while left:
            room = min(self._connection.local_flow_control_window(number), self._connection.max_outbound_frame_size)
            if room <= 0:
                self._waiting[number] = left
                return
            data, left = left[:room], left[room:]
            self._connection.send_data(number, data, end_stream=not left)
        del self._waiting[number]

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
