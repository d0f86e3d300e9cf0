"""What all listeners of a process take together: connections, and descriptors that are kept for work under way."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from penstock.proxy.specs import ProcessLimits
from support import Origin, response, run
from support.balancer import Balancer, balancing
from support.certificates import issue

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HALF = ProcessLimits(descriptors=50)  # so that a test has room on either side
OUT = "out_of_descriptors"


def lowest_free() -> int:
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


@contextmanager
def few_descriptors(balancer: Balancer) -> Iterator[ExitStack]:
    """A limit that is not far away. What is used up in the stack is free again at its end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * lowest_free() + 40, before[1]))
        balancer.proxy.intake.look()
        with ExitStack() as stack:
            yield stack
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def use_up(stack: ExitStack, until: int) -> None:
    while lowest_free() < until:
        stack.callback(os.close, os.dup(0))


async def drained(balancer: Balancer, left: int = 0) -> None:
    while balancer.listener.counters.active > left:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_more_connections_than_the_process_takes_are_closed_on_every_listener(protocol: str) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            balancing(origin.port, protocol=protocol, group={"protocol": protocol}) as balancer,
        ):
            spec = balancer.spec
            other = replace(spec.listeners[0], address="127.0.0.2")
            both = replace(spec, listeners=(*spec.listeners, other), limits=ProcessLimits(connections=2))
            (await balancer.proxy.prepare(both)).commit()
            first, second = balancer.proxy.listeners.values()
            held = [await asyncio.open_connection(*listener.bound) for listener in (first, second)]
            while first.counters.active + second.counters.active < 2:
                await asyncio.sleep(0.001)
            assert await balancer.exchange(GET) == b""
            assert first.counters.failed == {"too_many_connections_of_process": 1}
            assert balancer.log[-1].reason == "too_many_connections_of_process"
            held[1][1].close()
            await held[1][1].wait_closed()
            while second.counters.active:
                await asyncio.sleep(0.001)
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), "room on one is room on the other"
            for each in (writer, held[0][1]):
                each.close()
                await each.wait_closed()
            await drained(balancer)

    run(main())


def test_with_few_descriptors_left_new_clients_get_503_and_those_who_are_in_are_served() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port, process=HALF) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            await reader.readexactly(len(response(b"x")))
            with few_descriptors(balancer) as used:
                assert not balancer.proxy.intake.is_full()
                use_up(used, balancer.proxy.intake.full_from)
                assert balancer.proxy.intake.is_full()
                answer = await balancer.exchange(LAST)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nRetry-After: 5\r\n" in answer
                assert b"\r\nConnection: close\r\n" in answer
                assert balancer.listener.counters.failed == {OUT: 1}
                assert [(record.status, record.reason) for record in balancer.log] == [(200, ""), (503, OUT)]
                writer.write(GET)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                await reader.readexactly(1)
                await drained(balancer, left=1)
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
            await drained(balancer)

    run(main())


def test_with_fewer_still_they_are_closed() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port, process=HALF) as balancer:
            with few_descriptors(balancer) as used:
                use_up(used, balancer.proxy.intake.close_from)
                assert await balancer.exchange(GET) == b""
                assert balancer.listener.counters.failed == {OUT: 1}
                assert [record.reason for record in balancer.log] == [OUT]

    run(main())


def test_a_client_that_is_turned_away_and_asks_nothing_is_not_waited_for() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port, process=HALF) as balancer:
            with few_descriptors(balancer) as used:
                use_up(used, balancer.proxy.intake.full_from)
                silent = asyncio.create_task(balancer.exchange(b""))
                while not balancer.listener.connections:
                    await asyncio.sleep(0.001)
                balancer.proxy.clock.now += balancer.listener.limits.linger_timeout
                balancer.listener.sweep(balancer.proxy.clock.now)
                assert await silent == b""
                await drained(balancer)
                assert balancer.listener.counters.failed == {OUT: 1}
                assert [record.reason for record in balancer.log] == [OUT]

    run(main())


@pytest.mark.parametrize("protocol", ["TCP", "HTTPS"])
def test_where_no_http_is_spoken_yet_they_are_closed(protocol: str) -> None:
    async def main() -> None:
        more: dict[str, Any] = {"certificates": (issue("a.example.org"),)} if protocol == "HTTPS" else {}
        group = {"protocol": "TCP" if protocol == "TCP" else "HTTP"}
        async with (
            Origin(response(b"x")) as origin,
            balancing(origin.port, process=HALF, protocol=protocol, group=group, **more) as balancer,
        ):
            with few_descriptors(balancer) as used:
                use_up(used, balancer.proxy.intake.full_from)
                assert await balancer.exchange(GET) == b""
                assert balancer.listener.counters.failed == {OUT: 1}
                assert [record.reason for record in balancer.log] == [OUT]
                assert balancer.listener.counters.active == 0

    run(main())


@pytest.mark.parametrize(("process", "reason"), [(ProcessLimits(connections=1), "too_many_connections_of_process"),
                                                 (HALF, OUT)])  # fmt: skip
def test_udp_flows_count_too(process: ProcessLimits, reason: str) -> None:
    async def main() -> None:
        group = {"protocol": "UDP"}
        with ExitStack() as sockets:
            target, *clients = (
                sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)
            )
            target.bind(("127.0.0.1", 0))
            async with balancing(target.getsockname()[1], process=process, protocol="UDP", group=group) as balancer:
                with few_descriptors(balancer) as used:
                    clients[0].sendto(b"1", ("127.0.0.1", balancer.port))
                    while not balancer.listener.counters.active:
                        await asyncio.sleep(0.001)
                    use_up(used, balancer.proxy.intake.full_from)
                    clients[1].sendto(b"2", ("127.0.0.1", balancer.port))
                    while not balancer.listener.counters.failed:
                        await asyncio.sleep(0.001)
                    assert balancer.listener.counters.failed == {reason: 1}
                    assert [record.reason for record in balancer.log] == [reason]
                    assert balancer.listener.counters.active == 1

    run(main())


def test_the_limit_of_descriptors_may_be_changed_from_outside() -> None:
    async def main() -> None:
        async with balancing() as balancer:
            intake = balancer.proxy.intake
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert intake.full_from == soft * 90 // 100
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft // 2, hard))
            try:
                async with asyncio.timeout(5):
                    while intake.full_from != soft // 2 * 90 // 100:
                        await asyncio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            spec = replace(balancer.spec, limits=ProcessLimits(descriptors=100))
            (await balancer.proxy.prepare(spec)).commit()
            assert intake.full_from > soft, "100 is no limit"

    run(main())
