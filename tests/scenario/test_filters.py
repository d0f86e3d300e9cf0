"""Filters meet real requests: each phase, synchronous and not, over both versions of HTTP, over retries and reloads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from penstock.proxy.filters import Request, Response, Target, TargetResponse
from penstock.proxy.specs import (
    Conditions,
    FilterSpec,
    FixedResponse,
    GroupLimits,
    Redirect,
    RetrySpec,
    RuleSpec,
)
from support import Exchange, Origin, reset, response, run
from support.balancer import balancing
from support.filters import Filter, filters, installed, until
from support.http2 import GET as GET2
from support.http2 import Client, Http2Origin, reply

GET = b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX-Old: 1\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"


class Changes(Filter):
    """Every phase, none of which waits."""

    def on_request(self, request: Request) -> Response | None:
        if request.path == "/forbidden":
            return Response(403, "no\n", {"x-why": self.word})
        request.path = "/changed" + request.path
        request.headers["x-word"] = f"{self.word} {request.method} {request.host} {request.client[0]}"
        del request.headers["user-agent" if "user-agent" in request.headers else "x-old"]
        return None

    def on_upstream_request(self, request: Request, target: Target) -> None:
        request.headers["x-target"] = f"{target.spec.ip} for {request.headers['x-forwarded-for']}"

    def on_response(self, request: Request, response: TargetResponse) -> Response | None:
        if response.status == 418:
            return Response(200, f"instead of {response.headers['x-kind']}\n")
        response.headers.add("x-answered", request.headers["x-target"][:9])
        if response.status == 201:
            response.status = 202
        return None


class ChangesLater(Filter):
    """The same, and every phase waits."""

    def __init__(self, config: Any) -> None:
        self._changes = Changes(config)

    async def on_request(self, request: Request) -> Response | None:
        await asyncio.sleep(0.01)
        return self._changes.on_request(request)

    async def on_upstream_request(self, request: Request, target: Target) -> None:
        await asyncio.sleep(0.01)
        self._changes.on_upstream_request(request, target)

    async def on_response(self, request: Request, response: TargetResponse) -> Response | None:
        await asyncio.sleep(0.01)
        return self._changes.on_response(request, response)


INSTALLED: dict[str, type[Any]] = {"changes": Changes, "changes_later": ChangesLater}
BOTH = pytest.mark.parametrize("name", ["changes", "changes_later"])


@BOTH
def test_http1_request_and_answer_are_changed(name: str) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"done", status=201)) as origin,
            balancing(origin.port, installed=INSTALLED, **filters(name, word="hey")) as balancer,
        ):
            answer = await balancer.exchange(GET)
            [sent] = origin.requests
            assert sent.target == b"/changed/a?b=c"
            assert sent.value(b"x-word") == b"hey GET example.org 127.0.0.1"
            assert sent.value(b"x-old") is None
            assert sent.value(b"x-target") == b"127.0.0.1 for 127.0.0.1"
            assert sent.value(b"x-forwarded-for") == b"127.0.0.1"
            assert answer.startswith(b"HTTP/1.1 202 Accepted\r\n")
            assert b"\r\nx-answered: 127.0.0.1\r\n" in answer
            assert answer.endswith(b"\r\n\r\ndone")
            [record] = balancer.log
            assert (record.uri, record.status, record.target_status) == (b"/a?b=c", 202, 202)

    run(main())


@BOTH
def test_http2_request_and_answer_are_changed(name: str) -> None:
    async def main() -> None:
        async with (
            Http2Origin(reply(b"201", b"done", [(b"grpc-status", b"0")])) as origin,
            balancing(
                origin.port, group={"protocol_version": "HTTP2"}, installed=INSTALLED, **filters(name)
            ) as balancer,
            Client(balancer.port) as client,
        ):
            headers = [*GET2, (b"user-agent", b"test"), (b"te", b"trailers")]
            answer = await client.ask(headers, [b"bo", b"dy"])
            [sent] = origin.requests
            assert dict(sent.headers)[b":path"] == b"/changed/"
            assert dict(sent.headers)[b"x-word"] == b"hello GET example.org 127.0.0.1"
            assert b"user-agent" not in dict(sent.headers)
            assert sent.body == b"body"
            assert answer.status == b"202"
            assert dict(answer.headers)[b"x-answered"] == b"127.0.0.1"
            assert answer.body == b"done"
            assert dict(answer.trailers) == {b"grpc-status": b"0"}

    run(main())


@BOTH
def test_a_filter_answers_and_the_connection_stays(name: str) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"teapot", status=418, headers=[("X-Kind", "pot")]), response(b"second")) as origin,
            balancing(origin.port, installed=INSTALLED, **filters(name)) as balancer,
        ):
            forbidden = b"GET /forbidden HTTP/1.1\r\nHost: a\r\nX-Old: 1\r\n\r\n"
            answer = await balancer.exchange(forbidden + forbidden.replace(b"/forbidden", b"/pot") + GET)
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\nDate: ")
            assert b"\r\nx-why: hello\r\nContent-Length: 3\r\n\r\nno\nHTTP/1.1 200 OK\r\n" in answer
            assert b"\r\n\r\ninstead of pot\nHTTP/1.1 200 Scripted\r\n" in answer
            assert answer.endswith(b"second")
            assert [record.status for record in balancer.log] == [403, 200, 200]
            assert [request.target for request in origin.requests] == [b"/changed/pot", b"/changed/a?b=c"]

    run(main())


@BOTH
def test_an_answer_before_the_body_came_ends_the_connection(name: str) -> None:
    async def main() -> None:
        async with balancing(installed=INSTALLED, **filters(name)) as balancer:
            answer = await balancer.exchange(b"POST /forbidden HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert b"\r\nConnection: close\r\n" in answer
            assert (await balancer.exchange(b"HEAD /forbidden HTTP/1.0\r\n\r\n")).endswith(b"Content-Length: 3\r\n\r\n")

    run(main())


@BOTH
@pytest.mark.parametrize("size", [4, 300_000])
def test_bodies_go_through(name: str, size: int) -> None:
    async def main() -> None:
        body = bytes(range(256)) * (size // 256 + 1)
        head = b"PUT /x HTTP/1.1\r\nHost: a\r\nX-Old: 1\r\nConnection: close\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        async with (
            Origin(response(body)) as origin,
            balancing(origin.port, installed=INSTALLED, **filters(name)) as balancer,
        ):
            for message in (head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), chunked):
                assert (await balancer.exchange(message)).endswith(b"\r\n\r\n" + body)
            assert [request.body for request in origin.requests] == [body, body]

    run(main())


@BOTH
def test_an_answer_that_breaks_off_is_seen_to(name: str) -> None:
    async def half(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await exchange.writer.drain()
        exchange.writer.close()

    async def main() -> None:
        async with (
            Origin(half) as origin,
            balancing(origin.port, installed=INSTALLED, **filters(name)) as balancer,
        ):
            answer = await balancer.exchange(GET.replace(b"Connection: close\r\n", b""))
            assert answer.endswith(b"Content-Length: 10\r\n\r\nhalf")
            assert balancer.log[0].reason == "target_closed"

    run(main())


def test_redirects_and_fixed_answers_come_after_filters() -> None:
    async def main() -> None:
        rules = (RuleSpec(1, Conditions(path=("/old",)), Redirect(path="/new")),)
        async with balancing(
            rules=rules, default_action=FixedResponse(200, body="fixed"), installed=INSTALLED, **filters("changes")
        ) as balancer:
            assert (await balancer.exchange(GET.replace(b"/a?b=c", b"/forbidden"))).startswith(b"HTTP/1.1 403 ")
            assert (await balancer.exchange(GET)).endswith(b"\r\n\r\nfixed")
            assert b"Location: http://example.org:" in await balancer.exchange(GET.replace(b"/a?b=c", b"/old"))

    run(main())


def test_a_rules_filters_come_after_its_listeners_and_answers_the_other_way_round() -> None:
    class Trail(Filter):
        def on_request(self, request: Request) -> None:
            request.headers.add("x-trail", self.word)

        def on_response(self, request: Request, response: TargetResponse) -> None:
            response.headers.add("x-trail", f"{self.word} of rule {request.rule}")

    async def main() -> None:
        own = (FilterSpec("trail", '{"word": "rule"}'),)
        rules = (RuleSpec(7, Conditions(path=("/own",)), balancer_action(), filters=own),)
        async with (
            Origin() as origin,
            balancing(
                origin.port, rules=rules, installed={"trail": Trail}, **filters("trail", word="listener")
            ) as balancer,
        ):
            answer = await balancer.exchange(GET.replace(b"/a?b=c", b"/own"))
            assert b"x-trail: rule of rule 7\r\nx-trail: listener of rule 7\r\n" in answer
            assert b"x-trail: listener of rule default\r\n" in await balancer.exchange(GET)
            assert [request.values(b"x-trail") for request in origin.requests] == [
                [b"listener", b"rule"],
                [b"listener"],
            ]

    run(main())


def balancer_action() -> Any:
    from penstock.proxy.specs import Forward, WeightedGroup

    return Forward((WeightedGroup("tg"),))


class Picks(Filter):
    def pick(self, request: Request, targets: Sequence[Target]) -> Target | None:
        wanted = request.headers.get("x-pick")
        return next((target for target in targets if target.key == wanted), None)


class PicksLater(Filter):
    async def pick(self, request: Request, targets: Sequence[Target]) -> Target | None:
        await asyncio.sleep(0.01)
        return Picks.pick(self, request, targets)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Picks, PicksLater])
def test_a_filter_picks_the_target(kind: type[Any]) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"one")) as one,
            Origin(response(b"two")) as two,
            balancing(one.port, two.port, **installed(kind)) as balancer,
        ):
            for origin in (two, two, one, two):
                picked = GET.replace(b"X-Old: 1", b"X-Pick: 127.0.0.1:%d" % origin.port)
                assert (await balancer.exchange(picked))[-3:] == origin.script[0][-3:]  # type: ignore[index]
            assert {(await balancer.exchange(GET))[-3:] for _ in range(4)} == {b"one", b"two"}

    run(main())


def test_what_comes_while_a_filter_thinks_is_held_within_a_limit_and_goes_on() -> None:
    class Thinks(Filter):
        async def on_request(self, request: Request) -> None:
            await gate.wait()

    gate = asyncio.Event()
    body = bytes(range(256)) * 40_000

    async def main() -> None:
        async with Origin(response(b"fine")) as origin, balancing(origin.port, **installed(Thinks)) as balancer:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            sending = asyncio.create_task(balancer.exchange(head + body))
            await until(lambda: balancer.listener.connections and next(iter(balancer.listener.connections))._hold)
            held = len(next(iter(balancer.listener.connections))._ahead)
            assert 64 * 1024 < held < len(body) // 2
            gate.set()
            assert (await sending).endswith(b"fine")
            assert origin.requests[0].body == body

    run(main())


@BOTH
def test_websockets_go_through(name: str) -> None:
    async def switch(exchange: Exchange) -> None:
        accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        exchange.writer.write(head + accept + b"hello ")
        exchange.writer.write(await exchange.reader.readexactly(4))
        await exchange.writer.drain()
        exchange.writer.close()

    async def main() -> None:
        opening = (
            b"GET /ws HTTP/1.1\r\nHost: a\r\nX-Old: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with (
            Origin(switch) as origin,
            balancing(origin.port, installed=INSTALLED, **filters(name)) as balancer,
        ):
            answer = await balancer.exchange(opening + b"ping")
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert answer.endswith(b"\r\n\r\nhello ping")
            assert origin.requests[0].target == b"/changed/ws"
            assert origin.requests[0].value(b"x-target") == b"127.0.0.1 for 127.0.0.1"
            assert b"x-answered" not in answer

    run(main())


@BOTH
def test_http2_bodies_are_taken_while_and_after_a_filter_thinks(name: str) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"done")) as origin,
            balancing(origin.port, installed=INSTALLED, **filters(name)) as balancer,
            Client(balancer.port) as client,
        ):
            headers = [(b":method", b"POST"), *GET2[1:], (b"user-agent", b"test")]
            for _ in range(30):  # more than the connection's window, if what was taken were not acknowledged
                answer = await client.ask(headers, [b"a" * 16_000] * 3)
                assert answer.body == b"done"
            assert [request.body for request in origin.requests] == [b"a" * 48_000] * 30

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_retry_is_prepared_for_its_own_target(waits: bool) -> None:
    class Names(Filter):
        def on_upstream_request(self, request: Request, target: Target) -> None:
            request.headers.add("x-target", target.key)

    class NamesLater(Filter):
        async def on_upstream_request(self, request: Request, target: Target) -> None:
            await asyncio.sleep(0)
            request.headers.add("x-target", target.key)

    async def main() -> None:
        retries = {"retries": RetrySpec(backoff=0.001), "limits": GroupLimits()}
        async with (
            Origin(reset) as bad,
            Origin(response(b"fine", headers=[("Set-Cookie", "a=b")])) as good,
            balancing(bad.port, good.port, group=retries, **installed(NamesLater if waits else Names)) as balancer,
        ):
            for _ in range(4):
                assert (await balancer.exchange(GET)).endswith(b"fine")
            assert bad.requests
            for origin in (bad, good):
                for request in origin.requests:
                    assert request.values(b"x-target") == [b"127.0.0.1:%d" % origin.port]
            assert (await balancer.exchange(POST))[9:12] in (b"200", b"502")

    run(main())


def test_without_filters_a_request_does_not_know_of_them() -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port) as balancer:
            plan = balancer.listener.plan
            assert plan.only_route.group is not None
            assert plan.only_route.filters is None
            assert not plan.logs

    run(main())
