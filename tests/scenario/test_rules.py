"""Rules at work: who gets which request, and what arrives there and comes back."""

from __future__ import annotations

import pytest

from penstock.proxy.http_session import HttpSession
from penstock.proxy.rules import Tried
from penstock.proxy.specs import Conditions, FixedResponse, Forward, HeaderChanges, Rewrite, RuleSpec, WeightedGroup
from support import Origin, response, run
from support.balancer import balancing
from support.http2 import GET, Client, Headers

TO_TARGETS = Forward((WeightedGroup("tg"),))


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join(
        (f"GET {target} HTTP/1.1", "Host: app.example.org", *fields, "Connection: close", "", "")
    ).encode()


def said(status: int, **conditions) -> RuleSpec:
    return RuleSpec(status, Conditions(**conditions), FixedResponse(status))


def test_query_and_source_decide() -> None:
    rules = (
        said(211, query=((("version", ("v1",)), ("beta", ("*",))),)),
        said(212, query=((("lang", ("de", "en-*")),), (("*", ("secret",)),))),
        said(213, source_ip=("198.51.100.0/24",)),
        said(214, source_ip=("198.51.100.0/24", "127.0.0.0/8"), path=("/here",)),
    )
    wanted = {
        "/?version=V1&beta=": 211,
        "/?version=v1": 215,
        "/?x=1&LANG=en-GB": 212,
        "/?lang=fr": 215,
        "/?anything=secret": 212,
        "/?lang=d%65": 215,  # as it was sent
        "/here": 214,
        "/": 215,
    }

    async def main() -> None:
        async with balancing(rules=rules, default_action=FixedResponse(215)) as lb:
            for target, status in wanted.items():
                answer = await lb.exchange(get(target))
                assert answer.startswith(b"HTTP/1.1 %d " % status), target

    run(main())


def test_targets_and_clients_see_the_changes() -> None:
    rule = RuleSpec(
        1,
        Conditions(path=("/api/*",)),
        TO_TARGETS,
        url_rewrite=Rewrite("^/api/(.*)$", "/$1"),
        host_rewrite=Rewrite(r"^app\.", "internal."),
        request_headers=HeaderChanges(set=(("x-tenant", "blue"),), remove=("x-debug",)),
        response_headers=HeaderChanges(remove=("server",)),
    )

    async def main() -> None:
        async with (
            Origin(
                response(b"whole", headers=[("Server", "x")]),
                b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                response(b"other", headers=[("Server", "x")]),
            ) as origin,
            balancing(
                origin.port, rules=(rule,), response_headers=HeaderChanges(set=(("x-frame-options", "DENY"),))
            ) as lb,
        ):
            one = await lb.exchange(
                get("/api/users?id=1", "X-Debug: 1").replace(b"Connection: close\r\n", b"")
                + get("/api/chunked", "X-Debug: 1")
            )
            other = await lb.exchange(get("/else", "X-Debug: 1"))
        users, chunked, untouched = origin.requests
        assert [each.target for each in origin.requests] == [b"/users?id=1", b"/chunked", b"/else"]
        assert users.value(b"host") == chunked.value(b"host") == b"internal.example.org"
        assert users.value(b"x-tenant") == chunked.value(b"x-tenant") == b"blue"
        assert users.value(b"x-debug") is None
        assert users.value(b"x-forwarded-for") == b"127.0.0.1"
        assert untouched.value(b"host") == b"app.example.org"
        assert untouched.value(b"x-debug") == b"1"
        assert one.count(b"x-frame-options: DENY\r\n") == 2
        assert b"Server:" not in one
        assert one.count(b"\r\n\r\nwhole") == 1
        assert one.endswith(b"3\r\nabc\r\n0\r\n\r\n")
        assert b"Server: x\r\n" in other
        assert b"x-frame-options: DENY\r\n" in other
        assert [(each.transformed_host, each.transformed_uri, each.transform_status) for each in lb.log] == [
            (b"internal.example.org", b"/users?id=1", "TransformSuccess"),
            (b"internal.example.org", b"/chunked", "TransformSuccess"),
            (b"", b"", ""),
        ]

    run(main())


def test_the_same_over_http2() -> None:
    rules = (
        RuleSpec(
            1,
            Conditions(path=("/api/*",), query=((("v", ("1",)),),)),
            TO_TARGETS,
            url_rewrite=Rewrite("^/api", ""),
            host_rewrite=Rewrite("^", "internal."),
            response_headers=HeaderChanges(set=(("X-Frame-Options", "DENY"),), remove=("server",)),
        ),
        RuleSpec(2, Conditions(path=("/bad",)), TO_TARGETS, url_rewrite=Rewrite("^/", "")),
    )

    def asking(path: bytes) -> Headers:
        return [(name, path if name == b":path" else value) for name, value in GET]

    async def main() -> None:
        async with (
            Origin(response(b"hello", headers=[("Server", "x")])) as origin,
            balancing(origin.port, rules=rules) as lb,
            Client(lb.port) as client,
        ):
            answer = await client.ask(asking(b"/api/x?v=1"))
            assert (await client.ask(asking(b"/bad"))).status == b"500"
            assert lb.listener.counters.failed["rewrite_failed"] == 1
        assert (b"x-frame-options", b"DENY") in answer.headers
        assert b"server" not in dict(answer.headers)
        assert origin.requests[0].target == b"/x?v=1"
        assert origin.requests[0].value(b"host") == b"internal.example.org"

    run(main())


def test_our_own_answers_carry_the_listeners_fields() -> None:
    async def main() -> None:
        async with balancing(
            rules=(said(418, path=("/teapot",)),), response_headers=HeaderChanges(add=(("x-a", "b"),))
        ) as lb:
            assert b"\r\nx-a: b\r\n" in await lb.exchange(get("/teapot"))

    run(main())


def test_a_rewrite_that_makes_no_path_is_a_500_and_the_connection_stays() -> None:
    rule = RuleSpec(1, Conditions(path=("/bad*",)), TO_TARGETS, url_rewrite=Rewrite("^/bad", ""))

    async def main() -> None:
        async with Origin(response(b"fine")) as origin, balancing(origin.port, rules=(rule,)) as lb:
            answers = await lb.exchange(get("/bad").replace(b"Connection: close\r\n", b"") + get("/good"))
            assert answers.startswith(b"HTTP/1.1 500 ")
            assert answers.endswith(b"fine")
            with_body = await lb.exchange(
                b"POST /bad HTTP/1.1\r\nHost: app.example.org\r\nContent-Length: 5\r\n\r\nhello"
            )
            assert with_body.startswith(b"HTTP/1.1 500 ")
            assert lb.listener.counters.failed["rewrite_failed"] == 2
            assert [record.reason for record in lb.log] == ["rewrite_failed", "", "rewrite_failed"]
            assert [record.transform_status for record in lb.log] == [
                "TransformInvalidPath",
                "",
                "TransformInvalidPath",
            ]
            assert lb.log[0].target == ""

    run(main())


def test_a_request_with_a_name_can_be_explained_after_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(session: HttpSession, data: bytes, end: int) -> None:
        session.request_id = b"Root=1-5759e988-bd862e3fe1be46a994272793"
        begin(session, data, end)

    begin = HttpSession._begin
    monkeypatch.setattr(HttpSession, "_begin", named)
    rules = (
        RuleSpec(1, Conditions(header=(("x-canary", ("yes",)),)), FixedResponse(200)),
        RuleSpec(2, Conditions(path=("/api/*",)), TO_TARGETS),
    )

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port, rules=rules) as lb:
            await lb.exchange(get("/api/x?y", "X-Canary: no"))
            await lb.reload(rules=())
            found = lb.proxy.explain(b"1-5759e988-bd862e3fe1be46a994272793")
            assert found is not None
            decision, served = found
            assert decision.tried == (Tried("1", "header x-canary", b"no"), Tried("2", "", b""))
            assert decision.shares[0].candidates[0].target == f"127.0.0.1:{origin.port}"
            assert (served.status, served.rule, served.target) == (200, "2", f"127.0.0.1:{origin.port}")
            assert served.asked.target == b"/api/x?y"
            assert lb.proxy.explain(b"another") is None

    run(main())
