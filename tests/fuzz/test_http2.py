"""HTTP/2 header lists against HTTP/1's parsers: whatever a peer says, it stays one message."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.http1 import parse_request, parse_response
from penstock.proxy.http2 import request_of, response_head
from penstock.proxy.http_fields import BadMessage

NAMES = st.sampled_from(
    [b":method", b":path", b":scheme", b":authority", b":status", b":protocol", b"host", b"cookie", b"te",
     b"content-length",
     b"transfer-encoding", b"connection", b"x", b"X", b"x: y\r\nz"]
) | st.binary(max_size=6)  # fmt: skip
VALUES = st.sampled_from(
    [b"GET", b"CONNECT", b"/", b"*", b"http", b"a", b"websocket", b"200", b"101", b"5", b"trailers",
     b"a\r\nb: c", b"a\n", b" a"]
) | st.binary(max_size=8)  # fmt: skip
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
BASE = [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")]
QUICK = settings(max_examples=150, deadline=None, derandomize=True)


@QUICK
@given(LISTS, st.booleans(), st.booleans())
def test_a_request_becomes_one_request_or_none(more: list[tuple[bytes, bytes]], whole: bool, ended: bool) -> None:
    """Method and target hold no white space, a field is one line, and the strict parse has the last word."""
    try:
        request = request_of([*(BASE if whole else []), *more], ended=ended, websocket_key=b"a2V5")
        head = parse_request(request.block)
    except BadMessage as bad:
        assert 400 <= bad.status < 600
        return
    assert b" " not in request.method + request.uri
    assert b"\r" not in request.method + request.uri
    assert b"\n" not in head.forward.replace(b"\r\n", b"")
    assert head.forward.count(b"\r\n") <= len(more) + 5
    assert parse_request(head.forward + b"192.0.2.1\r\n").length == head.length


@QUICK
@given(LISTS, st.booleans(), st.booleans())
def test_an_answer_becomes_one_answer_or_none(more: list[tuple[bytes, bytes]], ended: bool, bodiless: bool) -> None:
    """What the strict parse makes of it has one status line and no line that the target did not give."""
    try:
        head = parse_response(response_head([(b":status", b"200"), *more], ended=ended, bodiless=bodiless))
    except BadMessage as bad:
        assert bad.status == 502
        return
    assert head.forward.count(b"\r\n") <= len(more) + 1
    assert parse_response(head.whole).status == head.status
