"""A request that one target lets down is another one's, where that is safe; and never more of them than the budget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.proxy.specs import GroupLimits, RetrySpec
from support import Exchange, Origin, Reply, hang, reset, response, run
from support.balancer import Balancer, balancing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
QUICK: dict[str, Any] = {"retries": RetrySpec(backoff=0.001)}


async def close(exchange: Exchange) -> None:
    exchange.writer.close()


async def half_a_head(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await exchange.writer.drain()
    exchange.writer.close()


async def half_an_answer(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await exchange.writer.drain()
    exchange.writer.close()


async def hint_and_reset(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await exchange.writer.drain()
    await asyncio.sleep(0.02)
    await reset(exchange)


def retries(balancer: Balancer) -> int:
    return sum(target.counters.retries for target in balancer.group().targets)


async def statuses(balancer: Balancer, request: bytes, count: int) -> list[bytes]:
    """Each on a connection of its own."""
    closing = request.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n")
    return [(await balancer.exchange(closing))[9:12] for _ in range(count)]


@pytest.mark.parametrize("fault", [reset, close, half_a_head])
def test_a_connection_that_breaks_before_the_answer_costs_a_get_nothing(fault: Reply) -> None:
    async def main() -> None:
        async with (
            Origin(fault) as bad,
            Origin(response(b"fine")) as good,
            balancing(bad.port, good.port, group=QUICK) as balancer,
        ):
            assert await statuses(balancer, GET, 6) == [b"200"] * 6
            assert 0 < len(bad.requests) == retries(balancer)
            assert balancer.group().budget.active == 0
            assert {record.target for record in balancer.log} == {f"127.0.0.1:{good.port}"}

    run(main())


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_answer_as_good_as_none_is_not_passed_on_while_another_target_may_know_better(status: int) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"no", status=status)) as bad,
            Origin(response(b"fine")) as good,
            balancing(bad.port, good.port, group=QUICK) as balancer,
        ):
            assert await statuses(balancer, GET, 6) == [b"200"] * 6
            assert len(bad.requests) > 0
            assert await statuses(balancer, POST, 2) in ([b"200", str(status).encode()], [str(status).encode(), b"200"])
            await balancer.reload(targets=balancer.spec.target_groups[0].targets[:1])
            assert await statuses(balancer, GET, 1) == [str(status).encode()], "with nobody else it is the answer"
            assert balancer.group().budget.active == 0

    run(main())


@pytest.mark.parametrize(
    ("request_", "fault", "status"),
    [
        (POST, reset, b"502"),
        (GET, half_an_answer, b"200"),  # begun, and cut short
        (GET, hint_and_reset, b"103"),  # something of it was relayed
        (GET, response(b"no", status=500), b"500"),  # the application's own word
        (GET, b"HTP/1.1 200 OK\r\n\r\n", b"502"),  # it answers, and would answer so again
    ],
)
def test_what_is_not_repeated(request_: bytes, fault: Reply, status: bytes) -> None:
    async def main() -> None:
        async with Origin(fault) as one, Origin(fault) as two, balancing(one.port, two.port, group=QUICK) as balancer:
            assert await statuses(balancer, request_, 1) == [status]
            assert len(one.requests) + len(two.requests) == 1
            assert retries(balancer) == 0

    run(main())


def test_attempts_are_counted_and_none_is_none() -> None:
    async def main() -> None:
        async with Origin(reset) as one, Origin(reset) as two, Origin(reset) as three:
            ports = one.port, two.port, three.port
            for attempts in (0, 1, 2):
                before = sum(len(origin.requests) for origin in (one, two, three))
                group = {"retries": RetrySpec(attempts=attempts, backoff=0.001)}
                async with balancing(*ports, group=group) as balancer:
                    assert await statuses(balancer, GET, 1) == [b"502"]
                    assert balancer.log[-1].reason == "target_closed"
                assert sum(len(origin.requests) for origin in (one, two, three)) == before + 1 + attempts

    run(main())


def test_the_budget_bounds_how_many_are_out_at_once() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await gate.wait()
            exchange.writer.write(response(b"fine"))

        group = {"retries": RetrySpec(backoff=0.0, budget_percent=0, budget_minimum=2)}
        async with (
            Origin(reset) as bad,
            Origin(wait) as good,
            balancing(bad.port, good.port, group=group) as balancer,
        ):
            asked = [asyncio.create_task(balancer.exchange(LAST)) for _ in range(10)]
            while len(bad.requests) + len(good.requests) < 10 + 2:
                await asyncio.sleep(0.001)
            over_budget = len(bad.requests) - 2
            assert over_budget > 0
            assert balancer.group().budget.active == 2
            gate.set()
            answers = [await task for task in asked]
            assert sum(answer.startswith(b"HTTP/1.1 502 ") for answer in answers) == over_budget
            assert balancer.group().budget.active == 0
            [first, _] = balancer.group().targets
            assert first.counters.failed["retry_budget_spent"] == over_budget

    run(main())


def test_a_client_that_leaves_during_the_pause_leaves_nothing_behind() -> None:
    asked: list[bytes] = []

    async def reset_then_hang(exchange: Exchange) -> None:
        asked.append(exchange.request.line)
        await (reset if len(asked) == 1 else hang)(exchange)

    async def main() -> None:
        group = {"retries": RetrySpec(backoff=0.05)}
        async with (
            Origin(reset_then_hang) as one,
            Origin(reset_then_hang) as two,
            balancing(one.port, two.port, group=group) as balancer,
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            while not balancer.group().budget.active:
                await asyncio.sleep(0.001)
            writer.close()
            while balancer.group().budget.active:
                await asyncio.sleep(0.001)
            assert balancer.log[-1].status == 460

    run(main())


@pytest.mark.parametrize("request_", [GET, POST, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"])
def test_a_connection_that_its_target_closes_as_it_is_used_is_never_a_502(request_: bytes) -> None:
    """The target answers one request of each connection and resets at the second, as if its own timer had run out."""
    count: dict[int, int] = {}

    async def once(exchange: Exchange) -> None:
        number = exchange.request.connection
        count[number] = count.get(number, 0) + 1
        if count[number] > 1:
            await reset(exchange)
        else:
            exchange.writer.write(response(b"fine"))

    async def main() -> None:
        async with Origin(once) as origin, balancing(origin.port) as balancer:
            for _ in range(5):
                assert await statuses(balancer, request_, 1) == [b"200"]
                for upstream in balancer.group().targets[0].idle:
                    upstream.idle_until -= 2.0  # it was last used two seconds ago
            assert origin.connections == 5

    run(main())


def test_what_cannot_be_repeated_uses_a_kept_connection_that_is_in_use() -> None:
    async def main() -> None:
        async with Origin(response(b"fine")) as origin, balancing(origin.port) as balancer:
            balancer.proxy.clock.now += 0.0
            assert await statuses(balancer, POST, 1) == [b"200"]
            idle = balancer.group().targets[0].idle[0]
            assert idle.idle_since == balancer.proxy.clock.now
            assert await statuses(balancer, POST, 1) == [b"200"]
            assert origin.connections == 1

    run(main())


def test_full_targets_pass_a_request_on_then_let_it_wait_then_refuse_it() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await gate.wait()
            exchange.writer.write(response(b"fine"))

        group = {"limits": GroupLimits(connections=1, queue=1, queue_timeout=20.0)}
        async with Origin(wait) as one, Origin(wait) as two, balancing(one.port, two.port, group=group) as balancer:
            targets = balancer.group().targets

            async def ask(in_flight: int, waiting: int) -> asyncio.Task[bytes]:
                task = asyncio.create_task(balancer.exchange(LAST))
                while (
                    sum(target.in_flight for target in targets) != in_flight
                    or sum(len(target.waiting) for target in targets) != waiting
                ):
                    await asyncio.sleep(0.001)
                return task

            first = [await ask(1, 0), await ask(2, 0), await ask(2, 1), await ask(2, 2)]
            refused = await balancer.exchange(LAST)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert balancer.log[-1].reason == "target_queue_full"
            gate.set()
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in await asyncio.gather(*first))
            assert (one.connections, two.connections) == (1, 1), "a connection that became free was handed on"

    run(main())


def test_a_place_that_does_not_come_free_in_time_is_503_and_a_client_that_leaves_waits_no_longer() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            await gate.wait()
            exchange.writer.write(response(b"fine"))

        group = {"limits": GroupLimits(connections=1, queue=8, queue_timeout=0.05)}
        async with Origin(wait) as origin, balancing(origin.port, group=group) as balancer:
            [target] = balancer.group().targets
            first = asyncio.create_task(balancer.exchange(LAST))
            while not origin.requests:
                await asyncio.sleep(0.001)
            late = await balancer.exchange(LAST)
            assert late.startswith(b"HTTP/1.1 503 ")
            assert balancer.log[-1].reason == "target_queue_timeout"
            assert target.counters.failed["target_queue_timeout"] == 1
            assert not target.waiting

            _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET)
            while not target.waiting:
                await asyncio.sleep(0.001)
            writer.close()
            while target.waiting:
                await asyncio.sleep(0.001)
            assert target.in_flight == 1
            gate.set()
            assert (await first).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_a_body_that_waits_for_its_target_is_neither_lost_nor_kept_without_bound() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        body = bytes(range(256)) * 8192

        async def wait(exchange: Exchange) -> None:
            await gate.wait()
            exchange.writer.write(response(b"fine"))

        group = {"limits": GroupLimits(connections=1, queue=8, queue_timeout=20.0)}
        async with Origin(wait) as origin, balancing(origin.port, group=group) as balancer:
            [target] = balancer.group().targets
            first = asyncio.create_task(balancer.exchange(LAST))
            while not origin.requests:
                await asyncio.sleep(0.001)
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            second = asyncio.create_task(balancer.exchange(head + body))
            while not target.waiting:
                await asyncio.sleep(0.001)
            for _ in range(100):
                await asyncio.sleep(0)
            assert balancer.listener.counters.bytes_in < len(body)
            gate.set()
            assert (await first).startswith(b"HTTP/1.1 200 ")
            assert (await second).startswith(b"HTTP/1.1 200 ")
            assert origin.requests[1].body == body
            assert balancer.log[1].received_bytes == len(head) + len(body)

    run(main())
