"""What one client may take of a listener, and the word by which each refusal is known in log and counters."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

from penstock.proxy.limit_specs import RateLimitSpec
from penstock.proxy.specs import (
    Conditions,
    Forward,
    GroupLimits,
    ListenerLimits,
    RuleSpec,
    WeightedGroup,
)
from support import Exchange, Origin, hang, response, run
from support.balancer import Balancer, balancing
from support.certificates import issue

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TO_TG = Forward((WeightedGroup("tg"),))
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def later(balancer: Balancer, seconds: float) -> None:
    balancer.proxy.clock.now += seconds
    balancer.listener.sweep(balancer.proxy.clock.now)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("limits", "request_", "status", "reason"),
    [
        ({"request_line": 1024}, b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 1024), 414, "request_line_too_long"),
        ({"field": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 1024), 431, "field_too_long"),
        (
            {"head": 1024},
            b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\nY: %b\r\n\r\n" % (b"x" * 600, b"y" * 600),
            431,
            "head_too_long",
        ),
        ({"fields": 2}, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\n\r\n", 431, "too_many_fields"),
        (
            {"forwarded_for": 1},
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n\r\n",
            463,
            "too_many_forwarded_for",
        ),
        ({"body": 4}, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 413, "body_too_large"),
        ({"body": 4}, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 413, "body_too_large"),
        (
            {"body": 4},
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"hello") + b"0\r\n\r\n",
            413,
            "body_too_large",
        ),
        (
            {"chunk_extension": 2},
            CHUNKED_POST + b"5;extension=20-characters\r\nhello\r\n0\r\n\r\n",
            400,
            "chunk_extension_too_long",
        ),
        ({"trailer": 8}, CHUNKED_POST + chunk(b"hello") + b"0\r\nX: 123456\r\n\r\n", 400, "trailer_too_long"),
        (
            {"trailer_fields": 1},
            CHUNKED_POST + chunk(b"hello") + b"0\r\nX: 1\r\nY: 2\r\n\r\n",
            400,
            "too_many_trailer_fields",
        ),
    ],
)
def test_a_message_over_a_limit_is_refused_and_under_the_default_is_not(
    limits: dict[str, Any], request_: bytes, status: int, reason: str
) -> None:
    async def main() -> None:
        async with Origin(response()) as origin:
            async with balancing(origin.port, limits=ListenerLimits(**limits)) as balancer:
                answer = await balancer.exchange(request_)
                assert answer.startswith(b"HTTP/1.1 %d " % status)
                assert b"\r\nConnection: close\r\n" in answer
                assert balancer.listener.counters.failed[reason] == 1
                assert [record.reason for record in balancer.log] == [reason]
                assert not origin.requests
            if b"hello" in request_ or b"Content-Length" not in request_:
                async with balancing(origin.port) as balancer:
                    closing = request_.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n")
                    assert (await balancer.exchange(closing)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_heads_that_one_listener_took_are_not_known_to_a_stricter_one() -> None:
    async def main() -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nConnection: close\r\n\r\n"
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            for _ in range(3):
                assert (await balancer.exchange(request)).startswith(b"HTTP/1.1 200 ")
            await balancer.reload(limits=ListenerLimits(fields=2))
            assert (await balancer.exchange(request)).startswith(b"HTTP/1.1 431 ")
            await balancer.reload(limits=ListenerLimits())
            assert (await balancer.exchange(request)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_a_body_that_grows_beyond_the_limit_is_cut_off_while_it_comes() -> None:
    async def main() -> None:
        async with Origin(hang) as origin, balancing(origin.port, limits=ListenerLimits(body=8)) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"hello"))
            while not balancer.group().targets[0].counters.requests:
                await asyncio.sleep(0.001)
            writer.write(chunk(b"world"))
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
            writer.close()
            await writer.wait_closed()
            assert balancer.log[-1].reason == "body_too_large"

    run(main())


def test_too_many_requests_are_429_and_say_when_to_come_back() -> None:
    async def main() -> None:
        limits = ListenerLimits(rates=(RateLimitSpec("source", 0.01, 2),))
        async with Origin(response(b"x")) as origin, balancing(origin.port, limits=limits) as balancer:
            answer = await balancer.exchange(GET * 3 + LAST)
            assert answer.count(b"HTTP/1.1 200 ") == 2
            assert answer.count(b"HTTP/1.1 429 ") == 2, "and the connection stayed"
            assert b"\r\nRetry-After: 100\r\n" in answer
            assert balancer.listener.counters.failed["rate_limit_source"] == 2
            assert [record.reason for record in balancer.log] == ["", "", "rate_limit_source", "rate_limit_source"]
            assert (balancer.log[2].rule, balancer.log[2].target) == ("", "")

            await balancer.reload(limits=ListenerLimits(rates=limits.rates, keep_alive_timeout=1.0))
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 429 "), "a reload is no amnesty"
            await balancer.reload(limits=ListenerLimits())
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 200 ")

    run(main())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ListenerLimits(connections=2), "too_many_connections"),
        (ListenerLimits(connections_per_source=2), "too_many_connections_of_source"),
    ],
)
@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_more_connections_than_a_listener_takes_are_closed(limits: ListenerLimits, reason: str, protocol: str) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            balancing(origin.port, limits=limits, protocol=protocol, group={"protocol": protocol}) as balancer,
        ):
            held = [await asyncio.open_connection("127.0.0.1", balancer.port) for _ in range(2)]
            while balancer.listener.counters.active < 2:
                await asyncio.sleep(0.001)
            assert await balancer.exchange(GET) == b""
            assert balancer.listener.counters.failed[reason] == 1
            assert balancer.log[-1].reason == reason
            held[0][1].close()
            await held[0][1].wait_closed()
            while balancer.listener.counters.active > 1:
                await asyncio.sleep(0.001)
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            for each in (writer, held[1][1]):
                each.close()
                await each.wait_closed()
            while balancer.listener.counters.active:
                await asyncio.sleep(0.001)
            assert not balancer.listener._sources._counts

    run(main())


def test_a_body_that_drips_is_408_and_one_that_the_target_holds_up_is_not() -> None:
    async def main() -> None:
        async with Origin(hang) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 2000)
            while not balancer.group().targets[0].counters.requests:
                await asyncio.sleep(0.001)
            balancer.listener.sweep(balancer.proxy.clock.now)
            for _ in range(8):  # 2000 bytes are enough for 8 seconds, and the first ten are grace
                later(balancer, 1)
            assert not balancer.log
            for _ in range(3):
                later(balancer, 1)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            assert balancer.log[-1].reason == "body_too_slow"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_body_that_keeps_up_is_let_be() -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7500\r\n\r\n")
            balancer.listener.sweep(balancer.proxy.clock.now)
            sent = 0
            for _ in range(30):
                writer.write(b"x" * 250)
                sent += 250
                while balancer.listener.counters.bytes_in < sent:
                    await asyncio.sleep(0.001)
                later(balancer, 1)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_whole_request_may_be_given_a_time() -> None:
    async def drip(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await hang(exchange)

    async def main() -> None:
        limits = ListenerLimits(request_timeout=0.05)
        async with Origin(hang, drip) as origin, balancing(origin.port, limits=limits) as balancer:
            for expected in (b"HTTP/1.1 504 ", b"HTTP/1.1 200 "):
                asked = asyncio.create_task(balancer.exchange(LAST))
                while not asked.done():
                    await asyncio.sleep(0.01)
                    balancer.listener.sweep(balancer.proxy.clock.now)
                assert (await asked).startswith(expected)
                assert balancer.log[-1].reason == "request_timeout"

    run(main())


def test_rules_have_limits_of_their_own() -> None:
    async def main() -> None:
        rules = (
            RuleSpec(1, Conditions(path=("/upload",)), TO_TG, body_limit=8),
            RuleSpec(2, Conditions(path=("/any",)), TO_TG, body_limit=0, request_timeout=0.05),
        )
        limits = ListenerLimits(body=4)
        async with Origin(response(b"x")) as origin, balancing(origin.port, rules=rules, limits=limits) as balancer:
            for path, size, status in (("upload", 8, 200), ("upload", 9, 413), ("any", 9, 200), ("", 8, 413)):
                head = f"POST /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                known = b"Content-Length: %d\r\n\r\n%b" % (size, b"x" * size)
                chunked = b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunk(b"x" * size)
                for rest in (known, chunked):
                    answer = await balancer.exchange(head.encode() + rest)
                    assert answer.startswith(b"HTTP/1.1 %d " % status), (path, size)
            assert balancer.listener.counters.failed == {"body_too_large": 4}
        async with Origin(hang) as origin, balancing(origin.port, rules=rules) as balancer:
            asked = asyncio.create_task(balancer.exchange(b"GET /any HTTP/1.1\r\nHost: a\r\n\r\n"))
            other = asyncio.create_task(balancer.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
            while not asked.done():
                await asyncio.sleep(0.01)
                balancer.listener.sweep(balancer.proxy.clock.now)
                if balancer.log:
                    later(balancer, 100)  # the answer is there; its connection, and the other, need not wait
            assert (await asked).startswith(b"HTTP/1.1 504 ")
            await other
            assert [record.reason for record in balancer.log] == ["request_timeout", "target_timeout"]

    run(main())


def test_a_handshake_that_does_not_end_has_a_reason_of_its_own() -> None:
    async def main() -> None:
        limits = ListenerLimits(tls_handshake_timeout=0.05)
        certificates = (issue("a.example.org"),)
        async with balancing(protocol="HTTPS", certificates=certificates, limits=limits) as balancer:
            assert await balancer.exchange(b"") == b""
            assert balancer.listener.counters.failed == {"tls_handshake_timeout": 1}
            assert balancer.listener.counters.tls_failed == 1
            assert [record.reason for record in balancer.log] == ["tls_handshake_timeout"]

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="reads tcp_info, which is Linux's")
@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS"])
def test_the_backlog_is_what_is_asked_for_and_a_reload_changes_it(protocol: str) -> None:
    def backlog(balancer: Balancer) -> int:
        """tcpi_sacked, which of a listening socket is how many may wait."""
        info = balancer.listener._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int.from_bytes(info[28:], sys.byteorder)

    async def main() -> None:
        certificates = (issue("a.example.org"),) if protocol == "HTTPS" else ()
        limits = ListenerLimits(backlog=16)
        async with balancing(protocol=protocol, certificates=certificates, limits=limits) as balancer:
            assert backlog(balancer) == 16
            await balancer.reload(limits=ListenerLimits(backlog=32))
            assert backlog(balancer) == 32

    run(main())


def test_a_connection_grows_old_and_ends_after_its_request() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await gate.wait()
            exchange.writer.write(response(b"x"))

        limits = ListenerLimits(max_age=100.0, keep_alive_timeout=1000.0, first_byte_timeout=1000.0)
        group = {"limits": GroupLimits(response_timeout=1000.0)}
        async with Origin(wait) as origin, balancing(origin.port, limits=limits, group=group) as balancer:
            idle_reader, idle = await asyncio.open_connection("127.0.0.1", balancer.port)
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            while not origin.requests or balancer.listener.counters.active < 2:
                await asyncio.sleep(0.001)
            later(balancer, 89)
            assert balancer.listener.counters.active == 2
            later(balancer, 22)
            assert await idle_reader.read() == b""
            gate.set()
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close\r\n" in answer
            for each in (idle, writer):
                each.close()
                await each.wait_closed()

    run(main())


def test_timeouts_are_the_listeners_and_the_groups_own() -> None:
    async def main() -> None:
        limits = ListenerLimits(keep_alive_timeout=5.0)
        group = {"limits": GroupLimits(response_timeout=3.0, keep_alive_timeout=2.0)}
        async with (
            Origin(response(b"x"), hang) as origin,
            balancing(origin.port, limits=limits, group=group) as balancer,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            await reader.readexactly(len(response(b"x")))
            balancer.group().sweep(balancer.proxy.clock.now + 1.9)
            assert len(balancer.group().targets[0].idle) == 1
            balancer.group().sweep(balancer.proxy.clock.now + 2.0)
            assert not balancer.group().targets[0].idle
            writer.write(GET)
            while len(origin.requests) < 2:
                await asyncio.sleep(0.001)
            later(balancer, 2.5)
            assert len(balancer.log) == 1
            later(balancer, 1)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 504 ")
            await reader.readuntil(b"\n")
            later(balancer, 5.5)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main())


def test_an_answers_head_over_the_groups_limit_is_502() -> None:
    async def main() -> None:
        long = response(b"x", headers=[("X-Long", "x" * 5000)])
        group = {"limits": GroupLimits(response_head=4096)}
        async with Origin(long) as origin, balancing(origin.port, group=group) as balancer:
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 502 ")
            assert balancer.log[-1].reason == "target_head_too_long"
            await balancer.reload()
        async with Origin(long) as origin, balancing(origin.port) as balancer:
            assert (await balancer.exchange(LAST)).startswith(b"HTTP/1.1 200 ")

    run(main())
