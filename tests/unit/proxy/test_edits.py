"""What is changed in messages that go through: rows of before and after, and that it is done once per head."""

from __future__ import annotations

import pytest

from penstock.proxy.edits import MAX_ENTRIES, Edits, RewriteError, check_rewrites, listener_edits, rule_edits
from penstock.proxy.http1 import parse_request, parse_response
from penstock.proxy.specs import (
    UNCHANGED,
    Conditions,
    FixedResponse,
    HeaderChanges,
    ListenerSpec,
    Rewrite,
    RuleSpec,
)

BLOCK = b"Host: App.example.org:8080\r\nX-Debug: 1\r\nAccept: */*\r\nx-debug: 2\r\n"


@pytest.mark.parametrize(
    ("regex", "replacement", "before", "after"),
    [
        (r"^/api/(.*)$", "/$1", b"/api/users?id=1", b"/users?id=1"),
        (r"^/api/(.*)$", "/$1", b"/other", b"/other"),  # nothing found, nothing changed
        (r"^/(\w+)/(\w+)", "/$2/$1", b"/a/b/c", b"/b/a/c"),  # what was not found stays
        (r"/old", "/new", b"/old/old", b"/new/old"),  # once
        (r"^/(?:(a)|b)", "/x$1", b"/b", b"/x"),  # a group that took no part is empty
        (r"\?.*$", "", b"/path?secret=1", b"/path"),
        (r"^/x$", "/$$0", b"/x", b"/$0"),
        (r"^/x", "$0$0", b"/x", b"/x/x"),
    ],
)
def test_url_rewrite(regex: str, replacement: str, before: bytes, after: bytes) -> None:
    edits = Edits([], [], url=Rewrite(regex, replacement))
    assert edits.request(before, b"X-Forwarded-For: ") == (after, b"X-Forwarded-For: ")


@pytest.mark.parametrize(
    ("rewrite", "uri"),
    [
        (Rewrite("^/a", "a"), b"/a"),  # no path any more
        (Rewrite("^(.*)$", "$1$1$1"), b"/" + b"a" * 8000),  # longer than a request line may be
        (Rewrite("^(a|/)+$", "/"), b"/" * 200_000),  # would take too long
    ],
)
def test_a_rewrite_that_cannot_be_sent_is_an_error(rewrite: Rewrite, uri: bytes) -> None:
    with pytest.raises(RewriteError):
        Edits([], [], url=rewrite).request(uri, b"")


@pytest.mark.parametrize(
    ("regex", "replacement", "host"),
    [
        (r"^app\.", "internal.", b"internal.example.org:8080"),  # compared in lower case; the port stays
        (r"^.*$", "backend:9000", b"backend:9000"),
        (r"nothing", "x", b"App.example.org:8080"),  # as it came
    ],
)
def test_host_rewrite(regex: str, replacement: str, host: bytes) -> None:
    forward = parse_request(BLOCK).forward
    _, changed = Edits([], [], host=Rewrite(regex, replacement)).request(b"/", forward)
    assert changed == forward.replace(b"App.example.org:8080", host)


def test_a_host_that_is_none_is_an_error() -> None:
    with pytest.raises(RewriteError):
        Edits([], [], host=Rewrite("^app", "a@b")).request(b"/", parse_request(BLOCK).forward)


@pytest.mark.parametrize(
    ("url", "host", "logged"),
    [
        (Rewrite("^/a", "/b"), None, (b"", b"/b?c", "TransformSuccess")),
        (None, Rewrite("^app", "web"), (b"web.example.org", b"", "TransformSuccess")),
        (Rewrite("^/z", "/b"), Rewrite("^z", "web"), (b"", b"", "TransformSuccess")),  # neither is found
        (Rewrite("^/a", "b"), None, (b"", b"", "TransformInvalidPath")),
        (None, Rewrite("^app", "a@b"), (b"", b"", "TransformInvalidHost")),
        (None, None, (b"", b"", "")),
    ],
)
def test_what_is_logged_of_rewriting(
    url: Rewrite | None, host: Rewrite | None, logged: tuple[bytes, bytes, str]
) -> None:
    changes = HeaderChanges(set=(("X-New", "1"),))
    assert Edits([changes], [], url, host).rewritten(b"/a?c", b"app.example.org") == logged


def test_a_rewrite_that_takes_too_long_is_logged_as_such() -> None:
    edits = Edits([], [], Rewrite("(a|b|ab)*(c|d)*z", ""))
    assert edits.rewritten(b"/" + b"ab" * 8000, b"")[2] == "TransformReplaceError"


def test_request_fields_are_removed_set_and_added_in_this_order() -> None:
    changes = HeaderChanges(set=(("Accept", "text/html"), ("X-New", "1")), add=(("X-New", "2"),), remove=("x-debug",))
    _, changed = Edits([changes], []).request(b"/", parse_request(BLOCK).forward)
    assert changed == (b"Host: App.example.org:8080\r\nAccept: text/html\r\nX-New: 1\r\nX-New: 2\r\nX-Forwarded-For: ")


def test_the_rules_changes_come_after_the_listeners() -> None:
    listener = ListenerSpec(
        "lb",
        "127.0.0.1",
        80,
        "HTTP",
        FixedResponse(200),
        request_headers=HeaderChanges(set=(("x-a", "listener"), ("x-b", "listener"))),
    )
    rule = RuleSpec(
        1, Conditions(path=("/",)), FixedResponse(200), request_headers=HeaderChanges(set=(("X-A", "rule"),))
    )
    edits = rule_edits(listener, rule)
    assert edits is not None
    assert edits.request(b"/", b"X-Forwarded-For: ")[1] == b"x-b: listener\r\nX-A: rule\r\nX-Forwarded-For: "
    plain = RuleSpec(2, Conditions(path=("/",)), FixedResponse(200))
    assert rule_edits(listener, plain) is None, "it is the listener's that count, and they are shared"
    assert listener_edits(ListenerSpec("lb", "127.0.0.1", 80, "HTTP", FixedResponse(200))) is None


def test_response_fields_change_and_framing_stays() -> None:
    head = parse_response(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n")
    changes = HeaderChanges(set=(("X-Frame-Options", "DENY"),), remove=("server",))
    edits = Edits([], [UNCHANGED, changes])
    changed = edits.response(head)
    assert changed.forward == b"HTTP/1.1 200 OK\r\nX-Frame-Options: DENY"
    assert changed.whole == b"HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nContent-Length: 3\r\n\r\n"
    assert (changed.status, changed.length, changed.plain) == (200, 3, True)
    assert edits.answer(b"HTTP/1.1 302 Found\r\nServer: y\r\n\r\nbody") == (
        b"HTTP/1.1 302 Found\r\nX-Frame-Options: DENY\r\n\r\nbody"
    )


def test_a_head_is_changed_once() -> None:
    edits = Edits([HeaderChanges(add=(("x", "y"),))], [HeaderChanges(add=(("x", "y"),))])
    forward = parse_request(BLOCK).forward
    assert edits.request(b"/1", forward)[1] is edits.request(b"/2", forward)[1]
    head = parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    assert edits.response(head) is edits.response(head)
    for n in range(3 * MAX_ENTRIES):
        edits.request(b"/", b"Host: h%d\r\nX-Forwarded-For: " % n)
    assert len(edits._requests) <= MAX_ENTRIES


@pytest.mark.parametrize(("rewrite", "said"), [(Rewrite("(", ""), "not closed"), (Rewrite("a", "$1"), "asks for \\$1")])
def test_a_rewrite_that_is_none_is_found_before_anything_changes(rewrite: Rewrite, said: str) -> None:
    rule = RuleSpec(7, Conditions(path=("/",)), FixedResponse(200), url_rewrite=rewrite)
    with pytest.raises(ValueError, match=f"rule 7 of 127.0.0.1:80.*{said}"):
        check_rewrites(ListenerSpec("lb", "127.0.0.1", 80, "HTTP", FixedResponse(200), (rule,)))
