"""What requests are called: ids that no other has, what clients brought, and traces that are passed on or begun."""

from __future__ import annotations

import re

import pytest

from penstock.proxy.http1 import parse_request
from penstock.proxy.specs import TracingSpec
from penstock.proxy.tracing import BLOCKS, Tracer

SECOND = 0x58337262
PREFIX = b"36d228ad5d999231"
FIRST, AGAIN = b"22bbe354", b"22bbe355"
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TAIL = b"X-Forwarded-For: "


def tracer(request_id: str | None = "X-Amzn-Trace-Id", traceparent: str = "pass") -> Tracer:
    made = Tracer(TracingSpec(request_id, traceparent), PREFIX, SECOND)  # type: ignore[arg-type]
    made._block = int(FIRST[:-3], 16) - 1
    made.tick(SECOND)
    for _ in range(int(FIRST[-3:], 16)):
        next(made.ids)  # the next one is that of ALB's own example
    return made


def stamped(by: Tracer, *lines: bytes) -> tuple[bytes, bytes, bytes]:
    """The lines that go on as they came, the id, and the field lines that are added."""
    head = parse_request(b"Host: a\r\n" + b"".join(line + b"\r\n" for line in lines))
    forward, request_id, end = by.stamp(head)
    assert forward.startswith(b"Host: a\r\n")
    assert forward.endswith(TAIL), "the client's address has its place"
    assert end.endswith(b"\r\n\r\n")
    return forward[9 : -len(TAIL)], request_id, by.line + end[:-4]


AMAZON = b"Root=1-58337262-36d228ad5d99923122bbe354"
OURS = AMAZON.removeprefix(b"Root=")
PLAIN = OURS[2:].replace(b"-", b"")
SELF = b"Self=" + OURS


@pytest.mark.parametrize(
    ("brought", "goes_on"),
    [
        (None, AMAZON),
        (b"Root=1-67891233-abcdef012345678912345678", SELF + b";Root=1-67891233-abcdef012345678912345678"),
        (b"Root=1-a-b;CalledFrom=app", SELF + b";Root=1-a-b;CalledFrom=app"),
        (b"Self=1-c-d;Root=1-a-b", SELF + b";Root=1-a-b"),  # a balancer before us: its Self is not ours
        (b"Root=1-a-b; Self=1-c-d ;x=y", SELF + b";Root=1-a-b;x=y"),
        (b"CalledFrom=app", AMAZON + b";CalledFrom=app"),
        (b"", AMAZON),
    ],
)
def test_amazons_field_as_alb_writes_it(brought: bytes | None, goes_on: bytes) -> None:
    lines = [] if brought is None else [b"x-amzn-TRACE-id: " + brought]
    assert stamped(tracer(), *lines, b"Accept: */*") == (b"Accept: */*\r\n", goes_on, b"X-Amzn-Trace-Id: " + goes_on)


@pytest.mark.parametrize(
    ("brought", "kept"),
    [
        (None, False),
        (b"7b0e4c2a-8d1f-4a53-b0c6-2f1e9d3a5b7c", True),
        (b"x" * 128, True),
        (b"x" * 129, False),
        (b"", False),
        (b"two words", False),
        (b"\xc3\xa9", False),
    ],
)
def test_an_id_that_a_client_brought_is_kept_if_it_is_one(brought: bytes | None, kept: bool) -> None:
    lines = [] if brought is None else [b"X-Request-ID: " + brought]
    wanted = brought if kept else PLAIN
    assert stamped(tracer("X-Request-Id"), *lines) == (b"", wanted, b"X-Request-Id: %b" % wanted)


def test_of_several_the_first_goes_on_alone() -> None:
    assert stamped(tracer("X-Request-Id"), b"X-Request-Id: one", b"X-Request-Id: two")[::2] == (
        b"",
        b"X-Request-Id: one",
    )


def test_what_the_listener_does_not_name_is_passed_on_as_it_came() -> None:
    lines = (b"X-Request-Id: mine", b"Traceparent: " + PARENT, b"tracestate: a=b")
    forward, request_id, _ = stamped(tracer(), *lines)
    assert forward == b"\r\n".join([*lines, b""])
    assert request_id == AMAZON


@pytest.mark.parametrize(
    "brought",
    [
        PARENT,
        PARENT[:-2] + b"00",
        b"cc" + PARENT[2:],
        b"cc" + PARENT[2:] + b"-what-the-future-has",
    ],
)
def test_a_trace_goes_on(brought: bytes) -> None:
    forward, request_id, added = stamped(
        tracer(traceparent="begin"), b"traceparent: " + brought, b"tracestate: a=b", b"Accept: */*"
    )
    assert forward == b"tracestate: a=b\r\nAccept: */*\r\n"
    assert added == b"X-Amzn-Trace-Id: %b\r\ntraceparent: %b" % (request_id, brought)


@pytest.mark.parametrize(
    "brought",
    [
        None,
        b"",
        b"ff" + PARENT[2:],
        PARENT + b"-more",  # not in version 00
        PARENT.upper(),
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        PARENT[:-1],
    ],
)
def test_a_trace_is_begun_where_there_is_none(brought: bytes | None) -> None:
    lines = [] if brought is None else [b"traceparent: " + brought, b"tracestate: a=b"]
    forward, request_id, added = stamped(tracer(traceparent="begin"), *lines)
    assert forward == b"", "a state without its trace is nobody's"
    assert request_id == AMAZON
    begun = b"00-%b-%b-01" % (PLAIN, PLAIN[-16:])
    assert added == b"X-Amzn-Trace-Id: %b\r\ntraceparent: %b" % (AMAZON, begun)


def test_a_trace_alone_is_the_requests_id_too() -> None:
    by = tracer(None, "begin")
    assert stamped(by, b"traceparent: " + PARENT) == (b"", PARENT[3:35], b"traceparent: " + PARENT)
    _, request_id, added = stamped(by)
    assert request_id == b"5833726236d228ad5d99923122bbe355"
    assert added == b"traceparent: 00-%b-%b-01" % (request_id, request_id[16:])


def test_no_id_comes_twice_when_the_counter_begins_again() -> None:
    by = tracer()
    head = parse_request(b"Host: a\r\n")
    by._block = BLOCKS - 2
    by.tick(SECOND)
    seen = [by.stamp(head)[1] for _ in range(5000)]
    by.tick(SECOND + 1)
    seen += [by.stamp(head)[1] for _ in range(5000)]
    by.tick(SECOND + 2)
    seen += [by.connection_id().encode()]
    assert len(set(seen)) == 10001
    assert all(re.fullmatch(rb"(Root=1-[0-9a-f]{8}-[0-9a-f]{24}|TID_[0-9a-f]{32})", each) for each in seen)
    assert seen[0].endswith(b"fffff000")
    assert seen[4999].endswith(b"00000387")
    assert seen[5000].startswith(b"Root=1-58337263-")
