"""A client that says the same again on its connection is understood by comparing, not by reading: with the same result.

Every row is sent as the first request of one connection and as the fourth of another, whose three before it were alike.
"""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from penstock.proxy.specs import FixedResponse, TracingSpec
from support import Origin, response, run
from support.balancer import Balancer, balancing

FIELDS = b"Host: a\r\nAccept: */*\r\n\r\n"
USUAL = b"GET /first HTTP/1.1\r\n" + FIELDS
END = b" HTTP/1.1\r\n" + FIELDS

ROWS = {
    "the same": USUAL,
    "another path": b"GET /other?q=1" + END,
    "HTTP/1.0": b"GET /x HTTP/1.0\r\n" + FIELDS,
    "HEAD": b"HEAD /x" + END,
    "DELETE": b"DELETE /x" + END,
    "a space in the target": b"GET /a b" + END,
    "a tab in the target": b"GET /a\tb" + END,
    "a fragment": b"GET /a#b" + END,
    "NUL": b"GET /a\0b" + END,
    "beyond ASCII": b"GET /a\xe4" + END,
    "DEL": b"GET /a\x7f" + END,
    "no target": b"GET" + END,
    "an empty target": b"GET " + END,
    "not a path": b"GET a" + END,
    "absolute": b"GET http://b/" + END,
    "two versions": b"GET /a HTTP/1.1" + END,
    "a field that ends alike": b"GET /x HTTP/1.1\r\nX: y" + END,
    "a line end in the target": b"GET /x\r\nX: y" + END,
    "two requests in one": b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y" + END,
    "a body that ends alike": b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nGET /y" % (len(END) + 6) + END,
    "an empty line before": b"\r\nGET /x" + END,
    "lower case": b"get /x" + END,
    "too long": b"GET /" + b"x" * 20000 + END,
    "just too long": b"GET /" + b"x" * (16384 - 15) + END,
    "as long as may be": b"GET /" + b"x" * (16384 - 16) + END,
    "other fields": b"GET /x HTTP/1.1\r\nHost: b\r\nAccept: */*\r\n\r\n",
    "one more field": b"GET /x HTTP/1.1\r\nX: y\r\n" + FIELDS,
}


async def answers(balancer: Balancer, *requests: bytes) -> list[bytes]:
    """One connection: each request is sent when the one before is answered. What came after the last, but for dates."""
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
    for request in requests[:-1]:
        writer.write(request)
        assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(requests[-1])
    writer.write(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return re.sub(rb"Date: [^\r]*", b"Date", said).split(b"\r\n")


async def alike(balancer: Balancer, origin: Origin, row: bytes) -> None:
    before = len(origin.requests)
    fresh = await answers(balancer, row)
    then = len(origin.requests)
    repeated = await answers(balancer, USUAL, USUAL, USUAL, row)
    assert repeated == fresh
    name = re.compile(rb"(?i)x-amzn-trace-id: Root=[0-9a-f-]+\r\n")
    reached = [name.sub(b"", request.wire) for request in origin.requests]
    assert reached[then + 3 :] == reached[before:then]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("row", ROWS)
def test_alike(row: str, named: bool) -> None:
    async def main() -> None:
        tracing = TracingSpec() if named else None
        async with Origin(response()) as origin, balancing(origin.port, tracing=tracing) as balancer:
            await alike(balancer, origin, ROWS[row])
            records = balancer.log
            half = (len(records) - 3) // 2
            kept = [(record.status, record.reason, record.method, record.uri) for record in records]
            assert kept[half + 3 :] == kept[:half], "and they are logged alike"

    run(main())


def test_alike_whatever_one_byte_becomes() -> None:
    rng = random.Random(1)

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            for _ in range(150):
                row = bytearray(b"GET /some/path" + END)
                row[rng.randrange(len(row))] = rng.choice(b"\0\t\n\r !#/:AZaz~\x7f\x80\xff")
                await alike(balancer, origin, bytes(row))

    run(main())


def test_what_changes_between_two_of_them_is_heeded() -> None:
    """Plan, drain, and the names that no two requests share."""

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port, tracing=TracingSpec()) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)

            async def ask() -> bytes:
                writer.write(USUAL)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                assert length is not None
                await reader.readexactly(int(length[1]))
                return head.split(b"\r\n")[0]

            for _ in range(5):
                assert await ask() == b"HTTP/1.1 200 Scripted"
            named = [request.value(b"x-amzn-trace-id") for request in origin.requests]
            assert len(set(named)) == 5
            assert all(request.values(b"x-forwarded-for") == [b"127.0.0.1"] for request in origin.requests)
            before = balancer.spec.listeners[0].default_action
            await balancer.reload(default_action=FixedResponse(418, content_type="text/plain", body="teapot"))
            assert await ask() == b"HTTP/1.1 418 I'm a Teapot"
            await balancer.reload(default_action=before)
            for _ in range(4):
                assert await ask() == b"HTTP/1.1 200 Scripted"
            assert len(origin.requests) == 9
            balancer.proxy.wind_down()
            writer.write(USUAL)
            assert b"\r\nConnection: close\r\n" in await reader.read(), "a client is told to come back elsewhere"
            writer.close()

    run(main())
