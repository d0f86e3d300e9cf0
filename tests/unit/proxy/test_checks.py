"""Probes: what each answer means, when each probe starts, and that nothing is left when they are stopped.

Answers are tested over loopback sockets on uvloop. Times are tested without any: a probe that the firewall denies
opens nothing, so on a loop whose clock jumps to the next timer an hour of checking takes no time.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from penstock.proxy.checks import AT_ONCE, RECHECK, SPREAD, Checker
from penstock.proxy.health import CheckKey, HealthTable, TargetHealth
from penstock.proxy.specs import CertificateSpec, HealthCheckSpec
from penstock.proxy.tls import server_context
from support import Exchange, Origin, Reply, free_port, hang, reset, response, run

Report = tuple[bool, str, str]

HTTP = HealthCheckSpec(path="/health?deep=1", timeout=5.0)
MALFORMED = (False, "Target.FailedHealthChecks", "Health checks failed: the answer is not HTTP/1.1.")
CUT_SHORT = (
    False,
    "Target.FailedHealthChecks",
    "Health checks failed: the target closed the connection without an answer.",
)
PASSED = (True, "", "")


class RecordingTable(HealthTable):
    """Keeps what was reported, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: asyncio.Queue[Report] = asyncio.Queue()

    def observe(self, key: CheckKey, ok: bool, reason: str, description: str, now: float) -> bool:
        self.reports.put_nowait((ok, reason, description))
        return super().observe(key, ok, reason, description, now)


def allow(_: CheckKey) -> None:
    return None


def checker(table: HealthTable, connect_allowed: Callable[[CheckKey], str | None] = allow) -> Checker:
    return Checker(table, connect_allowed=connect_allowed, rng=random.Random(1))


async def check_once(key: CheckKey, connect_allowed: Callable[[CheckKey], str | None] = allow) -> Report:
    table = RecordingTable()
    probes = checker(table, connect_allowed)
    probes.apply([key])
    try:
        return await table.reports.get()
    finally:
        await probes.stop()


# -- what an answer means ----------------------------------------------------------------------------------------------


def close_after(answer: bytes) -> Reply:
    async def reply(exchange: Exchange) -> None:
        exchange.writer.write(answer)
        exchange.writer.close()

    return reply


def code(status: int) -> Report:
    return (False, "Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]")


@pytest.mark.parametrize(
    ("reply", "report"),
    [
        pytest.param(close_after(response()), PASSED, id="200"),
        pytest.param(close_after(response(status=399)), PASSED, id="399"),
        pytest.param(close_after(response(status=400)), code(400), id="400"),
        pytest.param(close_after(response(status=503)), code(503), id="503"),
        pytest.param(close_after(b"HTTP/1.0 204\r\n\r\n"), PASSED, id="no phrase and not even a space"),
        pytest.param(close_after(b"HTTP/1.1 200 \r\n\r\n"), PASSED, id="empty phrase"),
        pytest.param(close_after(b"HTTP/1.1 200 \xc3\xa9\r\n"), PASSED, id="the head need not be whole"),
        pytest.param(
            close_after(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 No\r\n\r\n"), code(503), id="hints"
        ),
        pytest.param(close_after(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), code(101), id="101 is final"),
        pytest.param(close_after(b"HTTP/1.1 100 Continue\r\n\r\n" * 99), MALFORMED, id="interim answers for ever"),
        pytest.param(close_after(b"HTTP/1.1 999 Strange\r\n\r\n"), code(999), id="999"),
        pytest.param(close_after(b"HTTP/1.1 0200 OK\r\n\r\n"), MALFORMED, id="four digits"),
        pytest.param(
            close_after("HTTP/1.1 \uff12\uff10\uff10 OK\r\n\r\n".encode()), MALFORMED, id="digits, but not ASCII"
        ),
        pytest.param(close_after(b"HTTP/1.1 +20 OK\r\n\r\n"), MALFORMED, id="a sign"),
        pytest.param(close_after(b"HTTP/2 200\r\n\r\n"), MALFORMED, id="another version"),
        pytest.param(close_after(b"SSH-2.0-OpenSSH\r\n"), MALFORMED, id="another protocol"),
        pytest.param(close_after(b"HTTP/1.1 200 OK\n\n"), CUT_SHORT, id="bare line feeds"),
        pytest.param(close_after(b"HTTP/1.1 200 O\rK\r\n\r\n"), MALFORMED, id="bare carriage return"),
        pytest.param(close_after(b"HTTP/1.1 200 " + b"x" * 9000), MALFORMED, id="a line without end"),
        pytest.param(close_after(b"HTTP/1.1 200 " + b"x" * 9000 + b"\r\n"), MALFORMED, id="a line too long"),
        pytest.param(close_after(b""), CUT_SHORT, id="nothing"),
        pytest.param(
            reset, (False, "Target.FailedHealthChecks", "Health checks failed: connection reset by peer."), id="reset"
        ),
        pytest.param(response(b"x" * 1_000_000), PASSED, id="more than is read"),
    ],
)
def test_answers(reply: Reply, report: Report) -> None:
    async def scenario() -> Report:
        async with Origin(reply) as origin:
            return await check_once(CheckKey("127.0.0.1", origin.port, HTTP))

    assert run(scenario()) == report


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_request_is_albs(address: str, host: str) -> None:
    async def scenario() -> tuple[bytes, int]:
        async with Origin(address=address) as origin:
            assert await check_once(CheckKey(address, origin.port, HTTP)) == PASSED
            (request,) = origin.requests
            return request.wire, origin.port

    wire, port = run(scenario())
    assert (
        wire
        == (
            f"GET /health?deep=1 HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "User-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n"
        ).encode()
    )


def test_the_matcher_decides_which_codes_pass() -> None:
    async def scenario(status: int) -> bool:
        check = replace(HTTP, matcher=((200, 200), (301, 302)))
        async with Origin(close_after(response(status=status))) as origin:
            return (await check_once(CheckKey("127.0.0.1", origin.port, check)))[0]

    assert [status for status in (200, 201, 300, 301, 302, 303) if run(scenario(status))] == [200, 301, 302]


def test_an_origin_that_still_writes_is_not_left_in_the_middle() -> None:
    """The head and the body come in two pieces, and the connection is there for the second one too."""
    gone: asyncio.Queue[bool] = asyncio.Queue()

    async def slow(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        await asyncio.sleep(0.02)
        gone.put_nowait(exchange.reader.at_eof())
        exchange.writer.write(b"ok\n")
        exchange.writer.write_eof()
        assert await exchange.reader.read() == b""

    async def scenario() -> tuple[Report, bool]:
        table = RecordingTable()
        probes = checker(table)
        async with Origin(slow) as origin:
            probes.apply([CheckKey("127.0.0.1", origin.port, HTTP)])
            outcome = await table.reports.get(), await gone.get()
            await probes.stop()
            return outcome

    assert run(scenario()) == (PASSED, False)


def test_an_origin_that_never_closes_passes_at_once_and_is_left_soon() -> None:
    async def scenario() -> tuple[list[Report], int]:
        table = RecordingTable()
        probes = checker(table)
        async with Origin(response()) as origin:  # keeps the connection open, whatever it was asked
            probes.apply([CheckKey("127.0.0.1", origin.port, replace(HTTP, interval=0.01, timeout=0.1))])
            reports = [await table.reports.get() for _ in range(2)]
            await probes.stop()
            return reports, origin.connections

    assert run(scenario()) == ([PASSED, PASSED], 2)


def test_a_timeout_is_for_connection_and_answer() -> None:
    async def drip(exchange: Exchange) -> None:
        while True:
            exchange.writer.write(b"H")
            await asyncio.sleep(0.01)

    async def scenario(reply: Reply) -> Report:
        async with Origin(reply) as origin:
            return await check_once(CheckKey("127.0.0.1", origin.port, replace(HTTP, timeout=0.05)))

    for reply in (hang, drip):
        assert run(scenario(reply)) == (False, "Target.Timeout", "Request timed out.")


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS", "TCP"])
def test_nobody_listens(protocol: Any) -> None:
    key = CheckKey("127.0.0.1", free_port(), replace(HTTP, protocol=protocol))
    refused = (False, "Target.FailedHealthChecks", "Health checks failed: connection refused.")
    assert run(check_once(key)) == refused


def test_tcp_is_a_connection_and_nothing_more() -> None:
    async def scenario() -> tuple[Report, bytes]:
        sent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sent.set_result(await reader.read())
            writer.close()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            report = await check_once(CheckKey("127.0.0.1", port, replace(HTTP, protocol="TCP")))
            return report, await sent

    assert run(scenario()) == (PASSED, b"")


def test_https_does_not_ask_who_the_target_is(issue: Callable[..., CertificateSpec]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response())
        writer.close()

    async def scenario() -> Report:
        context = server_context((issue("elsewhere.example.org"),), "TLS-1-2")
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            return await check_once(CheckKey("127.0.0.1", port, replace(HTTP, protocol="HTTPS")))

    assert run(scenario()) == PASSED


def test_https_against_a_target_that_speaks_none() -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scenario() -> Report:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await check_once(CheckKey("127.0.0.1", port, replace(HTTP, protocol="HTTPS")))

    ok, reason, description = run(scenario())
    assert (ok, reason) == (False, "Target.FailedHealthChecks")
    assert description == "Health checks failed: TLS handshake: wrong version number."


def test_a_denied_connection_is_not_opened() -> None:
    sentence = "egress of security group web-sg allows nothing to 127.0.0.1."

    async def scenario() -> tuple[Report, int]:
        async with Origin() as origin:
            report = await check_once(CheckKey("127.0.0.1", origin.port, HTTP), lambda _: sentence)
            return report, origin.connections

    assert run(scenario()) == ((False, "Target.FailedHealthChecks", sentence), 0)


def test_a_mistake_of_ours_is_a_failed_check_and_the_next_follows() -> None:
    verdicts: list[str | Exception] = [KeyError("oops"), "denied"]

    def judge(_: CheckKey) -> str:
        verdict = verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def scenario() -> list[Report]:
        table = RecordingTable()
        probes = checker(table, judge)
        probes.apply([CheckKey("192.0.2.1", 80, replace(HTTP, interval=0.01))])
        reports = [await table.reports.get(), await table.reports.get()]
        await probes.stop()
        return reports

    assert run(scenario()) == [
        (False, "Elb.InternalError", "The check itself failed: KeyError('oops')."),
        (False, "Target.FailedHealthChecks", "denied"),
    ]


def test_a_subscriber_that_fails_does_not_end_the_checks() -> None:
    complaints: list[dict[str, Any]] = []

    async def scenario() -> TargetHealth:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        table = RecordingTable()
        table.subscribe(lambda _: {}["missing"])
        async with Origin() as origin:
            key = CheckKey("127.0.0.1", origin.port, replace(HTTP, interval=0.01))
            probes = checker(table)
            probes.apply([key])
            for _ in range(3):
                await table.reports.get()
            await probes.stop()
        return table.view[key]

    assert run(scenario()).state == "healthy"
    assert [context["message"] for context in complaints] == ["a subscriber of the health table failed"]


# -- when a probe starts -----------------------------------------------------------------------------------------------


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """When nothing is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        assert ready or timeout is not None, "deadlock: no timer and no ready socket"
        if not ready and timeout:
            self._loop.now += timeout
        return ready


class Chance:
    """The same number always: 0.5 is no jitter at all."""

    def __init__(self, number: float = 0.5) -> None:
        self._number = number

    def random(self) -> float:
        return self._number


def schedule(
    play: Callable[[Checker, HealthTable], Coroutine[Any, Any, None]], rng: Any
) -> list[tuple[float, CheckKey]]:
    """When which probe began while `play` ran. All are denied, so all fail."""
    began: list[tuple[float, CheckKey]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def deny(key: CheckKey) -> str:
            began.append((round(loop.time(), 6), key))
            return "denied"

        table = HealthTable()
        probes = Checker(table, connect_allowed=deny, rng=rng, clock=loop.time)
        await play(probes, table)
        await probes.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())
    return began


def keys(count: int, check: HealthCheckSpec) -> list[CheckKey]:
    return [CheckKey(f"192.0.2.{number}", 80, check) for number in range(1, count + 1)]


def test_at_once_then_soon_until_settled_then_by_interval() -> None:
    async def play(probes: Checker, table: HealthTable) -> None:
        (key,) = keys(1, HealthCheckSpec(interval=30, unhealthy_threshold=3))
        probes.apply([key])
        await asyncio.sleep(1.5)
        assert table.view[key].state == "initial"
        await asyncio.sleep(98.5)
        assert table.view[key].state == "unhealthy"
        assert table.view[key].since == 2 * RECHECK

    assert [when for when, _ in schedule(play, Chance())] == [0, 1, 2, 32, 62, 92]


def test_a_short_interval_is_not_lengthened_while_changing() -> None:
    async def play(probes: Checker, _: HealthTable) -> None:
        probes.apply(keys(1, HealthCheckSpec(interval=0.5, unhealthy_threshold=3)))
        await asyncio.sleep(1.9)

    assert [when for when, _ in schedule(play, Chance())] == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize(("number", "second"), [(0.0, 8.0), (0.5, 10.0), (0.999999, 12.0)])
def test_jitter_is_a_fifth_either_way(number: float, second: float) -> None:
    async def play(probes: Checker, _: HealthTable) -> None:
        probes.apply(keys(1, HealthCheckSpec(interval=10, unhealthy_threshold=1)))
        await asyncio.sleep(15)

    assert [when for when, _ in schedule(play, Chance(number))] == [0, pytest.approx(second, abs=0.001)]


def test_many_first_probes_are_spread() -> None:
    many = keys(200, HealthCheckSpec(interval=30))

    async def play(probes: Checker, _: HealthTable) -> None:
        probes.apply(many)
        await asyncio.sleep(SPREAD)

    firsts: dict[CheckKey, float] = {}
    for when, key in schedule(play, random.Random(7)):
        firsts.setdefault(key, when)
    assert list(firsts)[:AT_ONCE] == many[:AT_ONCE]
    assert all(firsts[key] == 0 for key in many[:AT_ONCE])
    later = [firsts[key] for key in many[AT_ONCE:]]
    assert all(0 < when <= SPREAD for when in later)
    assert len({round(when, 1) for when in later}) >= 10


def test_apply_works_by_difference() -> None:
    one, two, three = keys(3, HealthCheckSpec(interval=10, unhealthy_threshold=1))

    async def play(probes: Checker, table: HealthTable) -> None:
        probes.apply([one, two, one])  # wanted twice, probed once
        await asyncio.sleep(15)
        before = table.view[two]
        probes.apply([two, three])
        assert set(table.view) == {two, three}
        assert table.view[two] is before
        await asyncio.sleep(10)
        probes.apply([])
        assert not table.view
        await asyncio.sleep(100)

    began = schedule(play, Chance())
    assert [when for when, key in began if key == one] == [0, 10]
    assert [when for when, key in began if key == two] == [0, 10, 20]
    assert [when for when, key in began if key == three] == [15]


# -- ending ------------------------------------------------------------------------------------------------------------

Play = Callable[[Checker, HealthTable, CheckKey], Awaitable[None]]


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS", "TCP"])
@pytest.mark.parametrize("how", ["stop", "apply"])
def test_ending_at_any_moment_leaves_nothing_and_counts_nothing(protocol: Any, how: str) -> None:
    """The target accepts and says nothing. `run` and the fixture for descriptors look for what is left."""

    async def scenario(turns: int) -> None:
        async with Origin(hang) as origin:
            key = CheckKey("127.0.0.1", origin.port, replace(HTTP, protocol=protocol))
            table = RecordingTable()
            probes = checker(table)
            probes.apply([key])
            for _ in range(turns):
                await asyncio.sleep(0)
            if how == "apply":
                probes.apply([])
            await probes.stop()
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("check ")]
            if protocol != "TCP":
                assert table.reports.empty()

    for turns in range(15):
        run(scenario(turns))


def test_a_cancelled_owner_may_stop_in_its_finally() -> None:
    async def owner(key: CheckKey, probes: Checker) -> None:
        try:
            probes.apply([key])
            await asyncio.Event().wait()
        finally:
            await probes.stop()

    async def scenario() -> tuple[list[Report], TargetHealth]:
        asked = asyncio.Event()

        async def never(exchange: Exchange) -> None:
            asked.set()
            await hang(exchange)

        async with Origin(never) as origin:
            table = RecordingTable()
            key = CheckKey("127.0.0.1", origin.port, HTTP)
            task = asyncio.create_task(owner(key, checker(table)))
            await asked.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            return [table.reports.get_nowait() for _ in range(table.reports.qsize())], table.view[key]

    reports, record = run(scenario())
    assert reports == []
    assert (record.state, record.consecutive) == ("initial", 0)
