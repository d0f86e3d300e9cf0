"""HTTP/2 heads in HTTP/1's terms, and back (RFC 9113 8).

Requests and answers travel through the house as HTTP/1 heads, so rules, memo and strictness are one. What HTTP/2 allows
and HTTP/1 cannot say is refused here, before it could become a second message on a target's connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .hpack import Field, encode
from .http1 import CHUNKED, ResponseHead, parse_unusual_request_line, request_line
from .http2_codes import DATA, END_HEADERS, END_STREAM, HEADERS
from .http_fields import BadMessage

Headers = list[Field]

# RFC 9113 8.2.2: fields of a connection, which HTTP/2 has none of.
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
MAX_REMEMBERED = 2048

# RFC 9113 8.2.1, no more and no less: what HTTP/1 refuses besides is answered with a status.
_name = re.compile(rb":?[!-9;-@\[-~]++").fullmatch
_value = re.compile(rb"(?![ \t])[^\0\r\n]*+(?<![ \t])").fullmatch
_REQUEST_FIELDS = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))  # 8.3.1, RFC 8441 4


class Malformed(BadMessage):
    """A field section that RFC 9113 8 does not know. It ends its stream and no other (8.1.1): a client may be a proxy,
    whose other streams are other people's."""

    def __init__(self) -> None:
        super().__init__(400, "malformed")


def check_fields(fields: Iterable[Field], *, trailers: bool = False) -> None:
    """What makes a request or its trailers malformed (RFC 9113 8.1.1, 8.2 and 8.3). Raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    host: bytes | None = None
    length: bytes | None = None
    regular = trailers  # which have no pseudo-header fields
    for name, value in fields:
        if _name(name) is None or _value(value) is None:
            raise Malformed
        if name[:1] == b":":
            if regular or name in pseudo or name not in _REQUEST_FIELDS:
                raise Malformed
            pseudo[name] = value
            continue
        regular = True
        if name in _CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
            raise Malformed
        if name == b"content-length":
            digits = value.lstrip(b"0")
            if not value.isdigit() or (length is not None and digits != length):
                raise Malformed
            length = digits
        elif name == b"host":
            if host is not None:
                raise Malformed
            host = value
    if trailers:
        return
    method, authority = pseudo.get(b":method"), pseudo.get(b":authority")
    extended = b":protocol" in pseudo
    if method is None or (extended and method != b"CONNECT"):
        raise Malformed
    if method == b"CONNECT" and not extended:
        if b":scheme" in pseudo or b":path" in pseudo:
            raise Malformed
    elif b":scheme" not in pseudo or not pseudo.get(b":path"):
        raise Malformed
    if (host is None and authority is None) or (None not in (host, authority) and host != authority):
        raise Malformed


@dataclass(frozen=True, slots=True)
class Http2Request:
    """A request as HTTP/1 would have it. `block` are its field lines; `trailers` says that it takes trailers (gRPC)."""

    method: bytes
    uri: bytes
    block: bytes
    websocket: bool
    trailers: bool


def request_of(headers: Sequence[Field], *, ended: bool, websocket_key: bytes) -> Http2Request:
    """Translate a request's header list. `ended`: no body follows. Raises BadMessage with the status to answer,
    Malformed among them.

    How long lines may be, and how many, depends on the listener, and is looked at when it takes the request.

    An extended CONNECT for a WebSocket (RFC 8441) becomes the GET that HTTP/1 upgrades with, under `websocket_key`.
    """
    check_fields(headers)
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    host = b""
    has_length = trailers = False
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)  # RFC 9113 8.2.3: crumbs become one line
        elif name == b"te":
            trailers = True
        elif name == b"host":
            host = value
        else:
            has_length = has_length or name == b"content-length"
            lines.append(name + b": " + value)

    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    authority = pseudo.get(b":authority", host)
    websocket = method == b"CONNECT" and pseudo.get(b":protocol") == b"websocket"
    if b":protocol" in pseudo and not websocket:
        raise BadMessage(501, "unsupported_protocol")
    if method == b"CONNECT" and not websocket:
        raise BadMessage(405, "method_not_allowed")
    if websocket:
        method = b"GET"
        lines += [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + websocket_key]
    line = b"%b %b HTTP/1.1\r\n" % (method, path)
    if request_line(line) is None:
        understood = parse_unusual_request_line(line, len(line))  # how long it may be depends on the listener
        if understood.authority is not None:  # absolute-form has no place in :path
            raise BadMessage(400, "bad_target")
    if cookies:
        lines.append(b"Cookie: " + b"; ".join(cookies))
    if not ended and not has_length and not websocket:
        lines.append(b"Transfer-Encoding: chunked")
    block = b"\r\n".join([b"Host: " + authority, *lines, b""])
    return Http2Request(method, path, block, websocket, trailers)


_lines: dict[Field, bytes] = {}  # what an answer says, coded
_answers: dict[bytes, bytes] = {}
MAX_LINE = 512  # bytes of a field that is remembered


def answer_block(head: ResponseHead) -> bytes:
    """The header block of an answer. Remembered by the head's bytes, as the head itself is."""
    known = _answers.get(head.whole)
    if known is None:
        headers = [(b":status", b"%d" % head.status), *field_list(head.forward.split(b"\r\n")[1:])]
        if head.length >= 0 and head.status >= 200 and head.status != 204:
            headers.append((b"content-length", b"%d" % head.length))
        if len(_answers) >= MAX_REMEMBERED:
            _answers.clear()
        known = _answers[head.whole] = b"".join([_lines.get(field) or _coded(field) for field in headers])
    return known


_frames: dict[bytes, tuple[bytes, bytes]] = {}


def answer_frames(head: ResponseHead) -> tuple[bytes, bytes]:
    """A whole answer of known length as its frames, as far as they are the same on each stream: the stream's number
    follows on either piece, and the body on all, if there is one. For a head and a body that fit in one frame each."""
    known = _frames.get(head.whole)
    if known is None:
        block = answer_block(head)
        if len(_frames) >= MAX_REMEMBERED:
            _frames.clear()
        first = (len(block) << 8 | HEADERS).to_bytes(4, "big")
        if head.length:
            data = (head.length << 8 | DATA).to_bytes(4, "big") + bytes((END_STREAM,))
            known = (first + bytes((END_HEADERS,)), block + data)
        else:
            known = (first + bytes((END_HEADERS | END_STREAM,)), block)
        _frames[head.whole] = known
    return known


def _coded(field: Field) -> bytes:
    coded = encode((field,))
    if len(coded) <= MAX_LINE:
        if len(_lines) >= MAX_REMEMBERED:
            _lines.clear()
        _lines[field] = coded
    return coded


def field_list(lines: Iterable[bytes]) -> Headers:
    """Field lines as a header list: lower-case names, values without white space around them."""
    return [
        (name.lower(), value.strip(b" \t"))
        for name, separator, value in (line.partition(b":") for line in lines)
        if separator
    ]


def request_headers(head: bytes, *, secure: bool, trailers: bool) -> tuple[Headers, int]:
    """A request head as it would go to a HTTP/1 target, as the header list for a HTTP/2 one, and its body's length
    (CHUNKED when it is not known)."""
    line, _, rest = head.partition(b"\r\n")
    method, path, _ = line.split(b" ")
    length = 0
    headers: Headers = []
    authority = b""
    for name, value in field_list(rest.split(b"\r\n")):
        if name == b"host":
            authority = value
        elif name == b"transfer-encoding":
            length = CHUNKED
        elif name not in _CONNECTION_FIELDS and name != b"te":
            if name == b"content-length":
                length = int(value)  # ours: written by the parse of the request
            headers.append((name, value))
    if trailers:
        headers.append((b"te", b"trailers"))
    pseudo = [
        (b":method", method),
        (b":scheme", b"https" if secure else b"http"),
        (b":authority", authority),
        (b":path", path),
    ]
    return pseudo + headers, length


def response_head(headers: Iterable[tuple[bytes, bytes]], *, ended: bool, bodiless: bool) -> bytes:
    """A target's answer over HTTP/2 as a HTTP/1 head, to be parsed like any other.

    `ended`: no body follows. `bodiless`: none would anyhow (HEAD), so no framing is made up. Raises BadMessage.
    """
    status = b""
    lines: list[bytes] = []
    has_length = False
    for name, value in headers:
        if name == b":status":
            status = value
        elif name.startswith(b":") or name in _CONNECTION_FIELDS:
            raise BadMessage(502, "target_bad_header")
        else:
            has_length = has_length or name == b"content-length"
            lines.append(name + b": " + value)
    if status == b"101":  # RFC 9113 8.6: HTTP/2 has no such thing, and HTTP/1 would end with it
        raise BadMessage(502, "target_bad_upgrade")
    if not has_length and not bodiless and status not in (b"204", b"304") and status[:1] != b"1":
        lines.append(b"Content-Length: 0" if ended else b"Transfer-Encoding: chunked")
    head = b"\r\n".join([b"HTTP/1.1 " + status + b" ", *lines, b"", b""])
    if head.count(b"\r\n") != len(lines) + 2:
        raise BadMessage(502, "target_bad_header")
    return head
