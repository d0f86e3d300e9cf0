"""The gRPC health check against h2's own server side: what is asked, and what each answer means."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from hypothesis import given
from hypothesis import strategies as st

from penstock.proxy.checks import Checker
from penstock.proxy.grpc_health import HEALTH_PATH, BadAnswer, GrpcAnswer, GrpcCall, serving_status
from penstock.proxy.health import CheckKey, HealthTable
from penstock.proxy.specs import CheckProtocol, HealthCheckSpec
from penstock.proxy.tls import server_context
from support import run
from support.certificates import issue

Fields = list[tuple[str, str]]

OK: Fields = [(":status", "200"), ("content-type", "application/grpc")]
SERVING = b"\0\0\0\0\2\x08\1"
NOT_SERVING = b"\0\0\0\0\2\x08\2"


class Server:
    """One answer, given when the request is complete."""

    def __init__(self, head: Fields, message: bytes = b"", trailers: Fields | None = None) -> None:
        self.connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.answer = head, message, trailers
        self.request: list[tuple[str, str]] = []
        self.body = b""

    def feed(self, data: bytes) -> bytes:
        for event in self.connection.receive_data(data):
            if isinstance(event, RequestReceived):
                self.request = [(str(name), str(value)) for name, value in event.headers or ()]
            elif isinstance(event, DataReceived):
                self.body += event.data or b""
            elif isinstance(event, StreamEnded):
                head, message, trailers = self.answer
                self.connection.send_headers(1, head, end_stream=not message and trailers is None)
                if message:
                    self.connection.send_data(1, message, end_stream=trailers is None)
                if trailers is not None:
                    self.connection.send_headers(1, trailers, end_stream=True)
        return self.connection.data_to_send()


def ask(server: Server, path: str = HEALTH_PATH, step: int = 65536) -> GrpcAnswer | None:
    """To and fro until nobody has anything to say, `step` bytes at a time."""
    call = GrpcCall("192.0.2.1:50051", path, secure=False)
    to_server = call.opening()
    while to_server:
        to_client, to_server = server.feed(to_server), b""
        for at in range(0, len(to_client), step):
            to_server += call.feed(to_client[at : at + step])
    return call.answer


def test_what_is_asked() -> None:
    server = Server(OK, SERVING, [("grpc-status", "0")])
    ask(server)
    assert server.request == [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", "192.0.2.1:50051"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "ELB-HealthChecker/2.0"),
    ]
    assert server.body == b"\0\0\0\0\0"


@pytest.mark.parametrize("step", [1, 7, 65536])
@pytest.mark.parametrize(
    ("head", "message", "trailers", "answer"),
    [
        (OK, SERVING, [("grpc-status", "0")], GrpcAnswer(0, True)),
        (OK, NOT_SERVING, [("grpc-status", "0")], GrpcAnswer(0, False)),
        (OK, bytes(5), [("grpc-status", "0")], GrpcAnswer(0, False)),  # UNKNOWN is left out on the wire
        ([*OK, ("grpc-status", "12")], b"", None, GrpcAnswer(12)),  # trailers alone, as servers without the service do
        (OK, b"", [("grpc-status", "5"), ("grpc-message", "unknown")], GrpcAnswer(5)),
    ],
)
def test_answers(head: Fields, message: bytes, trailers: Fields | None, answer: GrpcAnswer, step: int) -> None:
    assert ask(Server(head, message, trailers), step=step) == answer


def test_another_method_is_judged_by_its_status_alone() -> None:
    assert ask(Server(OK, b"whatever", [("grpc-status", "0")]), "/AWS.ALB/healthcheck") == GrpcAnswer(0)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Server([(":status", "503"), ("grpc-status", "0")]), "the HTTP status 503"),
        (Server(OK, SERVING), "no grpc-status"),
        (Server(OK, SERVING, [("grpc-status", "-1")]), "no grpc-status"),
        (Server(OK, SERVING, [("grpc-status", "100")]), "no grpc-status"),
        (Server(OK, SERVING[:-1], [("grpc-status", "0")]), "not one gRPC message"),
        (Server(OK, b"\1" + SERVING[1:], [("grpc-status", "0")]), "not one gRPC message"),
        (Server(OK, b"x" * 5000, [("grpc-status", "0")]), "longer than 4096"),
    ],
)
def test_answers_that_are_none(server: Server, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        ask(server)


def test_http1_is_not_http2() -> None:
    call = GrpcCall("a", "/", secure=False)
    with pytest.raises(BadAnswer, match="not HTTP/2"):
        call.feed(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4) + body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 0),
        (b"\x08\1", 1),
        (b"\x08\x81\0", 1),  # a varint may be longer than it need be
        (b"\x08\2\x08\1", 1),  # the last one counts
        (b"\x12\3abc\x08\1", 1),  # fields of a later version
        (b"\x15abcd\x19abcdefgh\x08\1", 1),
    ],
)
def test_health_messages(body: bytes, status: int) -> None:
    assert serving_status(message(body)) == status


@pytest.mark.parametrize("body", [b"\x08", b"\x08\x80", b"\x12\x09abc", b"\x0b", b"\x08" + b"\x80" * 12, b"\x15ab"])
def test_health_messages_that_are_none(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        serving_status(message(body))


class Table(HealthTable):
    def __init__(self) -> None:
        super().__init__()
        self.reports: asyncio.Queue[tuple[bool, str, str]] = asyncio.Queue()

    def observe(self, key: CheckKey, ok: bool, reason: str, description: str, now: float) -> bool:
        self.reports.put_nowait((ok, reason, description))
        return super().observe(key, ok, reason, description, now)


def check(
    server: Server, *, protocol: CheckProtocol = "GRPC", matcher: Sequence[tuple[int, int]] = ((0, 0),)
) -> tuple[bool, str, str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(server.feed(data))
        writer.close()

    async def main() -> tuple[bool, str, str]:
        context = server_context([issue("localhost")], "TLS-1-3") if protocol == "GRPCS" else None
        if context is not None:
            context.set_alpn_protocols(["h2"])
        listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        table = Table()
        probes = Checker(table, connect_allowed=lambda _: None, rng=random.Random(1))
        spec = HealthCheckSpec(protocol=protocol, path=HEALTH_PATH, matcher=tuple(matcher))
        probes.apply([CheckKey("127.0.0.1", port, spec)])
        try:
            return await table.reports.get()
        finally:
            await probes.stop()
            listening.close()
            await listening.wait_closed()

    return run(main())


def test_the_checker_asks_over_a_socket() -> None:
    assert check(Server(OK, SERVING, [("grpc-status", "0")])) == (True, "", "")
    assert check(Server(OK, SERVING, [("grpc-status", "0")]), protocol="GRPCS") == (True, "", "")
    assert check(Server([*OK, ("grpc-status", "12")]), matcher=[(0, 0), (12, 12)]) == (True, "", "")


def test_the_checker_says_what_is_wrong() -> None:
    assert check(Server([*OK, ("grpc-status", "14")])) == (
        False,
        "Target.ResponseCodeMismatch",
        "Health checks failed with these codes: [14]",
    )
    assert check(Server(OK, NOT_SERVING, [("grpc-status", "0")])) == (
        False,
        "Target.FailedHealthChecks",
        "Health checks failed: the target says that it does not serve.",
    )
    assert check(Server(OK, SERVING)) == (
        False,
        "Target.FailedHealthChecks",
        "Health checks failed: the answer has no grpc-status.",
    )


@given(st.lists(st.binary(min_size=1, max_size=64), max_size=8))
def test_whatever_a_server_says_is_an_answer_or_none(pieces: list[bytes]) -> None:
    call = GrpcCall("192.0.2.1:50051", HEALTH_PATH, secure=False)
    try:
        call.feed(b"\0\0\0\4\0\0\0\0\0")  # empty settings, so that what follows is looked at as frames
        for piece in pieces:
            call.feed(piece)
    except BadAnswer as bad:
        assert str(bad)


@given(st.binary(max_size=32))
def test_whatever_a_health_message_holds(body: bytes) -> None:
    try:
        assert serving_status(message(body)) >= 0
    except BadAnswer as bad:
        assert "protobuf" in str(bad)
