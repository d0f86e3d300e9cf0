"""Request ids through a real load balancer: what the target sees, what the log says, and what a reload changes."""

from __future__ import annotations

import asyncio
import re

from penstock.proxy.specs import FixedResponse, TracingSpec
from support import Origin, response
from support.balancer import balancing
from support.http2 import GET as GET2
from support.http2 import Client, Http2Origin, reply
from support.loop import run

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n\r\n"
ROOT = rb"Root=1-[0-9a-f]{8}-[0-9a-f]{24}"


def test_the_target_and_the_log_have_the_same_name_for_a_request() -> None:
    async def main() -> None:
        async with Origin(response(b"1"), response(b"2"), response(b"3")) as origin:
            async with balancing(origin.port, tracing=TracingSpec()) as balancer:
                await balancer.exchange(GET + b"\r\n" + GET + b"X-Amzn-Trace-Id: Root=1-a-b\r\n" + CLOSE)
                await balancer.exchange(GET + CLOSE)
            seen = [request.value(b"X-Amzn-Trace-Id") for request in origin.requests]
            assert [record.request_id for record in balancer.log] == seen
            assert re.fullmatch(ROOT, seen[0] or b"")
            assert re.fullmatch(rb"Self=1-[0-9a-f-]{33};Root=1-a-b", seen[1] or b"")
            assert len(set(seen)) == 3
            first, second, third = (record.connection_id for record in balancer.log)
            assert first == second != third

    run(main())


def test_an_answer_of_our_own_is_named_and_a_refused_request_is_not() -> None:
    async def main() -> None:
        async with balancing(tracing=TracingSpec(), default_action=FixedResponse(204)) as balancer:
            await balancer.exchange(GET + b"\r\n" + GET + b"Bad Name: x\r\n" + CLOSE)
        ours, refused = balancer.log
        assert re.fullmatch(ROOT, ours.request_id)
        assert (refused.status, refused.request_id) == (400, b"")

    run(main())


def test_a_reload_changes_what_new_connections_say() -> None:
    async def main() -> None:
        async with Origin(response(b"1"), response(b"2"), response(b"3")) as origin:
            async with balancing(origin.port, tracing=TracingSpec()) as balancer:
                reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                writer.write(GET + b"\r\n")
                await reader.readuntil(b"\r\n\r\n1")
                await balancer.reload(tracing=TracingSpec("X-Request-Id", "begin"))
                writer.write(GET + CLOSE)
                await reader.read()
                writer.close()
                await balancer.exchange(GET + CLOSE)
            old, kept, new = origin.requests
            assert old.value(b"X-Amzn-Trace-Id")
            assert kept.value(b"X-Amzn-Trace-Id")
            assert not new.value(b"X-Amzn-Trace-Id")
            request_id = new.value(b"X-Request-Id")
            assert request_id is not None
            assert (new.value(b"traceparent") or b"").startswith(b"00-%b-" % request_id)

    run(main())


def test_streams_are_named_one_by_one_and_their_connection_once() -> None:
    async def main() -> None:
        async with Origin(response(b"1"), response(b"2")) as origin:
            named = TracingSpec(traceparent="begin")
            async with balancing(origin.port, tracing=named) as balancer, Client(balancer.port) as client:
                await client.ask(GET2)
                await client.ask([*GET2, (b"x-amzn-trace-id", b"Root=1-a-b")])
            seen = [request.value(b"X-Amzn-Trace-Id") for request in origin.requests]
            assert [record.request_id for record in balancer.log] == seen
            assert re.fullmatch(ROOT, seen[0] or b"")
            assert (seen[1] or b"").endswith(b";Root=1-a-b")
            assert all(request.value(b"traceparent") for request in origin.requests)
            assert len({record.connection_id for record in balancer.log}) == 1

    run(main())


def test_a_target_that_speaks_http2_has_the_name_too() -> None:
    async def main() -> None:
        async with Http2Origin(reply(body=b"1")) as origin:
            group = {"protocol_version": "HTTP2"}
            async with balancing(origin.port, group=group, tracing=TracingSpec()) as balancer:
                await balancer.exchange(GET + CLOSE)
            assert dict(origin.requests[0].headers)[b"x-amzn-trace-id"] == balancer.log[0].request_id

    run(main())
