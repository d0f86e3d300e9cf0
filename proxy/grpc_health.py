"""One gRPC health check as HTTP/2 frames: bytes in, bytes out, and in the end a status (grpc.health.v1).

Asks for the health of the server as a whole (no service named) unless the check has another path; ALB calls
`/AWS.ALB/healthcheck` and takes 12, UNIMPLEMENTED, for a sign of life, which a path and a matcher do here too.
"""

from __future__ import annotations

from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

HEALTH_PATH = "/grpc.health.v1.Health/Check"
FRAME_HEAD = 9  # bytes (RFC 9113 section 4.1)
SETTINGS = 4  # the type of a server's first frame (section 3.4)
SERVING = 1  # of HealthCheckResponse.ServingStatus
MAX_MESSAGE = 4096  # bytes; a health answer has 7, and nobody is to fill our memory

_EMPTY_MESSAGE = b"\0" + bytes(4)  # not compressed, of length 0: a HealthCheckRequest that names no service


class BadAnswer(Exception):
    """What came is not an answer to a gRPC call; the text says why, in words."""


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """`serving` is what a health answer says, None where another path was called."""

    status: int
    serving: bool | None = None


class GrpcCall:
    """`opening()` is to be sent first, then what each `feed` returns, until there is an `answer`."""

    __slots__ = ("_beginning", "_connection", "_http_status", "_message", "_path", "_status", "answer")

    def __init__(self, authority: str, path: str, *, secure: bool) -> None:
        self.answer: GrpcAnswer | None = None
        self._path = path
        self._beginning: bytes | None = b""  # what came, until it is a frame's head
        self._http_status = b""
        self._status: bytes | None = None
        self._message = b""
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._connection.initiate_connection()
        self._connection.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "https" if secure else "http"),
                (":path", path),
                (":authority", authority),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("user-agent", "ELB-HealthChecker/2.0"),
            ],
        )
        self._connection.send_data(1, _EMPTY_MESSAGE, end_stream=True)

    def opening(self) -> bytes:
        return self._connection.data_to_send()

    def feed(self, data: bytes) -> bytes:
        """What is to be sent in turn (acknowledgements of settings and pings)."""
        if self._beginning is not None:
            data = self._beginning + data
            if len(data) < FRAME_HEAD:
                self._beginning = data
                return b""
            if data[3] != SETTINGS:  # h2 would wait for the rest of a frame that an HTTP/1.1 answer looks like
                raise BadAnswer("the answer is not HTTP/2")
            self._beginning = None
        try:
            events = self._connection.receive_data(data)
        except ProtocolError:
            raise BadAnswer("the answer is not HTTP/2") from None
        for event in events:
            match event:
                case ResponseReceived() | TrailersReceived():
                    self._fields([(bytes(name), bytes(value)) for name, value in event.headers or ()])
                case DataReceived():
                    self._message += event.data or b""
                    if len(self._message) > MAX_MESSAGE:
                        raise BadAnswer(f"the answer is longer than {MAX_MESSAGE} bytes")
                case StreamEnded():
                    self.answer = self._judge()
                case StreamReset():
                    raise BadAnswer("the target reset the stream")
                case ConnectionTerminated() if self.answer is None and event.error_code:
                    raise BadAnswer("the target said GOAWAY")
                case _:
                    pass
        return self._connection.data_to_send()

    def _fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        for name, value in fields:
            if name == b":status":
                self._http_status = value
            elif name == b"grpc-status":
                self._status = value

    def _judge(self) -> GrpcAnswer:
        if self._http_status != b"200":
            raise BadAnswer(f"the answer has the HTTP status {self._http_status.decode('latin-1')}")
        status = self._status or b""
        if not (1 <= len(status) <= 2 and status.isdigit()):  # bytes.isdigit is ASCII's
            raise BadAnswer("the answer has no grpc-status")
        if self._path != HEALTH_PATH or int(status):
            return GrpcAnswer(int(status))
        return GrpcAnswer(0, serving_status(self._message) == SERVING)


def serving_status(message: bytes) -> int:
    """The field 1 of a HealthCheckResponse, 0 (UNKNOWN) when it is left out; other fields are read over.

    A message of gRPC is a compression flag, four bytes of length, and protobuf. A server that was not offered a
    compression uses none.
    """
    if len(message) < 5 or message[0] != 0 or int.from_bytes(message[1:5]) != len(message) - 5:
        raise BadAnswer("the answer is not one gRPC message")
    body, at, status = message[5:], 0, 0
    while at < len(body):
        tag, at = _varint(body, at)
        match tag & 7:
            case 0:
                value, at = _varint(body, at)
                status = value if tag >> 3 == 1 else status
            case 1:
                at += 8
            case 2:
                length, at = _varint(body, at)
                at += length
            case 5:
                at += 4
            case _:
                raise BadAnswer("the answer is not protobuf")
    if at != len(body):
        raise BadAnswer("the answer is not protobuf")
    return status


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise BadAnswer("the answer is not protobuf")
