"""Windows of HTTP/2 that all streams share: what one of them takes comes back, and none starves the others."""

from __future__ import annotations

import asyncio

from h2.settings import SettingCodes

from penstock.proxy.specs import ListenerLimits
from support import Exchange, Origin, hang, response, run
from support.balancer import balancing
from support.http2 import GET, Client, Headers
from support.tools import free_port

POST: Headers = [(b":method", b"POST"), *GET[1:]]
NARROW = ListenerLimits(http2_connection_window=65535)


def to(path: bytes) -> Headers:
    return [*GET[:3], (b":path", path)]


def test_bodies_that_no_target_took_give_their_window_back() -> None:
    async def main() -> None:
        async with balancing(free_port(), limits=NARROW) as balancer, Client(balancer.port) as client:
            for _ in range(30):  # five times the window
                assert (await client.ask(POST, [bytes(10_000)])).status == b"502"

    run(main())


def test_bodies_of_streams_that_the_client_resets_give_their_window_back() -> None:
    async def main() -> None:
        async with (
            Origin(hang) as origin,
            balancing(origin.port, limits=NARROW) as balancer,
            Client(balancer.port) as client,
        ):
            for count in range(1, 31):
                number = client.send(POST, [bytes(10_000)], end=False)
                client.frames.reset_stream(number)
                client.flush()
                while len(balancer.log) < count:
                    await asyncio.sleep(0.001)
                while client.frames.outbound_flow_control_window < 10_000:
                    await client.receive()

    run(main())


def test_a_large_answer_leaves_room_for_a_small_one() -> None:
    """The client's window for the connection is less than what it takes on one stream, so they share it."""

    async def answer(exchange: Exchange) -> None:
        exchange.writer.write(response(bytes(20_000_000 if exchange.request.target == b"/large" else 10)))
        await exchange.writer.drain()

    async def main() -> None:
        async with Origin(answer) as origin, balancing(origin.port) as balancer, Client(balancer.port) as client:
            client.frames.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
            client.frames.acknowledge_received_data = lambda size, number: None  # type: ignore[method-assign]
            large = client.send(to(b"/large"))
            while len(client.answers[large].body) < 65_535:
                await client.receive()
            small = client.send(to(b"/small"))
            while balancer.group().targets[0].counters.responses[2] < 2:
                await asyncio.sleep(0.001)
            for _ in range(2):
                client.frames.increment_flow_control_window(10_000)
                client.flush()
                await client.receive()
            assert (await client.answer(small)).body == bytes(10)

    run(main())


def test_a_websocket_whose_client_said_all_before_it_began_ends() -> None:
    async def main() -> None:
        release, gone = asyncio.Event(), asyncio.Event()

        async def switch(exchange: Exchange) -> None:
            await release.wait()
            exchange.writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            await exchange.reader.read()
            gone.set()

        websocket = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
        async with (
            Origin(switch, response()) as origin,
            balancing(origin.port) as balancer,
            Client(balancer.port) as client,
        ):
            number = client.send(websocket, end=False)
            while not origin.requests:
                await asyncio.sleep(0.001)
            client.frames.end_stream(number)
            assert (await client.ask(GET)).status == b"200"  # so the end was heard
            release.set()
            async with asyncio.timeout(5):
                await gone.wait()

    run(main())
