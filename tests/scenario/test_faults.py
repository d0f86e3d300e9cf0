"""What goes wrong at a target, and clients that vanish, at every moment of an exchange.

Each row ends with the right status and the right word in the log; `balancing` asserts that no connection, task or
count is left over, and the next request is served.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import h2.connection
import pytest

from support import Exchange, Origin, Reply, hang, reset, response, run
from support.balancer import Balancer, balancing
from support.http2 import GET as GET2
from support.http2 import Client, Http2Origin, Request

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"
POST2 = [(b":method", b"POST"), *GET2[1:], (b"content-length", b"10")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def until(true: Callable[[], object]) -> None:
    """The loop's turns that something takes; the test's own timeout is the bound."""
    while not true():
        await asyncio.sleep(0.001)


def say(what: bytes, then: Callable[[Exchange], Awaitable[None]]) -> Reply:
    async def reply(exchange: Exchange) -> None:
        exchange.writer.write(what)
        await exchange.writer.drain()
        await asyncio.sleep(0.01)  # so that it is a segment of its own: a reset may overtake what is not read yet
        await then(exchange)

    return reply


async def close(exchange: Exchange) -> None:
    exchange.writer.close()


# name: (what the origin does, the client's status or None where the answer is cut, the word in the log)
ORIGINS: dict[str, tuple[Reply, int | None, str]] = {
    "resets before the head": (reset, 502, "target_closed"),
    "closes before the head": (close, 502, "target_closed"),
    "resets in the head": (say(b"HTTP/1.1 200 OK\r\nX-A", reset), 502, "target_closed"),
    "closes in the head": (say(b"HTTP/1.1 200 OK\r\nX-A", close), 502, "target_closed"),
    "resets after 103": (say(b"HTTP/1.1 103 Early Hints\r\n\r\n", reset), 502, "target_closed"),
    "resets after the head": (say(HEAD, reset), None, "target_closed"),
    "resets in a body of known length": (say(HEAD + b"part", reset), None, "target_closed"),
    "closes in a body of known length": (say(HEAD + b"part", close), None, "target_closed"),
    "resets in a chunk": (say(CHUNKS + b"64\r\npart", reset), None, "target_closed"),
    "closes between chunks": (say(CHUNKS + b"4\r\npart\r\n", close), None, "target_closed"),
    "closes before the last line": (say(CHUNKS + b"4\r\npart\r\n0\r\n", close), None, "target_closed"),
    "resets in a body until close": (say(b"HTTP/1.1 200 OK\r\n\r\npart", reset), None, "target_closed"),
    "says more than its length": (say(response(b"ok") + b"HTTP/1.1 200 OK\r\n\r\n", hang), 200, ""),
    "speaks another protocol": (say(b"SSH-2.0-OpenSSH_9.2\r\n", hang), 502, "target_bad_status_line"),
}


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", ORIGINS)
def test_an_origin_that_fails(name: str, protocol: str) -> None:
    reply, status, reason = ORIGINS[name]

    async def main() -> None:
        async with Origin(reply, response(b"next")) as origin, balancing(origin.port) as balancer:
            if protocol == "http1":
                answer = await balancer.exchange(GET + LAST)
                final = answer.replace(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"")
                if status is None:
                    assert final.startswith(b"HTTP/1.1 200 OK\r\n")
                    assert final.count(b"HTTP/1.1 ") == 1, "an answer that is cut ends the connection"
                    assert not final.endswith(b"\r\n0\r\n\r\n")
                else:
                    assert final.startswith(b"HTTP/1.1 %d " % status)
                    assert final.endswith(b"next"), "and the connection goes on"
            else:
                async with Client(balancer.port) as client:
                    answered = await client.ask(GET2)
                    assert answered.reset == 2 if status is None else answered.status == b"%d" % status
                    assert (await client.ask(GET2)).body == b"next"
            assert (balancer.log[0].status, balancer.log[0].reason) == (status or 200, reason)
            assert all(record.reason == "" for record in balancer.log[1:])
            if reason:
                assert balancer.listener.counters.failed[reason] == 1
                assert balancer.group().targets[0].counters.failed[reason] == 1

    run(main())


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_an_origin_that_refuses_is_502(protocol: str) -> None:
    async def main() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # held, and never listened on
            async with balancing(nobody.getsockname()[1]) as balancer:
                if protocol == "http1":
                    assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 502 ")
                else:
                    async with Client(balancer.port) as client:
                        assert (await client.ask(GET2)).status == b"502"
                assert (balancer.log[0].status, balancer.log[0].reason) == (502, "connect_failed")
                assert balancer.group().targets[0].counters.failed["connect_failed"] == 1

    run(main())


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_descriptors_that_run_out_are_502(protocol: str) -> None:
    """The client is in, and for the connection to the target there is no descriptor; afterwards there is one."""

    async def main() -> None:
        async with (
            Origin(response(b"fine")) as origin,
            balancing(origin.port) as balancer,
            Client(balancer.port) as second,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            await until(lambda: balancer.listener.counters.active == 2)
            with no_more_descriptors():
                if protocol == "http1":
                    writer.write(GET)
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
                else:
                    assert (await second.ask(GET2)).status == b"502"
            assert (balancer.log[0].status, balancer.log[0].reason) == (502, "connect_failed")
            writer.close()
            assert (await second.ask(GET2)).body == b"fine"

    run(main())


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# name: (what the origin says before it says nothing more, the client's status or None where the answer is cut)
SILENT: dict[str, tuple[bytes, int | None]] = {
    "never answers": (b"", 504),
    "stops in the head": (b"HTTP/1.1 200 OK\r\nX-A", 504),
    "stops after 103": (b"HTTP/1.1 103 Early Hints\r\n\r\n", 504),
    "stops after the head": (HEAD, None),
    "stops in a body of known length": (HEAD + b"part", None),
    "stops in a chunk": (CHUNKS + b"64\r\npart", None),
    "stops before the last line": (CHUNKS + b"4\r\npart\r\n0\r\n", None),
}


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", SILENT)
def test_an_origin_that_falls_silent(name: str, protocol: str) -> None:
    said, status = SILENT[name]

    async def main() -> None:
        async with Origin(say(said, hang), response(b"next")) as origin, balancing(origin.port) as balancer:
            target = balancer.group().targets[0]

            async def time_passes() -> None:
                """A minute of silence, once what the origin has to say has come."""
                await until(lambda: origin.requests and target.counters.bytes_in == len(said))
                balancer.proxy.clock.now += 61
                balancer.listener.sweep(balancer.proxy.clock.now)

            silence = asyncio.create_task(time_passes())
            if protocol == "http1":
                answer = await balancer.exchange(LAST)
                final = answer.replace(b"HTTP/1.1 103 Early Hints\r\n\r\n", b"")
                assert final.startswith(b"HTTP/1.1 %d " % (status or 200))
                assert status or not final.endswith(b"\r\n0\r\n\r\n")
            else:
                async with Client(balancer.port) as client:
                    answered = await client.ask(GET2)
                    assert answered.status == b"%d" % (status or 200)
                    assert (answered.reset is None) == (status is not None)
                    assert (await client.ask(GET2)).body == b"next"
            await silence
            assert (balancer.log[0].status, balancer.log[0].reason) == (status or 200, "target_timeout")
            assert target.counters.failed["target_timeout"] == 1
            assert (await balancer.exchange(LAST)).endswith(b"next")

    run(main())


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("garbage", [response(b"forged"), b"\r\n", b"\x15\x03\x01\0\x02\x02\x28"])
def test_an_origin_that_speaks_before_it_is_asked_is_not_believed_by_the_next_client(
    garbage: bytes, protocol: str
) -> None:
    """S10: garbage on an idle connection, just when the next request is about to be sent over it."""

    async def then_garbage(exchange: Exchange) -> None:
        exchange.writer.write(response(b"first"))
        await asyncio.sleep(0.01)
        exchange.writer.write(garbage)
        await hang(exchange)

    async def main() -> None:
        async with Origin(then_garbage, response(b"second")) as origin, balancing(origin.port) as balancer:
            target = balancer.group().targets[0]
            async with Client(balancer.port) as client:
                for expected in (b"first", b"second"):
                    if protocol == "http1":
                        assert (await balancer.exchange(LAST)).endswith(expected)
                    else:
                        assert (await client.ask(GET2)).body == expected
                    if expected == b"first":
                        await until(lambda: not target.connections)
                        assert not target.idle
            assert origin.connections == 2
            assert [(record.status, record.reason) for record in balancer.log] == [(200, ""), (200, "")]

    run(main())


def test_an_origin_that_answers_early_is_relayed_and_its_connection_ends() -> None:
    """S05: the rest of the request's body has no reader."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"no", status=403))
        assert b"GET" not in await reader.read(), "nobody else's request comes over this connection"
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(early, "127.0.0.1", 0)
        async with server, balancing(server.sockets[0].getsockname()[1]) as balancer:
            answer = await balancer.exchange(POST)
            assert answer.startswith(b"HTTP/1.1 403 ")
            async with Client(balancer.port) as client:
                number = client.send(POST2, [b"hello"], end=False)
                assert (await client.answer(number)).status == b"403"
                assert (await client.ask(GET2)).status == b"403"
            assert [(record.status, record.reason) for record in balancer.log] == [(403, "")] * 3

    run(main())


def test_a_http2_target_that_goes_away_finishes_what_it_took() -> None:
    """RFC 9113 6.8: GOAWAY and the answer in one segment, as a server sends them that retires a connection."""

    def retire(frames: h2.connection.H2Connection, number: int, request: Request) -> None:
        raw = frames.data_to_send() + b"\0\0\x08\x07\0\0\0\0\0" + number.to_bytes(4, "big") + bytes(4)
        frames.send_headers(number, [(b":status", b"200")])
        frames.send_data(number, b"finished", end_stream=True)
        rest = frames.data_to_send()
        frames._data_to_send += raw + rest

    async def main() -> None:
        group = {"protocol_version": "HTTP2"}
        async with Http2Origin(retire) as origin, balancing(origin.port, group=group) as balancer:
            for _ in range(2):
                answer = await balancer.exchange(LAST)
                assert b"finished" in answer
                assert balancer.log[-1].reason == ""
            assert origin.connections == 2, "no new stream on a connection that retires"

    run(main())


# -- clients ------------------------------------------------------------------------------------------------------


async def head_only(exchange: Exchange) -> None:
    exchange.writer.write(HEAD)
    await hang(exchange)


async def half_a_body(exchange: Exchange) -> None:
    exchange.writer.write(HEAD + b"part")
    await hang(exchange)


def dead(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


Moment = Callable[[Balancer, Origin], object]

# name: (what is sent, what the origin does, the moment at which the client vanishes, how many requests are logged)
CLIENTS: dict[str, tuple[bytes, Reply, Moment, int]] = {
    "before a byte": (b"", response(), lambda lb, origin: lb.listener.counters.active, 0),
    "in the head": (GET[:20], response(), lambda lb, origin: lb.listener.counters.active, 0),
    "in the body": (POST, hang, lambda lb, origin: lb.group().targets[0].counters.requests, 1),
    "while it waits": (GET, hang, lambda lb, origin: origin.requests, 1),
    "after the head": (GET, head_only, lambda lb, origin: lb.listener.counters.bytes_out, 1),
    "in the answer": (GET, half_a_body, lambda lb, origin: lb.listener.counters.bytes_out > len(HEAD), 1),
    "between requests": (GET, response(), lambda lb, origin: lb.log, 1),
}


# A client that ends its side while its answer is under way may be reading still: it has vanished when a write fails.
VANISHES = [(name, how) for name in CLIENTS for how in ("close", "reset") if how == "reset" or "answer" not in name]
VANISHES.remove(("after the head", "close"))


@pytest.mark.parametrize(("name", "how"), VANISHES)
def test_a_client_that_vanishes(name: str, how: str) -> None:
    sent, reply, moment, logged = CLIENTS[name]

    async def main() -> None:
        async with Origin(reply) as origin, balancing(origin.port) as balancer:
            _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(sent)
            await until(lambda: moment(balancer, origin))
            if how == "reset":
                dead(writer.get_extra_info("socket"))
                writer.transport.abort()
            else:
                writer.close()
            await until(lambda: not balancer.listener.counters.active)
            target = balancer.group().targets[0]
            assert target.in_flight == 0
            assert len(balancer.log) == logged
            if logged and name != "between requests":
                assert balancer.log[0].reason == "client_closed"
                assert balancer.log[0].status == (200 if "answer" in name or "after" in name else 460)
                await until(lambda: not target.connections)

    run(main())


@pytest.mark.parametrize("how", ["close", "reset the connection", "reset the stream"])
@pytest.mark.parametrize("name", ["in the body", "while it waits", "after the head", "in the answer"])
def test_a_client_of_http2_that_vanishes(name: str, how: str) -> None:
    sent, reply, moment, _ = CLIENTS[name]

    async def main() -> None:
        async with Origin(reply) as origin, balancing(origin.port) as balancer, Client(balancer.port) as client:
            number = client.send(POST2, [b"hello"], end=False) if sent == POST else client.send(GET2)
            if name in ("after the head", "in the answer"):
                while not client.answers[number].headers:
                    await client.receive()
            else:
                await until(lambda: moment(balancer, origin))
            match how:
                case "reset the stream":
                    client.frames.reset_stream(number)
                    client.flush()
                case "reset the connection":
                    dead(client.writer.get_extra_info("socket"))
                    client.writer.transport.abort()
                case _:
                    client.writer.close()
            await until(lambda: balancer.log)
            assert balancer.log[0].reason == "client_closed"
            assert balancer.log[0].status == (200 if "answer" in name or "after" in name else 460)
            target = balancer.group().targets[0]
            await until(lambda: not target.connections)
            assert target.in_flight == 0

    run(main())


# A HTTP/2 client's first bytes: its preface, empty SETTINGS, and a HEADERS frame that announces more than it brings.
OPENING2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", OPENING2[:10], OPENING2, OPENING2 + b"\0\0\x20\1\5\0\0\0\1\x82"])
def test_a_client_of_http2_that_vanishes_before_it_has_asked(sent: bytes, how: str) -> None:
    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(sent)
            await until(lambda: balancer.listener.counters.active)
            if how == "reset":
                dead(writer.get_extra_info("socket"))
                writer.transport.abort()
            else:
                writer.close()
            await until(lambda: not balancer.listener.counters.active)
            assert not balancer.log
            assert not origin.requests

    run(main())


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_client_that_vanishes_while_the_origin_is_being_reached(protocol: str) -> None:
    """A listener whose queue is full neither takes the connection nor refuses it."""

    async def main() -> None:
        with socket.socket() as deaf, ExitStack() as fillers:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            for _ in range(4):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            async with balancing(deaf.getsockname()[1]) as balancer:
                target = balancer.group().targets[0]
                if protocol == "http1":
                    _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                    writer.write(GET)
                    await until(lambda: target.in_flight)
                    dead(writer.get_extra_info("socket"))
                    writer.transport.abort()
                else:
                    async with Client(balancer.port) as client:
                        client.send(GET2)
                        await until(lambda: target.in_flight)
                await until(lambda: balancer.log)
                assert (balancer.log[0].status, balancer.log[0].reason) == (460, "client_closed")

    run(main())
