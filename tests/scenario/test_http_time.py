"""What time does to client connections: deadlines, clients that leave, drains, and the end.

Time does not pass by waiting: the tests move the balancer's clock and sweep, as its ticker would.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from penstock.proxy.specs import TargetSpec
from support import Exchange, Origin, hang, response, run
from support.balancer import Balancer, balancing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def settle(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0.001)


def later(balancer: Balancer, seconds: float) -> None:
    balancer.proxy.clock.now += seconds
    balancer.listener.sweep(balancer.proxy.clock.now)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def test_a_body_that_stops_is_408() -> None:
    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            exchange = asyncio.create_task(
                balancer.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            )
            while not balancer.group().targets[0].in_flight:
                await asyncio.sleep(0.001)
            await settle()
            later(balancer, 61)
            assert (await exchange).startswith(b"HTTP/1.1 408 ")
            assert balancer.log[-1].reason == "body_timeout"

    run(main())


def test_s20_a_head_that_drips_is_408() -> None:
    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            exchange = asyncio.create_task(balancer.exchange(b"GET / HTTP/1.1\r\nHost:"))
            await settle()
            later(balancer, 9)
            await settle()
            assert not exchange.done()
            later(balancer, 2)
            assert (await exchange).startswith(b"HTTP/1.1 408 ")

    run(main())


def test_idle_connections_are_closed_without_a_word() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port) as balancer:
            silent = asyncio.create_task(balancer.exchange(b""))
            kept = asyncio.create_task(balancer.exchange(GET))
            await settle()
            later(balancer, 31)
            assert await silent == b""
            later(balancer, 45)
            assert (await kept).endswith(b"x")

    run(main())


def test_idle_upstream_connections_are_closed_before_the_target_would() -> None:
    async def main() -> None:
        async with (
            Origin(response(b"x", headers=[("Keep-Alive", "timeout=20")])) as origin,
            balancing(origin.port) as balancer,
        ):
            await balancer.exchange(LAST)
            target = balancer.group().targets[0]
            assert len(target.idle) == 1
            balancer.group().sweep(balancer.proxy.clock.now + 14)
            assert len(target.idle) == 1
            balancer.group().sweep(balancer.proxy.clock.now + 15.5)
            assert len(target.idle) == 0

    run(main())


def test_a_client_that_leaves_is_noted_and_frees_the_target() -> None:
    async def main() -> None:
        async with Origin(hang) as origin, balancing(origin.port) as balancer:
            _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            while not origin.requests:
                await asyncio.sleep(0.001)
            writer.transport.abort()
            await settle()
            assert balancer.group().targets[0].in_flight == 0
            assert (balancer.log[-1].status, balancer.log[-1].reason) == (460, "client_closed")

    run(main())


def test_a_client_may_shut_down_its_side_while_it_is_answered() -> None:
    half = asyncio.Event()

    async def in_two_parts(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await half.wait()
        exchange.writer.write(b"later")

    async def main() -> None:
        async with Origin(in_two_parts) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            await reader.readuntil(b"first")
            writer.write_eof()
            await settle()
            half.set()
            assert await reader.read() == b"later"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_removed_target_finishes_what_it_does_and_gets_nothing_more() -> None:
    release = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await release.wait()
        exchange.writer.write(response(b"old"))

    async def main() -> None:
        async with Origin(slow) as old, Origin(response(b"new")) as new, balancing(old.port) as balancer:
            exchange = asyncio.create_task(balancer.exchange(LAST))
            while not old.requests:
                await asyncio.sleep(0.001)
            await balancer.reload(targets=(TargetSpec("127.0.0.1", new.port),))
            assert [target.draining for target in balancer.group().targets] == [False, True]
            assert (await balancer.exchange(LAST)).endswith(b"new")
            release.set()
            assert (await exchange).endswith(b"old")
            balancer.group().sweep(balancer.proxy.clock.now)
            assert [target.spec.port for target in balancer.group().targets] == [new.port]

    run(main())


def test_a_drain_is_bounded() -> None:
    async def main() -> None:
        async with Origin(hang) as origin, balancing(origin.port, group={"deregistration_delay": 5}) as balancer:
            exchange = asyncio.create_task(balancer.exchange(LAST))
            while not origin.requests:
                await asyncio.sleep(0.001)
            await balancer.reload(targets=(), deregistration_delay=5)
            balancer.group().sweep(balancer.proxy.clock.now + 4)
            assert not exchange.done()
            balancer.group().sweep(balancer.proxy.clock.now + 6)
            assert (await exchange).startswith(b"HTTP/1.1 502 ")
            assert balancer.log[-1].reason == "target_drained"
            assert balancer.group().targets == []

    run(main())


def test_stop_lets_requests_end_and_closes_idle_connections() -> None:
    release = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await release.wait()
        exchange.writer.write(response(b"done"))

    async def main() -> None:
        async with Origin(response(b"first"), slow) as origin, balancing(origin.port) as balancer:
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            idle_writer.write(GET)
            await read_answer(idle_reader)
            exchange = asyncio.create_task(balancer.exchange(GET))
            while len(origin.requests) < 2:
                await asyncio.sleep(0.001)
            stopping = asyncio.create_task(balancer.proxy.stop(5))
            assert await idle_reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", balancer.port)
            release.set()
            answer = await exchange
            assert answer.endswith(b"done")
            assert b"Connection: close" in answer
            await stopping
            idle_writer.close()

    run(main())


def test_a_client_that_stops_reading_is_cut_off() -> None:
    """The target has much to say, the client asks and then reads nothing: neither is held for ever."""

    async def main() -> None:
        async with Origin(response(b"x" * 20_000_000)) as origin, balancing(origin.port) as balancer:
            with socket.create_connection(("127.0.0.1", balancer.port)) as client:
                client.sendall(GET)
                while not (target := balancer.group().targets[0]).in_flight:
                    await asyncio.sleep(0.001)
                await settle()
                assert target.counters.bytes_in < 12_000_000, "what nobody reads must not be fetched"
                later(balancer, 61)
                await settle()
                assert target.in_flight == 0
                assert balancer.log[-1].reason == "client_stalled"
                assert balancer.listener.counters.active == 0

    run(main())
