"""What happens over the life of a client connection: order, reuse, early answers, upgrades, faults."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from penstock.proxy.specs import FixedResponse, TargetSpec
from support import Exchange, Origin, Reply, reset, response, run
from support.balancer import balancing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def settle(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0.001)


async def close(exchange: Exchange) -> None:
    exchange.writer.close()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def test_s01_pipelined_requests_are_answered_in_order() -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        exchange.writer.write(response(b"slow"))

    async def main() -> None:
        async with Origin(slow, response(b"fast")) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(GET + LAST)
            assert answer.index(b"slow") < answer.index(b"fast")
            assert len(origin.requests) == 2

    run(main())


def test_hundreds_of_pipelined_requests_in_one_segment() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(GET * 500 + LAST)
            assert answer.count(b"HTTP/1.1 200") == 501
            assert origin.connections == 1, "one client at a time needs one connection"

    run(main())


def test_pipelined_requests_after_one_with_a_body() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(
                b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
                b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + LAST
            )
            assert answer.count(b"HTTP/1.1 200") == 3
            assert [(request.target, request.body) for request in origin.requests] == [
                (b"/1", b"hello"),
                (b"/2", b"abc"),
                (b"/last", b""),
            ]

    run(main())


@pytest.mark.parametrize(
    "bad", [b"GET /bad\r\n\r\n", b"GET /bad HTTP/1.1\r\n\r\n", b"\x16\x03\n", b"GET http://u@/ HTTP/1.1\r\n\r\n"]
)
def test_a_refused_request_is_not_logged_under_the_one_before_it(bad: bytes) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"GET /good HTTP/1.1\r\nHost: good.example.org\r\n\r\n")
            await read_answer(reader)
            writer.write(bad)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
            good, refused = balancer.log
            assert (good.uri, good.target_status, good.sent_bytes > 0) == (b"/good", 200, True)
            assert (refused.target, refused.target_status, refused.host) == ("", 0, b"")
            assert refused.uri in (b"", b"/bad")
            assert refused.target_time == -1.0

    run(main())


def test_both_sides_keep_their_connections() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            for _ in range(5):
                writer.write(GET)
                assert (await read_answer(reader)).endswith(b"x")
            writer.close()
            await writer.wait_closed()
            assert origin.connections == 1
            assert balancer.listener.counters.accepted == 1

    run(main())


def test_s03_an_early_answer_survives_the_body_it_did_not_read() -> None:
    """An upload of 10 MiB is answered 413 by the origin before it is read: the client must see the 413."""

    async def refuse(exchange: Exchange) -> None:
        exchange.writer.write(response(b"too big", status=413))

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port) as balancer:
            server = await asyncio.start_server(_early_413, "127.0.0.1", 0)
            await balancer.reload(targets=(TargetSpec("127.0.0.1", server.sockets[0].getsockname()[1]),))
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n" + b"x" * 100_000)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"Connection: close" in answer
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            server.close()
            await server.wait_closed()

    async def _early_413(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"too big", status=413))
        with suppress(ConnectionError):
            await reader.read(1)
        await asyncio.sleep(0.05)
        writer.close()

    run(main())


def test_s04_expect_continue_is_relayed() -> None:
    async def main() -> None:
        async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Expect: 100-continue\r\n" in head
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.write(response(await reader.readexactly(5)))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(origin, "127.0.0.1", 0)
        async with balancing(server.sockets[0].getsockname()[1]) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert (await read_answer(reader)).endswith(b"hello")
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_s04_final_answer_instead_of_continue_ends_both_connections() -> None:
    async def main() -> None:
        async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"no", status=403))
            assert await reader.read() == b"", "the body must not be sent after a final answer"
            writer.close()

        server = await asyncio.start_server(origin, "127.0.0.1", 0)
        async with balancing(server.sockets[0].getsockname()[1]) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 403")
            assert b"Connection: close" in answer
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


def test_s07_websocket_tunnels_after_101() -> None:
    async def echo(exchange: Exchange) -> None:
        exchange.writer.write(SWITCH + b"hi ")
        while data := await exchange.reader.read(100):
            exchange.writer.write(data)
        exchange.writer.close()

    async def main() -> None:
        async with Origin(echo) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(WEBSOCKET + b"early ")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Accept: y" in head
            assert b"Upgrade: websocket" in head
            assert await reader.readexactly(9) == b"hi early "
            writer.write(b"late")
            assert await reader.readexactly(4) == b"late"
            target = balancer.group().targets[0]
            assert target.in_flight == 1
            assert b"Upgrade: websocket\r\n" in origin.requests[0].head
            writer.close()
            await writer.wait_closed()
            await settle()
            assert target.in_flight == 0
            assert balancer.log[-1].status == 101
            assert balancer.log[-1].kind == "ws"

    run(main())


def test_s07_refused_upgrade_keeps_http_framing() -> None:
    async def main() -> None:
        async with Origin(response(b"no", status=426)) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(WEBSOCKET + LAST)
            assert answer.count(b"HTTP/1.1 426 Scripted\r\n") == 2
            assert len(origin.requests) == 2

    run(main())


def test_interim_answers_are_counted_for_each_request_anew() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"

    async def main() -> None:
        async with Origin(early + response(b"x")) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(GET * 40 + LAST)
            assert answer.count(b"HTTP/1.1 200") == 41
            assert origin.connections == 1

    run(main())


def test_a_target_that_answers_before_it_has_taken_the_body_does_not_stop_its_client() -> None:
    """All of the body waits for the target when the answer comes; so the connection stays, and the client is heard."""

    async def main() -> None:
        release = asyncio.Event()

        async def early(exchange: Exchange) -> None:
            await release.wait()
            exchange.writer.write(response(b"early"))

        async with Origin(early, response(b"next")) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            while not origin.requests:
                await asyncio.sleep(0.001)
            (upstream,) = balancer.group().targets[0].connections
            upstream.pause_writing()  # as the loop says it when the target takes no more
            release.set()
            assert (await read_answer(reader)).endswith(b"early")
            upstream.resume_writing()
            writer.write(GET)
            async with asyncio.timeout(5):
                assert (await read_answer(reader)).endswith(b"next")
            writer.close()

    run(main())


def test_s10_a_byte_on_an_idle_connection_ends_it() -> None:
    async def chatty(exchange: Exchange) -> None:
        exchange.writer.write(response(b"one"))
        await asyncio.sleep(0.02)
        exchange.writer.write(response(b"poison"))

    async def main() -> None:
        async with Origin(chatty, response(b"two")) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            assert (await read_answer(reader)).endswith(b"one")
            await asyncio.sleep(0.06)
            writer.write(GET)
            assert (await read_answer(reader)).endswith(b"two")
            assert origin.connections == 2
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("how", [reset, close])
def test_s19_stale_connection_never_becomes_a_502(how: Reply) -> None:
    """The origin ends the kept connection just as the next request arrives on it."""

    async def main() -> None:
        async with Origin(response(b"one"), how, response(b"two")) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            assert (await read_answer(reader)).endswith(b"one")
            writer.write(GET)
            assert (await read_answer(reader)).endswith(b"two")
            assert balancer.group().targets[0].counters.retries == 1
            writer.close()
            await writer.wait_closed()

    run(main())


def test_s18_a_post_is_not_sent_twice() -> None:
    async def main() -> None:
        async with Origin(response(b"one"), reset, response(b"two")) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(
                GET + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
            )
            assert b"HTTP/1.1 502 " in answer
            assert len(origin.requests) == 2
            assert balancer.log[-1].reason == "target_closed"

    run(main())


def test_a_fresh_connection_that_fails_is_a_502_at_once() -> None:
    async def main() -> None:
        async with Origin(reset) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(LAST)
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert len(origin.requests) == 1

    run(main())


def test_refused_connection_goes_to_the_next_target() -> None:
    async def main() -> None:
        async with Origin(response(b"ok")) as origin, Origin() as gone:
            dead = gone.port
            await gone.__aexit__()
            async with balancing(dead, origin.port) as balancer:
                for _ in range(6):
                    assert (await balancer.exchange(LAST)).endswith(b"ok")
                assert sum(target.counters.failed["connect_failed"] for target in balancer.group().targets) >= 2

    run(main())


def test_nobody_listens_is_502_and_nobody_there_is_503() -> None:
    async def main() -> None:
        async with Origin() as gone:
            dead = gone.port
            await gone.__aexit__()
        async with balancing(dead) as balancer:
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 502 ")
            assert balancer.log[-1].reason == "connect_failed"
            await balancer.reload(targets=())
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 503 ")
            assert balancer.log[-1].reason == "no_target"

    run(main())


@pytest.mark.parametrize("size", [1, 65536, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_size_arrive_whole_both_ways(size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    async def echo(exchange: Exchange) -> None:
        if chunked:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            exchange.writer.write(head + b"%x\r\n" % size + exchange.request.body + b"\r\n0\r\n\r\n")
        else:
            exchange.writer.write(response(exchange.request.body))
        await exchange.writer.drain()

    async def main() -> None:
        async with Origin(echo) as origin, balancing(origin.port) as balancer:
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
            wire = b"%x\r\n" % size + body + b"\r\n0\r\n\r\n" if chunked else body
            answer = await balancer.exchange(
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + framing + b"\r\n\r\n" + wire
            )
            _, _, got = answer.partition(b"\r\n\r\n")
            assert got == wire
            assert origin.requests[0].body == body

    run(main())


def test_idle_connections_are_closed_over_a_while_when_all_ends() -> None:
    """Not all at once, none twice, and all of them long before the drain is over."""

    async def main() -> None:
        async with balancing(default_action=FixedResponse(200)) as balancer:
            balancer.spec = replace(balancer.spec, close_spread=1.0)
            (await balancer.proxy.prepare(balancer.spec)).commit()
            clients = [await asyncio.open_connection("127.0.0.1", balancer.port) for _ in range(40)]
            for reader, writer in clients:
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
            loop = asyncio.get_running_loop()

            async def closed(reader: asyncio.StreamReader) -> float:
                assert await reader.read() == b""
                return loop.time()

            stopping = asyncio.create_task(balancer.proxy.stop(20.0))
            moments = await asyncio.gather(*(closed(reader) for reader, _ in clients))
            await stopping
            assert max(moments) - min(moments) > 0.2
            for _, writer in clients:
                writer.close()

    run(main())
