"""Heads without a socket: what is understood, what is remembered, and h11 as a second opinion."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.proxy.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadMemo,
    client_head,
    parse_request,
    parse_response,
    parse_unusual_request_line,
    request_line,
)
from penstock.proxy.http_fields import BadMessage, LineMemo

names = st.sampled_from(
    [b"Host", b"host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade", b"X-A", b"X_B"]
)
values = st.one_of(
    st.sampled_from([b"a", b"0", b"5", b"chunked", b"close", b"upgrade, x-a", b"websocket", b"100-continue", b" a\t"]),
    st.binary(max_size=12),
)
blocks = st.lists(st.tuples(names, st.sampled_from([b": ", b":", b" :", b":\t"]), values), max_size=6).map(
    lambda lines: b"".join(name + colon + value + b"\r\n" for name, colon, value in lines)
)


def h11_accepts(block: bytes) -> bool:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\n" + block + b"\r\n")
    try:
        return isinstance(peer.next_event(), h11.Request)
    except h11.RemoteProtocolError:
        return False


@given(blocks)
@example(b"Host: a\r\nTransfer-Encoding: \tchunked\t \r\n")
def test_what_we_take_h11_takes(block: bytes) -> None:
    """We are the stricter one: nothing that h11 refuses gets through, and nothing but BadMessage comes out."""
    try:
        head = parse_request(block)
    except BadMessage as bad:
        assert bad.status in range(400, 502), bad.reason
        return
    assert h11_accepts(block)
    assert head.forward.count(b"Content-Length:") + head.forward.count(b"Transfer-Encoding:") == (
        1 if head.length or b"ontent-" in block else 0
    )


@given(st.binary(max_size=200))
def test_no_bytes_break_a_parse(junk: bytes) -> None:
    for parse in (parse_request, parse_response, parse_unusual_request_line):
        try:
            parse(junk + b"\r\n")
        except BadMessage as bad:
            assert bad.reason


@pytest.mark.parametrize(
    ("line", "method", "target", "minor"),
    [
        (b"GET / HTTP/1.1\r\n", b"GET", b"/", b"1"),
        (b"PROPFIND /a?b=%20c HTTP/1.0\r\n", b"PROPFIND", b"/a?b=%20c", b"0"),
        (b"GET //evil.example.org/ HTTP/1.1\r\n", b"GET", b"//evil.example.org/", b"1"),
    ],
)
def test_usual_request_lines(line: bytes, method: bytes, target: bytes, minor: bytes) -> None:
    match = request_line(line)
    assert match is not None
    assert match.groups() == (method, target, minor)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"Example.ORG", b"example.org"),
        (b"example.org:8080", b"example.org"),
        (b"192.0.2.1:80", b"192.0.2.1"),
        (b"[2001:db8::1]:443", b"[2001:db8::1]"),
        (b"a_b.example.org", b"a_b.example.org"),
    ],
)
def test_hosts(host: bytes, expected: bytes) -> None:
    assert parse_request(b"Host: " + host + b"\r\n").host == expected


def test_values_are_found_by_name() -> None:
    head = parse_request(b"Host: a\r\nX-Canary:  yes \r\nx-canary: no\r\nUser-Agent: curl/8\r\n")
    assert head.values(b"x-canary") == [b"yes", b"no"]
    assert head.values(b"x-other") == []
    assert head.user_agent == b"curl/8"


@pytest.mark.parametrize(
    ("head", "length", "keep_alive", "plain"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 3, True, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 0, False, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED, True, False),
        (b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE, True, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 3, False, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\n", 3, True, True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 3, True, False),
    ],
)
def test_response_framing(head: bytes, length: int, keep_alive: bool, plain: bool) -> None:
    parsed = parse_response(head)
    assert (parsed.length, parsed.keep_alive, parsed.plain) == (length, keep_alive, plain)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"timeout=5", 5), (b"max=100, timeout=20", 20), (b"timeout=30, max=4", 30), (b"timeout=x", 0), (b"", 0)],
)
def test_keep_alive_timeout(value: bytes, seconds: int) -> None:
    parsed = parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: " + value + b"\r\n\r\n")
    assert parsed.idle_timeout == seconds


def test_bodiless_answers_of_a_chunked_origin() -> None:
    head = parse_response(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client_head(head, b"GET", http10=False, close=False) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_what_repeats_is_understood_once() -> None:
    memo = HeadMemo()
    block = b"Host: once.example.org\r\nX-Once: 1\r\n"
    memo.learn_request(block, http10=False)
    assert block not in memo.requests, "its lines were new, so it may never come again"
    second = memo.learn_request(block, http10=False)
    assert memo.requests[block] is second


def test_the_memo_is_bounded() -> None:
    memo = HeadMemo()
    for number in range(3 * HeadMemo.MAX_ENTRIES):
        block = b"Host: a\r\nX: %d\r\n" % number
        memo.learn_request(block, http10=False)
        memo.learn_request(block, http10=False)
    assert 0 < len(memo.requests) <= HeadMemo.MAX_ENTRIES
    long = b"Host: a\r\nX: " + b"a" * HeadMemo.MAX_BYTES + b"\r\n"
    memo.learn_request(long, http10=False)
    memo.learn_request(long, http10=False)
    assert long not in memo.requests


def test_lines_are_bounded_too() -> None:
    memo = LineMemo({})
    for number in range(3 * LineMemo.MAX_LINES):
        memo.learn(b"X: %d" % number)
    assert 0 < len(memo.known) <= LineMemo.MAX_LINES
    memo.learn(b"X: " + b"a" * LineMemo.MAX_LINE)
    assert b"X: " + b"a" * LineMemo.MAX_LINE not in memo.known
