"""Filters that fail, hang and hear of the end; how long they live; and that the process goes on whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from penstock.proxy.filters import Request, Response, Target, TargetResponse
from penstock.proxy.log_lines import AccessRecord
from penstock.proxy.specs import FixedResponse, ListenerLimits
from support import Origin, run
from support.balancer import Balancer, balancing
from support.filters import Filter, filters, installed, until
from support.http2 import GET as GET2
from support.http2 import Client

GET = b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("phase", ["on_request", "pick", "on_upstream_request", "on_response"])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_a_filter_that_fails_is_500_and_the_process_goes_on(
    phase: str, waits: bool, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Any, *_: Any) -> None:
        raise RuntimeError("out of order")

    async def fail_later(self: Any, *_: Any) -> None:
        await asyncio.sleep(0)
        fail(self)

    kind = type("Fails", (Filter,), {phase: fail_later if waits else fail})

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, **installed(kind)) as balancer:
            for _ in range(3):
                if version == 1:
                    status = (await balancer.exchange(GET))[9:12]
                else:
                    async with Client(balancer.port) as client:
                        status = (await client.ask(GET2)).status
                assert status == b"500"
            assert balancer.listener.counters.failed == {"filter_failed": 3}
            assert [record.reason for record in balancer.log] == ["filter_failed"] * 3

    run(main())
    [told] = [record for record in caplog.records if "filter it" in record.getMessage()]
    assert told.getMessage() == f"filter it, {phase}: RuntimeError: out of order"
    assert told.exc_info is not None


def test_what_cannot_be_sent_or_is_no_answer_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    class Splits(Filter):
        def on_request(self, request: Request) -> Any:
            if request.path == "/split":
                request.headers["x-word"] = "a\r\nx-other: b"
            return "no response" if request.path == "/text" else None

        def pick(self, request: Request, targets: Sequence[Target]) -> Any:
            return targets[0].key

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, **installed(Splits)) as balancer:
            for path in (b"/split", b"/text", b"/key"):
                assert (await balancer.exchange(GET.replace(b"/a?b=c", path)))[9:12] == b"500"
            assert not origin.requests

    run(main())
    assert [record.getMessage().partition(":")[0] for record in caplog.records if "filter" in record.message] == [
        "filter it, on_request",
        "filter it, pick",
    ]


class Hangs(Filter):
    hanging: ClassVar[int] = 0

    async def on_request(self, request: Request) -> None:
        if request.path != "/answer":
            await self._hang()

    async def on_response(self, request: Request, response: TargetResponse) -> None:
        await self._hang()

    async def _hang(self) -> None:
        type(self).hanging += 1
        try:
            await asyncio.sleep(3600)
        finally:
            type(self).hanging -= 1


@pytest.mark.parametrize("path", [b"/request", b"/answer"])
def test_a_filter_that_hangs_is_504(path: bytes) -> None:
    async def main() -> None:
        limits = ListenerLimits(filter_timeout=0.05)
        async with Origin() as origin, balancing(origin.port, limits=limits, **installed(Hangs)) as balancer:
            assert (await balancer.exchange(GET.replace(b"/a?b=c", path)))[9:12] == b"504"
            assert balancer.log[0].reason == "filter_timeout"
            assert Hangs.hanging == 0

    run(main())


@pytest.mark.parametrize("path", [b"/request", b"/answer"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_filter_is_cancelled_when_its_client_leaves(path: bytes, version: int) -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, **installed(Hangs)) as balancer:
            if version == 1:
                _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                writer.write(GET.replace(b"/a?b=c", path))
                await until(lambda: Hangs.hanging == 1)
                writer.close()
            else:
                async with Client(balancer.port) as client:
                    client.send([*GET2[:3], (b":path", path)])
                    await until(lambda: Hangs.hanging == 1)
            await until(lambda: Hangs.hanging == 0 and balancer.log)
            assert (balancer.log[0].status, balancer.log[0].reason) == (460, "client_closed")

    run(main())


class Logs(Filter):
    records: ClassVar[list[tuple[str, AccessRecord]]] = []

    def on_log(self, record: AccessRecord) -> None:
        self.records.append((self.word, record))
        record.uri = record.uri.partition(b"?")[0]


def test_every_request_is_told_once_and_the_log_has_what_a_filter_left_of_it(caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(Filter):
        def on_log(self, record: AccessRecord) -> None:
            raise RuntimeError("no disk")

    async def main() -> None:
        Logs.records.clear()
        both = {"installed": {"logs": Logs, "breaks": Breaks}, **filters("logs", "breaks")}
        async with Origin() as origin, balancing(origin.port, **both) as balancer:
            assert balancer.listener.plan.only_route.filters is None, "requests go the way of those without filters"
            await balancer.exchange(GET)
            await balancer.exchange(b"nonsense\r\n\r\n")
            assert [(record.uri, record.status) for _, record in Logs.records] == [(b"/a", 200), (b"", 400)]
            assert [record.uri for record in balancer.log] == [b"/a", b""]
            assert balancer.listener.counters.failed["filter_failed"] == 2
        async with Origin() as origin, balancing(origin.port, log=False, **both) as balancer:
            await balancer.exchange(GET)
            assert len(Logs.records) == 3, "without an access log too"

    run(main())
    assert sum("filter breaks, on_log" in record.getMessage() for record in caplog.records) == 2, "one of each instance"


def test_an_asynchronous_log_is_finished_before_the_end() -> None:
    told: list[int] = []

    class Slow(Filter):
        async def on_log(self, record: AccessRecord) -> None:
            await asyncio.sleep(0.05)
            told.append(record.status)

        async def stop(self) -> None:
            told.append(0)

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, **installed(Slow)) as balancer:
            await balancer.exchange(GET)
            assert told == []

    run(main())
    assert told == [200, 0]


class Lives(Filter):
    events: ClassVar[list[str]] = []

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.gate = asyncio.Event()
        self.events.append(f"made {self.word}")

    async def start(self) -> None:
        if self.word == "broken":
            raise OSError("nobody is there")
        self.events.append(f"started {self.word}")

    async def stop(self) -> None:
        self.events.append(f"stopped {self.word}")

    async def on_request(self, request: Request) -> Response:
        if request.path == "/wait":
            await self.gate.wait()
        return Response(200, self.word)


def test_a_filter_lives_as_long_as_it_is_wanted_and_used() -> None:
    async def main() -> None:
        Lives.events.clear()
        async with balancing(**{**installed(Lives), **filters("it", word="one")}) as balancer:
            first = live(balancer)
            await balancer.reload(default_action=FixedResponse(200))
            assert live(balancer) is first, "what did not change stays"
            waiting = asyncio.create_task(balancer.exchange(GET.replace(b"/a?b=c", b"/wait")))
            await until(lambda: balancer.listener.counters.requests)
            await balancer.reload(**filters("it", word="two"))
            assert (await balancer.exchange(GET)).endswith(b"two")
            assert Lives.events == ["made one", "started one", "made two", "started two"]
            first.gate.set()
            assert (await waiting).endswith(b"one"), "a request keeps the filters that it began with"
            await until(lambda: "stopped one" in Lives.events)
            with pytest.raises(ValueError, match="filter it does not start: OSError: nobody is there"):
                await balancer.reload(**filters("it", word="broken"))
            with pytest.raises(ValueError, match="no filter is named other"):
                await balancer.reload(**filters("other"))
            assert (await balancer.exchange(GET)).endswith(b"two")
            aborted = await balancer.proxy.prepare(replace_listener(balancer, **filters("it", word="three")))
            aborted.abort()
            await until(lambda: "stopped three" in Lives.events)
        assert Lives.events[-1] == "stopped two"

    run(main())


def live(balancer: Balancer) -> Any:
    return balancer.listener.plan.default.filters.filters[0].instance


def replace_listener(balancer: Balancer, **changes: Any) -> Any:
    return replace(balancer.proxy.spec, listeners=(replace(balancer.proxy.spec.listeners[0], **changes),))


@pytest.mark.parametrize("path", [b"/request", b"/answer"])
@pytest.mark.parametrize("ending", ["answers", "raises"])
def test_a_filter_that_does_not_heed_the_end_is_not_heard(path: bytes, ending: str) -> None:
    class Stubborn(Hangs):
        async def _hang(self) -> Any:
            try:
                await super()._hang()
            except asyncio.CancelledError:
                if ending == "raises":
                    raise RuntimeError("I was not done") from None
                return Response(200, "too late")

    async def main() -> None:
        Stubborn.hanging = 0
        limits = ListenerLimits(filter_timeout=0.05)
        async with Origin() as origin, balancing(origin.port, limits=limits, **installed(Stubborn)) as balancer:
            assert (await balancer.exchange(GET.replace(b"/a?b=c", path)))[9:12] == b"504"
        async with Origin() as origin, balancing(origin.port, **installed(Stubborn)) as balancer:
            _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(GET.replace(b"/a?b=c", path))
            await until(lambda: Stubborn.hanging == 1)
            writer.close()
            await until(lambda: Stubborn.hanging == 0 and balancer.log)
            assert [(record.status, record.reason) for record in balancer.log] == [(460, "client_closed")]

    run(main())
