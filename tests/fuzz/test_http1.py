"""HTTP/1's parsers against any bytes, and next to h11 and httptools, which are oracles here and nothing else.

The corpus holds inputs that once told two implementations apart; each file is replayed as it is.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.proxy.chunked import ChunkedReader
from penstock.proxy.http1 import (
    CHUNKED,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
    parse_unusual_request_line,
    request_line,
)
from penstock.proxy.http_fields import BadMessage

CORPUS = Path(__file__).parent / "corpus"
QUICK = settings(max_examples=150, deadline=None, derandomize=True)

NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"X-Forwarded-For", b""]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [b"a", b"5", b"chunked", b"close", b"keep-alive, x", b"websocket", b"100-continue", b"+5", b"a\rb"]
    ),
    st.binary(max_size=12),
)
LINES = st.builds(
    lambda name, space, value, end: name + b":" + space + value + end,
    NAMES,
    st.sampled_from([b" ", b"", b"\t", b"\r\n "]),
    VALUES,
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]),
)
BLOCKS = st.lists(LINES, max_size=6).map(b"".join)


def corpus(folder: str) -> list[Path]:
    files = sorted((CORPUS / folder).iterdir())
    assert files, f"{folder} is empty"
    return files


def check_request(block: bytes) -> RequestHead | None:
    """What is forwarded is itself a right head that says the same framing, or it is refused with a status."""
    try:
        head = parse_request(block)
    except BadMessage as bad:
        assert 400 <= bad.status < 600
        assert bad.reason
        return None
    again = parse_request(head.forward + b"192.0.2.1\r\n")
    assert (again.host, again.length, again.websocket) == (head.host, head.length, head.websocket)
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(b"POST / HTTP/1.1\r\n" + head.forward + b"192.0.2.1\r\n\r\n")
    event = oracle.next_event()
    assert isinstance(event, h11.Request)
    framing = [(name, value) for name, value in event.headers if name in (b"content-length", b"transfer-encoding")]
    expected = {0: []}.get(
        head.length,
        [(b"transfer-encoding", b"chunked")] if head.length == CHUNKED else [(b"content-length", b"%d" % head.length)],
    )
    assert framing == expected or framing == [(b"content-length", b"0")]
    return head


def check_response(raw: bytes) -> ResponseHead | None:
    """What is forwarded is itself a right head of the same status and framing, or the bytes are refused with 502."""
    try:
        head = parse_response(raw)
    except BadMessage as bad:
        assert bad.status == 502
        assert bad.reason.startswith("target_")
        return None
    again = parse_response(head.whole)
    assert (again.status, again.length, again.forward) == (head.status, head.length, head.forward)
    return head


def check_line(line: bytes) -> None:
    """A line that the quick pattern takes, the slow parse takes alike; and a target never holds what splits a line."""
    match = request_line(line)
    try:
        slow = parse_unusual_request_line(line)
    except BadMessage as bad:
        assert match is None
        assert bad.status in (400, 405, 414, 505)
        return
    assert not any(byte <= 32 or byte >= 127 for byte in slow.method + slow.target)
    if match is not None:
        assert (slow.method, slow.target, slow.minor) == (match[1], match[2], int(match[3]))


def check_chunked(data: bytes) -> None:
    """However a body is cut, the same goes on; and what goes on is chunks that h11 reads as the same content."""
    results = []
    for step in (len(data) or 1, 7, 1):
        reader, out = ChunkedReader(), b""
        try:
            for start in range(0, len(data), step):
                if not reader.done:
                    out += reader.feed(data[start : start + step])
            results.append((reader.done, reader.content if reader.done else None, out if reader.done else None))
        except BadMessage as bad:
            assert bad.status == 400
            results.append((None, None, None))
    assert len({result[0] for result in results}) == 1
    done, content, _ = results[0]
    if not done:
        return
    for _, _, out in results:
        assert out is not None
        oracle = h11.Connection(h11.SERVER)
        oracle.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + out)
        assert isinstance(oracle.next_event(), h11.Request)
        size = 0
        while isinstance(event := oracle.next_event(), h11.Data):
            size += len(event.data)
        assert isinstance(event, h11.EndOfMessage)
        assert size == content


@QUICK
@given(BLOCKS)
@example(b"Host: a\r\nContent-Length: +5\r\n")
def test_request_blocks(block: bytes) -> None:
    check_request(block)


@QUICK
@given(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 304 \r\n", b"HTTP/1.1 101\r\n"]),
    BLOCKS,
)
def test_response_heads(line: bytes, block: bytes) -> None:
    check_response(line + block + b"\r\n")


@QUICK
@given(
    st.builds(
        lambda method, target, version: method + b" " + target + b" " + version + b"\r\n",
        st.sampled_from([b"GET", b"OPTIONS", b"CONNECT", b"get"]) | st.binary(max_size=3),
        st.sampled_from([b"/", b"*", b"http://a", b"http://u@a/", b"/a#b"]) | st.binary(max_size=8),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.9", b"HTTP/2.0"]) | st.binary(max_size=4),
    )
)
def test_request_lines(line: bytes) -> None:
    check_line(line)


@QUICK
@given(
    st.lists(
        st.sampled_from(
            [b"5", b"0", b"000", b"A", b";a=b", b';a="b"', b"\r\n", b"\r\n", b"hello", b"\n", b"X: y", b" "]
        ),
        max_size=12,
    ).map(b"".join)
    | st.binary(max_size=20)
)
@example(b"5\r\nhello\r\n0\r\n\r\n")
@example(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n")
def test_chunked_bodies(data: bytes) -> None:
    check_chunked(data)


@pytest.mark.parametrize("file", corpus("request"), ids=lambda file: file.name)
def test_request_corpus(file: Path) -> None:
    """`refused-*` is refused, though httptools or h11 may take it; everything else is understood by all three."""
    raw = file.read_bytes()
    line, _, rest = raw.partition(b"\r\n")
    block = rest.partition(b"\r\n\r\n")[0] + b"\r\n"
    check_line(line + b"\r\n")
    head = check_request(block)
    assert (head is None) == file.name.startswith("refused-")
    if head is not None:
        oracle = httptools.HttpRequestParser(object())
        with suppress(httptools.HttpParserUpgrade):
            oracle.feed_data(raw)


@pytest.mark.parametrize("file", corpus("response"), ids=lambda file: file.name)
def test_response_corpus(file: Path) -> None:
    head = check_response(file.read_bytes().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert (head is None) == file.name.startswith("refused-")


@pytest.mark.parametrize("file", corpus("chunked"), ids=lambda file: file.name)
def test_chunked_corpus(file: Path) -> None:
    check_chunked(file.read_bytes())
    reader = ChunkedReader()
    try:
        reader.feed(file.read_bytes())
        refused = False
    except BadMessage:
        refused = True
    assert refused == file.name.startswith("refused-")
