"""How a target is chosen, as a client sees it: one key one target, slow and failing ones avoided, own zone first."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from penstock.control.admin.status import _health as health_in_status
from penstock.proxy.specs import OutlierSpec, TargetSpec
from support import Exchange, Origin, Reply, free_port, reset, response, run
from support.balancer import Balancer, balancing

NAMES = (b"a", b"b", b"c", b"d")


@asynccontextmanager
async def origins(*replies: Reply) -> AsyncIterator[list[Origin]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Origin(reply)) for reply in replies]


def named(count: int) -> list[Reply]:
    return [response(name) for name in NAMES[:count]]


async def ask(lb: Balancer, fields: str = "", path: str = "/") -> str:
    """The origin that answered, by its name; or the status."""
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
    head, _, body = (await lb.exchange(request.encode())).partition(b"\r\n\r\n")
    return body.decode() if head.startswith(b"HTTP/1.1 200") else head.split()[1].decode()


async def ask_often(lb: Balancer, times: int) -> Counter[str]:
    return Counter([await ask(lb) for _ in range(times)])


def at(*ports: int, zones: str = "") -> tuple[TargetSpec, ...]:
    return tuple(
        TargetSpec("127.0.0.1", port, zone=f"z-{zone}" if zone else None)
        for port, zone in zip(ports, zones or [""] * len(ports), strict=True)
    )


@pytest.mark.parametrize(
    ("hash_key", "fields", "path"),
    [
        ("header:X-User", "x-user: {}\r\n", "/"),
        ("cookie:sid", "Cookie: a=b; sid={}\r\n", "/"),
        ("path", "", "/{}?with=query"),
    ],
)
def test_one_key_one_target(hash_key: str, fields: str, path: str) -> None:
    async def main() -> None:
        async with origins(*named(3)) as (a, b, c):
            group = {"algorithm": "consistent_hash", "hash_key": hash_key}
            async with balancing(a.port, b.port, c.port, group=group) as lb:

                async def owners() -> dict[int, str]:
                    return {user: await ask(lb, fields.format(user), path.format(user)) for user in range(30)}

                before = await owners()
                assert before == await owners()
                assert set(before.values()) == {"a", "b", "c"}
                await lb.reload(targets=at(c.port, a.port))  # b is gone, and the others are listed in another order
                after = await owners()
                moved = sum(before[user] != after[user] for user in before if before[user] != "b")
                assert moved <= 6
                assert "b" not in after.values()

    run(main())


def test_by_source_a_client_stays_where_it_is() -> None:
    async def main() -> None:
        async with (
            origins(*named(3)) as three,
            balancing(*(o.port for o in three), group={"algorithm": "consistent_hash"}) as lb,
        ):
            assert len(await ask_often(lb, 12)) == 1

    run(main())


def test_without_the_key_everyone_has_a_turn() -> None:
    async def main() -> None:
        async with origins(*named(3)) as three:
            group = {"algorithm": "consistent_hash", "hash_key": "header:x-user"}
            async with balancing(*(o.port for o in three), group=group) as lb:
                assert await ask_often(lb, 9) == {"a": 3, "b": 3, "c": 3}

    run(main())


@pytest.mark.parametrize("algorithm", ["consistent_hash", "weighted_random", "power_of_two_choices", "ewma"])
def test_a_target_that_refuses_costs_no_request_whatever_the_algorithm(algorithm: str) -> None:
    async def main() -> None:
        async with origins(*named(1)) as (a,), balancing(a.port, free_port(), group={"algorithm": algorithm}) as lb:
            assert await ask_often(lb, 20) == {"a": 20}

    run(main())


def test_ewma_leaves_the_slow_one_alone() -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        exchange.writer.write(response(b"slow"))

    async def main() -> None:
        async with (
            origins(response(b"a"), slow, response(b"c")) as three,
            balancing(*(o.port for o in three), group={"algorithm": "ewma"}, log=False) as lb,
        ):
            picked = await ask_often(lb, 60)
            assert picked["slow"] <= 3
            assert min(picked["a"], picked["c"]) >= 5
            slow_target = lb.group().targets[1]
            assert slow_target.latency > 0.04
            lb.group()._fade(slow_target.latency_at + 100)  # a long while later it has another try
            assert slow_target.latency < 0.001

    run(main())


def test_a_target_that_fails_requests_is_ejected_and_returns(caplog: pytest.LogCaptureFixture) -> None:
    """Its health check would pass: what counts is what became of requests."""
    broken = response(b"oops", status=500)

    async def main() -> None:
        async with origins(response(b"a"), broken, response(b"c")) as three:
            spec = OutlierSpec(consecutive_failures=3)
            async with balancing(*(o.port for o in three), group={"outlier_detection": spec}) as lb:
                group, now = lb.group(), lb.proxy.clock.now
                assert (await ask_often(lb, 6))["500"] == 2
                group.sweep(now)
                assert (await ask_often(lb, 3))["500"] == 1  # two in a row are not three
                group.sweep(now)
                assert await ask_often(lb, 8) == {"a": 4, "c": 4}
                ejected = group.targets[1]
                assert health_in_status(ejected, used=True)["reason"] == "Target.Ejected"
                assert ejected.health().description == "Ejected for 30 seconds: 3 requests in a row failed."
                assert ejected.counters.ejections == 1
                three[1].script = (response(b"b"),)
                group.sweep(now + 29)
                assert "b" not in await ask_often(lb, 4)
                group.sweep(now + 30)
                assert await ask_often(lb, 6) == {"a": 2, "b": 2, "c": 2}
                assert health_in_status(ejected, used=True)["state"] == "unavailable"  # no health check, as before

    with caplog.at_level(logging.INFO, "penstock.proxy.targets"):
        run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize("reply", [reset, response(status=503)], ids=["reset", "503"])
def test_what_counts_as_a_failure(reply: Reply) -> None:
    async def main() -> None:
        async with origins(reply) as (a,), balancing(a.port, group={"outlier_detection": OutlierSpec()}) as lb:
            await ask_often(lb, 2)
            assert lb.group().targets[0].conduct.failures == 2
            a.script = (response(b"a", status=404),)  # the client's mistake, and not the target's
            await ask(lb)
            assert lb.group().targets[0].conduct.failures == 0

    run(main())


def test_a_refused_connection_counts_as_a_failure() -> None:
    async def main() -> None:
        async with balancing(free_port(), group={"outlier_detection": OutlierSpec()}) as lb:
            assert await ask_often(lb, 2) == {"502": 2}
            assert lb.group().targets[0].conduct.failures == 2

    run(main())


def test_nobody_is_watched_where_nobody_wants_to_know() -> None:
    async def main() -> None:
        async with origins(*named(1)) as (a,), balancing(a.port, group={"outlier_detection": OutlierSpec()}) as lb:
            target = lb.group().targets[0]
            assert target.observer is not None
            await lb.reload(outlier_detection=None)
            assert target.observer is None

    run(main())


def test_a_new_target_starts_slowly() -> None:
    async def main() -> None:
        async with origins(*named(3)) as (a, b, c), balancing(a.port, b.port, group={"slow_start": 100.0}) as lb:
            group, now = lb.group(), lb.proxy.clock.now
            assert await ask_often(lb, 4) == {"a": 2, "b": 2}  # the first ones begin at full
            await lb.reload(targets=at(a.port, b.port, c.port))
            for elapsed, shares in [(25, {"a": 4, "b": 4, "c": 1}), (50, {"a": 4, "b": 4, "c": 2})]:
                group.sweep(now + elapsed)
                assert await ask_often(lb, sum(shares.values())) == shares
            group.sweep(now + 100)
            assert await ask_often(lb, 9) == {"a": 3, "b": 3, "c": 3}

    run(main())


def test_own_zone_first_then_spill_over() -> None:
    async def main() -> None:
        async with origins(*named(3)) as (a, b, c):
            targets = at(a.port, b.port, c.port, zones="112")
            group = {"targets": targets, "zone": "z-1", "zone_preference": True, "outlier_detection": OutlierSpec()}
            async with balancing(group=group) as lb:
                assert await ask_often(lb, 6) == {"a": 3, "b": 3}
                now = lb.proxy.clock.now
                lb.group().targets[1].conduct.eject(OutlierSpec(), now)
                lb.group().refresh(now)
                assert await ask_often(lb, 10) == {"a": 7, "c": 3}  # half of the zone carries 1.4 times its half
                lb.group().targets[0].conduct.eject(OutlierSpec(), now)
                lb.group().refresh(now)
                assert await ask_often(lb, 4) == {"c": 4}

    run(main())


def test_without_cross_zone_other_zones_are_not_used() -> None:
    async def main() -> None:
        async with origins(*named(3)) as (a, b, c):
            targets = (*at(a.port, b.port, zones="12"), *at(c.port))  # c is in no zone, so in all
            async with balancing(group={"targets": targets, "zone": "z-1", "cross_zone": False}) as lb:
                assert await ask_often(lb, 4) == {"a": 2, "c": 2}
                other = lb.group().targets[1]
                assert health_in_status(other, used=True)["state"] == "unused"
                await lb.reload(targets=at(b.port, zones="2"))
                assert await ask(lb) == "503"
                await lb.reload(cross_zone=True)
                assert await ask(lb) == "b"

    run(main())


def test_a_tcp_client_stays_with_its_target() -> None:
    async def main() -> None:
        async with origins(*named(3)) as three:
            group = {"protocol": "TCP", "algorithm": "consistent_hash"}
            async with balancing(*(o.port for o in three), protocol="TCP", group=group) as lb:
                request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
                answers = {(await lb.exchange(request, half_close=True))[-1:] for _ in range(9)}
                assert len(answers) == 1
                assert answers < set(NAMES)

    run(main())
