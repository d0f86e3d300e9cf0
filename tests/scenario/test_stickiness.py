"""A client comes back to where it was: by cookie, by address, over a reload, until its target goes."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

from penstock.proxy.health import HealthTable
from penstock.proxy.server import Proxy
from penstock.proxy.specs import Forward, ProxySpec, StickinessSpec, TargetGroupSpec, TargetSpec, WeightedGroup
from support import Exchange, Origin, response, run
from support.balancer import Balancer, balancing

STICKY: dict[str, Any] = {"stickiness": StickinessSpec("lb_cookie")}


async def ask(balancer: Balancer, *fields: bytes, method: bytes = b"GET") -> tuple[bytes, dict[bytes, bytes]]:
    """The answer's body, and the cookies that came with it."""
    lines = b"".join(field + b"\r\n" for field in fields)
    answer = await balancer.exchange(method + b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + lines + b"\r\n")
    cookies = dict(re.findall(rb"\r\nSet-Cookie: ([^=]+)=([^;]+)", answer))
    return answer.partition(b"\r\n\r\n")[2], cookies


def cookie(cookies: dict[bytes, bytes]) -> bytes:
    return b"Cookie: " + b"; ".join(name + b"=" + value for name, value in cookies.items())


def test_a_cookie_brings_a_client_back_until_its_target_goes() -> None:
    async def main() -> None:
        async with (
            Origin(response(b"one")) as one,
            Origin(response(b"two")) as two,
            balancing(one.port, two.port, group=STICKY) as balancer,
        ):
            mine, cookies = await ask(balancer)
            assert list(cookies) == [b"AWSALB"]
            for _ in range(5):
                again, renewed = await ask(balancer, cookie(cookies))
                assert again == mine
                assert renewed == cookies, "each answer lengthens its life"
            assert {(await ask(balancer))[0] for _ in range(4)} == {b"one", b"two"}, "others are spread"
            head, _ = await ask(balancer, cookie(cookies), method=b"HEAD")
            assert head == b""

            await balancer.reload(algorithm="least_outstanding_requests")
            assert (await ask(balancer, cookie(cookies)))[0] == mine, "a reload changes nothing"

            other = two if mine == b"one" else one
            await balancer.reload(targets=(TargetSpec("127.0.0.1", other.port),))
            moved, cookies_there = await ask(balancer, cookie(cookies))
            assert moved != mine
            assert cookies_there != cookies
            assert (await ask(balancer, cookie(cookies_there)))[0] == moved

    run(main())


def test_the_key_makes_it_last_beyond_the_process() -> None:
    async def main() -> None:
        async with Origin(response(b"one")) as one, Origin(response(b"two")) as two:
            cookies: dict[bytes, bytes] = {}
            served = set()
            for _ in range(4):
                async with balancing(one.port, two.port, group=STICKY) as balancer:
                    balancer.spec = replace(balancer.spec, sticky_key=b"k" * 32)
                    (await balancer.proxy.prepare(balancer.spec)).commit()
                    body, cookies = await ask(balancer, *([cookie(cookies)] if cookies else []))
                    served.add(body)
            assert len(served) == 1

    run(main())


def test_an_answer_whose_head_comes_in_the_short_way_gets_a_cookie_too_and_keeps_its_connection() -> None:
    async def main() -> None:
        async with Origin(response(b"one")) as one, balancing(one.port, group=STICKY) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            for _ in range(3):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"\r\nSet-Cookie: AWSALB=" in head
                assert await reader.readexactly(3) == b"one"
            writer.close()
            await writer.wait_closed()
            assert one.connections == 1

    run(main())


def test_an_applications_session_holds_its_target() -> None:
    async def main() -> None:
        begins = [("Set-Cookie", "session=1; Path=/")]
        sticky = {"stickiness": StickinessSpec("app_cookie", cookie="session")}
        async with (
            Origin(response(b"one", headers=begins), response(b"one")) as one,
            Origin(response(b"two", headers=begins), response(b"two")) as two,
            balancing(one.port, two.port, group=sticky) as balancer,
        ):
            mine, cookies = await ask(balancer)
            assert set(cookies) == {b"session", b"AWSALBAPP-0"}
            for _ in range(4):
                assert await ask(balancer, cookie(cookies)) == (mine, {})
            del cookies[b"session"]
            assert {(await ask(balancer, cookie(cookies)))[0] for _ in range(4)} == {b"one", b"two"}

    run(main())


def test_an_address_holds_its_target_for_http_and_tcp() -> None:
    async def main() -> None:
        sticky = {"stickiness": StickinessSpec("source_ip")}
        async with Origin(response(b"one")) as one, Origin(response(b"two")) as two:
            async with balancing(one.port, two.port, group=sticky) as balancer:
                assert len({(await ask(balancer))[0] for _ in range(6)}) == 1
            async with balancing(one.port, two.port, group=sticky | {"protocol": "TCP"}, protocol="TCP") as balancer:
                seen = set()
                for _ in range(6):
                    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\n")
                    seen.add(await reader.readexactly(3))
                    writer.close()
                    await writer.wait_closed()
                assert len(seen) == 1

    run(main())


def test_a_websocket_handshake_carries_the_cookie() -> None:
    async def switch(exchange: Exchange) -> None:
        exchange.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
        )

    async def main() -> None:
        async with Origin(switch) as origin, balancing(origin.port, group=STICKY) as balancer:
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nSet-Cookie: AWSALB=" in head
            assert b"\r\nUpgrade: websocket\r\n" in head
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_client_stays_with_the_group_it_drew_until_that_has_no_share() -> None:
    async def main() -> None:
        async with (
            Origin(response(b"blue")) as blue,
            Origin(response(b"green")) as green,
            balancing(blue.port) as balancer,
        ):
            listener, group = balancer.spec.listeners[0], balancer.spec.target_groups[0]

            async def weigh(of_blue: int, of_green: int) -> None:
                action = Forward((WeightedGroup("tg", of_blue), WeightedGroup("new", of_green)), stickiness=60.0)
                groups = (group, TargetGroupSpec("new", targets=(TargetSpec("127.0.0.1", green.port),)))
                spec = ProxySpec((replace(listener, default_action=action),), groups)
                (await balancer.proxy.prepare(spec)).commit()

            await weigh(1, 1)
            seen = {}
            while len(seen) < 2:
                body, cookies = await ask(balancer)
                assert list(cookies) == [b"AWSALBTG"]
                seen[body] = cookies
            for body, cookies in seen.items():
                assert {(await ask(balancer, cookie(cookies)))[0] for _ in range(5)} == {body}
            await weigh(0, 1)
            assert (await ask(balancer, cookie(seen[b"blue"])))[0] == b"green"

    run(main())


def test_without_a_key_of_the_file_each_process_has_one_of_its_own() -> None:
    one, other = Proxy(HealthTable()), Proxy(HealthTable())
    assert len(one._own_key) == 32
    assert one._own_key != other._own_key
