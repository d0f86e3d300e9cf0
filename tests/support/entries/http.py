"""HTTP's parsers next to h11 and httptools, which are oracles here and nothing else: what we take, they read alike."""

from __future__ import annotations

from contextlib import suppress

import h11
import httptools

from penstock.proxy.chunked import ChunkedReader
from penstock.proxy.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    RequestLine,
    body_length,
    not_in_target,
    parse_request,
    parse_response,
    parse_unusual_request_line,
    request_line,
)
from penstock.proxy.http2 import field_list, request_headers, request_of, response_head
from penstock.proxy.http_fields import HEAD_LIMITS, BadMessage

FIELD_WORDS = (
    b"Host: a\r\n", b"Content-Length: ", b"Transfer-Encoding: ", b"Connection: ", b"Upgrade: ", b"Expect: ",
    b"X-Forwarded-For: 192.0.2.1\r\n", b"chunked", b"identity", b"gzip", b"close", b"keep-alive", b"websocket",
    b"100-continue", b"5", b"005", b"+5", b"0x5", b", ", b";", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\0", b"_",
)  # fmt: skip
REQUEST_WORDS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\n", b"OPTIONS * HTTP/1.0\r\n", b"GET http://u@b:1/?#",
    b"CONNECT ", b"HTTP/1.9", b"HTTP/2.0", *FIELD_WORDS,
)  # fmt: skip
RESPONSE_WORDS = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 304 \r\n", b"HTTP/1.1 101\r\n", b"HTTP/1.1 204 ", b"Keep-Alive: timeout=",
    *FIELD_WORDS,
)  # fmt: skip
CHUNK_WORDS = (
    b"5\r\nhello\r\n", b"0\r\n", b"000\r\n", b"A", b"F" * 16, b";a=b", b';a="b', b'"', b"X: y\r\n",
    b"Content-Length: 9", b"\r\n", b"\n", b"\r", b" ", b"\t", b"\\", b"0x", b"_",
)  # fmt: skip
PAIR, VALUE = b"\x1e", b"\x1f"  # ASCII's own separators of records and units: a header list as one run of bytes
HTTP2_WORDS = (
    b"\x1e:method\x1fGET\x1e:path\x1f/\x1e:scheme\x1fhttp\x1e:authority\x1fa", b"\x1e:status\x1f200", b":protocol",
    b"websocket", b"CONNECT", b"\x1econtent-length\x1f5", b"\x1etransfer-encoding\x1fchunked", b"\x1econnection\x1f",
    b"\x1ehost\x1fa", b"\x1ecookie\x1fa=1", b"\x1ete\x1ftrailers", b"\x1ex\x1fa\r\nb: c", b"101", b"103", b"*", b"X",
    PAIR, VALUE, b"\r\n", b"\n", b" ",
)  # fmt: skip

# llhttp knows methods by a list, which RFC 9110 9.1 leaves open.
KNOWN_TO_LLHTTP = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"))
# What goes on has one address more, and may have one line more.
ONWARD = HEAD_LIMITS._replace(fields=HEAD_LIMITS.fields + 1, forwarded_for=HEAD_LIMITS.forwarded_for + 1)
BODY = 4096  # a longer one is not made up for an oracle


def framed(length: int) -> bytes | None:
    """A body of this framing."""
    if length == CHUNKED:
        return b"0\r\n\r\n"
    return bytes(length) if 0 <= length <= BODY else None


class _Heard:
    """httptools' callbacks: how often a message was complete."""

    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


# -- requests ---------------------------------------------------------------------------------------------------------


def request_head_line(line: bytes) -> RequestLine | None:
    """A line that the quick pattern takes, the slow parse takes alike; and a target never holds what splits a line."""
    match = request_line(line)
    if line.startswith(b"GET /") and line.endswith(b" HTTP/1.1\r\n"):  # a client that repeats itself is asked this
        assert (not_in_target(line[4:-11]) is None) == (match is not None)
    try:
        slow = parse_unusual_request_line(line)
    except BadMessage as bad:
        assert match is None
        assert bad.status in (400, 405, 414, 505)
        return None
    assert not any(byte <= 32 or byte >= 127 for byte in slow.method + slow.target)
    if match is not None:
        assert (slow.method, slow.target, slow.minor) == (match[1], match[2], int(match[3]))
    return slow


def request_block(block: bytes, *, http10: bool = False) -> RequestHead | None:
    """What is forwarded is itself a right head that says the same framing, or the block is refused with a status."""
    try:
        head = parse_request(block, http10=http10)
    except BadMessage as bad:
        assert 400 <= bad.status < 600
        assert bad.reason
        return None
    forward = head.forward + b"192.0.2.1\r\n"
    if head.host:
        again = parse_request(forward, limits=ONWARD)
        assert (again.host, again.length, again.websocket) == (head.host, head.length, head.websocket)
        assert h11_request(b"POST / HTTP/1.1\r\n" + forward + b"\r\n") == head.length
    return head


def h11_request(raw: bytes) -> int:
    """The length that h11 reads out of a request's head; it has to take it."""
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(raw)
    event = oracle.next_event()
    assert isinstance(event, h11.Request)
    return stated([(name, value) for name, value in event.headers])


def stated(fields: list[tuple[bytes, bytes]], otherwise: int = 0) -> int:
    """The framing that fields state, which h11 has checked to be one."""
    values = dict(fields)
    if b"transfer-encoding" in values:
        assert values[b"transfer-encoding"].lower() == b"chunked"
        return CHUNKED
    return int(values.get(b"content-length", otherwise))


def httptools_request(raw: bytes, length: int) -> None:
    """With a body of this framing after it, one message is complete, and not before its last byte."""
    body = framed(length)
    if body is None:
        return
    heard = _Heard()
    oracle = httptools.HttpRequestParser(heard)
    with suppress(httptools.HttpParserUpgrade):
        oracle.feed_data((raw + body)[:-1])
        assert heard.complete == 0
        oracle.feed_data((raw + body)[-1:])
        assert heard.complete == 1


def request(raw: bytes) -> bool:
    line, _, rest = raw.partition(b"\r\n")
    asked = request_head_line(line + b"\r\n")
    http10 = asked is not None and asked.minor == 0
    head = request_block(rest.partition(b"\r\n\r\n")[0] + b"\r\n", http10=http10)
    if asked is None or head is None:
        return False
    whole = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    # RFC 9110 5.5 knows bytes above 0x7f, tabs around values and minor versions that we know and one oracle does not.
    if asked.authority is None and (head.host or asked.minor == 0):
        assert h11_request(whole) == head.length
        if asked.method in KNOWN_TO_LLHTTP and b"\t" not in whole and line[-3:] in (b"1.0", b"1.1"):
            httptools_request(whole, head.length)
    return True


# -- answers ----------------------------------------------------------------------------------------------------------


def response(raw: bytes) -> bool:
    """What is forwarded is itself a right head of the same status and framing, or the bytes are refused with 502."""
    raw = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        head = parse_response(raw)
    except BadMessage as bad:
        assert bad.status == 502
        assert bad.reason.startswith("target_")
        return False
    again = parse_response(head.whole)
    assert (again.status, again.length, again.forward) == (head.status, head.length, head.forward)
    # h11 refuses 101 to a client that did not ask for it, and we do so where the asking is known.
    for said in (raw, head.whole) if head.status != 101 else ():
        oracle = h11.Connection(h11.CLIENT)
        oracle.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        oracle.receive_data(said)
        event = oracle.next_event()
        assert isinstance(event, h11.Response | h11.InformationalResponse)
        assert event.status_code == head.status
        if head.status >= 200:
            assert stated([(name, value) for name, value in event.headers], UNTIL_CLOSE) == head.length
    if head.status >= 200 and b"\t" not in raw:
        httptools_response(raw, body_length(head, b"GET"))
    return True


def httptools_response(raw: bytes, length: int) -> None:
    body = framed(length)
    if body is None:
        return
    heard = _Heard()
    oracle = httptools.HttpResponseParser(heard)
    with suppress(httptools.HttpParserUpgrade):
        oracle.feed_data((raw + body)[:-1])
        assert heard.complete == 0
        oracle.feed_data((raw + body)[-1:])
        assert heard.complete == 1


# -- bodies -----------------------------------------------------------------------------------------------------------


def read_chunks(data: bytes, step: int, *, unwrap: bool) -> tuple[bool, int, bytes] | None:
    """(whether the body is complete, its content, what goes on) when it is fed so; None when it is refused."""
    reader, out = ChunkedReader(unwrap=unwrap), b""
    try:
        for start in range(0, len(data), step):
            if not reader.done:
                out += reader.feed(data[start : start + step])
    except BadMessage as bad:
        assert bad.status == 400
        return None
    return reader.done, reader.content, out


def chunked(data: bytes) -> bool:
    """However a body is cut, the same is understood; and what goes on the oracles read as the same content."""
    results = [read_chunks(data, step, unwrap=False) for step in (len(data) or 1, 7, 1)]
    contents = [read_chunks(data, step, unwrap=True) for step in (len(data) or 1, 7, 1)]
    complete = {None if result is None else result[:2] for result in (*results, *contents) if not result or result[0]}
    assert len(complete) <= 1
    assert len({result is not None and result[0] for result in (*results, *contents)}) == 1
    [result, *_] = results
    if result is None or not result[0]:
        return result is not None
    _, size, _ = result
    whole = {content[2] for content in contents if content}
    assert len(whole) == 1
    assert len(whole.pop()) == size
    for each in results:
        assert each is not None
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        oracle = h11.Connection(h11.SERVER)
        oracle.receive_data(head + each[2])
        assert isinstance(oracle.next_event(), h11.Request)
        read = 0
        while isinstance(event := oracle.next_event(), h11.Data):
            read += len(event.data)
        assert isinstance(event, h11.EndOfMessage)
        assert read == size
        heard = _Heard()
        httptools.HttpRequestParser(heard).feed_data(head + each[2])
        assert heard.complete == 1
    return True


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------


def header_list(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The pairs, and whether no body follows: so says an `e` at the very beginning."""
    pairs = (pair.partition(VALUE) for pair in raw.split(PAIR)[1:])
    return [(name, value) for name, _, value in pairs], raw.startswith(b"e")


def http2_request(raw: bytes) -> bool:
    """Method and target hold no white space, a field is one line, the strict parse and h11 have the last word, and a
    target that speaks HTTP/2 is told the same."""
    headers, ended = header_list(raw)
    try:
        asked = request_of(headers, ended=ended, websocket_key=b"a2V5")
        head = parse_request(asked.block)
    except BadMessage as bad:
        assert 400 <= bad.status < 600
        return False
    line = asked.method + b" " + asked.uri + b" HTTP/1.1\r\n"
    assert request_head_line(line) is not None
    assert head.forward.count(b"\r\n") <= len(headers) + 5
    whole = line + head.forward + b"192.0.2.1\r\n\r\n"
    assert h11_request(whole) == head.length
    onward, length = request_headers(whole, secure=False, trailers=False)
    assert length == head.length
    assert all(b"\r" not in name + value and b"\n" not in name + value for name, value in onward)
    return True


def http2_response(raw: bytes) -> bool:
    """What the strict parse makes of it has one status line and no line that the target did not give."""
    headers, ended = header_list(raw)
    taken = False
    for bodiless in (False, True):
        try:
            head = parse_response(response_head(headers, ended=ended, bodiless=bodiless))
        except BadMessage as bad:
            assert bad.status == 502
            continue
        taken = True
        assert head.forward.count(b"\r\n") <= len(headers) + 1
        assert parse_response(head.whole).status == head.status
        assert all(name == name.lower() for name, _ in field_list(head.forward.split(b"\r\n")[1:]))
    return taken
