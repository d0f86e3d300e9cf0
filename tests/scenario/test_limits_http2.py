"""What one client may take of a listener over HTTP/2: the same limits as over HTTP/1, and those of its own."""

from __future__ import annotations

import asyncio

import pytest

from penstock.proxy.specs import (
    Conditions,
    FixedResponse,
    Forward,
    GroupLimits,
    ListenerLimits,
    RuleSpec,
    WeightedGroup,
)
from support import Exchange, Origin, hang, response, run
from support.balancer import Balancer, balancing
from support.http2 import GET, Client, Headers, Http2Origin

POST: Headers = [(name, b"POST" if name == b":method" else value) for name, value in GET]


def to(path: bytes, headers: Headers = POST) -> Headers:
    return [(name, path if name == b":path" else value) for name, value in headers]


def later(balancer: Balancer, seconds: float) -> None:
    balancer.proxy.clock.now += seconds
    balancer.listener.sweep(balancer.proxy.clock.now)


async def reached(balancer: Balancer) -> None:
    while not balancer.group().targets[0].counters.requests:
        await asyncio.sleep(0.001)


def test_what_a_connection_may_have_at_once_is_said_and_kept() -> None:
    async def main() -> None:
        limits = ListenerLimits(http2_max_streams=2, http2_stream_window=70_000, http2_connection_window=128 * 1024)
        async with (
            Origin(response(b"x")) as origin,
            balancing(origin.port, limits=limits) as balancer,
            Client(balancer.port) as client,
        ):
            assert (await client.ask(GET)).status == b"200"
            assert client.frames.remote_settings.max_concurrent_streams == 2
            assert client.frames.remote_settings.initial_window_size == 70_000
            assert client.frames.remote_settings.enable_connect_protocol == 1
            assert client.frames.outbound_flow_control_window == 128 * 1024
            assert (await client.ask(POST, [bytes(10_000)] * 7)).status == b"200"

    run(main())


def test_resets_and_control_frames_have_budgets() -> None:
    async def main() -> None:
        for limits, flood in (
            (ListenerLimits(http2_max_resets=2), lambda client: client.frames.reset_stream(client.send(GET))),
            (ListenerLimits(http2_max_control_frames=2), lambda client: client.frames.ping(b"12345678")),
        ):
            async with Origin(hang) as origin, balancing(origin.port, limits=limits) as balancer:
                async with Client(balancer.port) as client:
                    for _ in range(5):
                        flood(client)
                    client.flush()
                    while not client.closed:
                        await client.receive()
                assert balancer.listener.counters.failed["http2_flood"] == 1
                assert [record.reason for record in balancer.log].count("http2_flood") == 1

    run(main())


@pytest.mark.parametrize(
    ("limits", "headers", "status", "reason"),
    [
        (ListenerLimits(request_line=1024), to(b"/" + b"x" * 1024, GET), b"414", "request_line_too_long"),
        (ListenerLimits(fields=2), [*GET, (b"x", b"1"), (b"y", b"2"), (b"z", b"3")], b"431", "too_many_fields"),
        (ListenerLimits(field=1024), [*GET, (b"x", b"1" * 1024)], b"431", "field_too_long"),
    ],
)
def test_heads_have_the_listeners_limits(limits: ListenerLimits, headers: Headers, status: bytes, reason: str) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, balancing(origin.port, limits=limits) as balancer:
            async with Client(balancer.port) as client:
                assert (await client.ask(headers)).status == status
                assert balancer.listener.counters.failed == {reason: 1}
            await balancer.reload(limits=ListenerLimits())
            async with Client(balancer.port) as client:
                assert (await client.ask(headers)).status == b"200"

    run(main())


def test_a_body_that_drips_is_408_and_one_that_the_target_holds_up_is_not() -> None:
    async def main() -> None:
        async with Origin(hang) as origin, balancing(origin.port) as balancer, Client(balancer.port) as client:
            number = client.send(POST, [b"x" * 2000], end=False)
            await reached(balancer)
            balancer.listener.sweep(balancer.proxy.clock.now)
            for _ in range(8):  # 2000 bytes are enough for 8 seconds, and the first ten are grace
                later(balancer, 1)
            assert not balancer.log
            for _ in range(3):
                later(balancer, 1)
            assert (await client.answer(number)).status == b"408"
            assert balancer.log[-1].reason == "body_too_slow"

    run(main())


def test_a_conversation_over_grpc_may_have_pauses() -> None:
    async def main() -> None:
        call = [*to(b"/app.Echo/Talk"), (b"content-type", b"application/grpc"), (b"te", b"trailers")]
        group = {"protocol_version": "GRPC"}
        async with (
            Http2Origin() as origin,
            balancing(origin.port, group=group) as balancer,
            Client(balancer.port) as client,
        ):
            number = client.send(call, [b"\0\0\0\0\0"], end=False)
            await reached(balancer)
            balancer.listener.sweep(balancer.proxy.clock.now)
            for _ in range(30):
                later(balancer, 1)
            client.frames.send_data(number, b"\0\0\0\0\0", end_stream=True)
            client.flush()
            assert (await client.answer(number)).status == b"200"

    run(main())


def test_a_whole_request_may_be_given_a_time() -> None:
    async def drip(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await hang(exchange)

    async def main() -> None:
        limits = ListenerLimits(request_timeout=0.05)
        async with (
            Origin(hang, drip) as origin,
            balancing(origin.port, limits=limits) as balancer,
            Client(balancer.port) as client,
        ):
            for expected, cut in ((b"504", False), (b"200", True)):
                asked = asyncio.create_task(client.ask(GET))
                while not asked.done():
                    await asyncio.sleep(0.01)
                    balancer.listener.sweep(balancer.proxy.clock.now)
                answer = await asked
                assert (answer.status, answer.reset is not None) == (expected, cut)
                assert balancer.log[-1].reason == "request_timeout"

    run(main())


def test_a_connection_grows_old_and_ends_after_its_streams() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await gate.wait()
            exchange.writer.write(response(b"x"))

        limits = ListenerLimits(max_age=100.0, keep_alive_timeout=1000.0, first_byte_timeout=1000.0)
        group = {"limits": GroupLimits(response_timeout=1000.0)}
        async with (
            Origin(wait) as origin,
            balancing(origin.port, limits=limits, group=group) as balancer,
            Client(balancer.port) as idle,
            Client(balancer.port) as busy,
        ):
            busy.send(GET)
            await reached(balancer)
            later(balancer, 89)
            assert balancer.listener.counters.active == 2
            later(balancer, 22)
            while not idle.closed:
                await idle.receive()
            assert idle.goaway == 0
            while busy.goaway is None:
                await busy.receive()
            gate.set()
            # The client's library drops frames after GOAWAY, so what came is read from the log.
            assert await busy.reader.read()
            assert [(record.status, record.reason) for record in balancer.log] == [(200, "")]

    run(main())


@pytest.mark.parametrize(("linger", "reset"), [(1024, True), (64 * 1024, False)])
def test_a_body_that_nobody_wants_is_read_on_for_a_while_only(linger: int, reset: bool) -> None:
    async def main() -> None:
        async with (
            balancing(default_action=FixedResponse(200), limits=ListenerLimits(linger=linger)) as balancer,
            Client(balancer.port) as client,
        ):
            number = client.send(POST, [bytes(100)], end=False)
            answer = await client.answer(number)
            assert answer.status == b"200"
            client.frames.send_data(number, bytes(2000))
            client.flush()
            assert (await client.ask(GET)).status == b"200"
            assert (answer.reset is not None) == reset

    run(main())


def test_rules_have_body_limits_of_their_own() -> None:
    async def main() -> None:
        rule = RuleSpec(1, Conditions(path=("/upload",)), Forward((WeightedGroup("tg"),)), body_limit=8)
        limits = ListenerLimits(body=4)
        async with (
            Origin(response(b"x")) as origin,
            balancing(origin.port, rules=(rule,), limits=limits) as balancer,
            Client(balancer.port) as client,
        ):
            length = (b"content-length", b"8")
            for more in ([], [length]):
                assert (await client.ask([*to(b"/upload"), *more], [b"12345678"])).status == b"200"
                assert (await client.ask([*to(b"/"), *more], [b"12345678"])).status == b"413"
            assert (await client.ask(to(b"/upload"), [b"12345678", b"9"])).status == b"413"
            assert balancer.listener.counters.failed == {"body_too_large": 3}

    run(main())
