"""A client that asks and does not read: what is held for it has a bound, and it gets all of it when it reads again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hpack
import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame

from penstock.proxy.http2_codes import HEADERS, PREFACE
from penstock.proxy.specs import Redirect
from support import Origin, response, run
from support.balancer import Balancer, balancing

HELD = 2_000_000  # bytes: far more than a listener's `buffer` and one answer, far less than all answers


@asynccontextmanager
async def client(balancer: Balancer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """It holds little itself, but for what the kernel does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port, limit=8192)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def held(balancer: Balancer) -> int:
    """Bytes that wait to be written, when no more of them come."""
    before, now, still = -1, 0, 0
    while still < 5:
        await asyncio.sleep(0.02)
        before = now
        now = sum(each.transport.get_write_buffer_size() for each in balancer.listener.connections)
        still = still + 1 if now == before and now else 0
    return now


@pytest.mark.parametrize("size", [50_000, 4_000])
def test_requests_sent_ahead_wait_for_their_answers_to_be_read(size: int) -> None:
    count = 25_000_000 // size
    answer = response(bytes(size))

    async def main() -> None:
        async with (
            Origin(answer) as origin,
            balancing(origin.port, log=False) as balancer,
            client(balancer) as (reader, writer),
        ):
            sending = asyncio.create_task(_send(writer, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", count))
            kept = await held(balancer)
            left = len(answer) * count
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            await sending
            assert len(origin.requests) == count
            assert kept < HELD

    run(main())


async def _send(writer: asyncio.StreamWriter, request: bytes, count: int) -> None:
    for _ in range(count):
        writer.write(request)
        await writer.drain()


def test_streams_wait_for_their_heads_to_be_read() -> None:
    """A path that stands in the client's table is asked for with a few bytes, and said back in whole."""
    count = 8_000
    encoder = hpack.Encoder()
    asked = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/" + b"x" * 3_900)]
    first, again = encoder.encode(asked), encoder.encode(asked)

    def head(number: int) -> bytes:
        block = first if number == 1 else again
        return HeadersFrame(number, data=block, flags=["END_HEADERS", "END_STREAM"]).serialize()

    async def main() -> None:
        action = Redirect(host="www.example.org", status=301)
        async with balancing(1, default_action=action, log=False) as balancer, client(balancer) as (reader, writer):
            writer.write(PREFACE + SettingsFrame(0).serialize())
            writer.write(b"".join(map(head, range(1, 2 * count, 2))))
            assert await held(balancer) < HELD
            heads = 0
            while heads < count:
                frame = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(frame[:3], "big"))
                heads += frame[3] == HEADERS

    run(main())
