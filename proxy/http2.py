"""HTTP/2 heads in HTTP/1's terms, and back (RFC 9113 8).

Requests and answers travel through the house as HTTP/1 heads, so rules, memo and strictness are one. What HTTP/2 allows
and HTTP/1 cannot say is refused here, before it could become a second message on a target's connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .http1 import CHUNKED, ResponseHead, parse_unusual_request_line, request_line
from .http_fields import BadMessage
from .specs import ListenerLimits

Headers = list[tuple[bytes, bytes]]

# RFC 9113 8.2.2: fields of a connection, which HTTP/2 has none of. The library refuses most; we refuse all.
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
MAX_REMEMBERED = 2048
DEFAULT_LIMITS = ListenerLimits()


@dataclass(frozen=True, slots=True)
class Http2Request:
    """A request as HTTP/1 would have it. `block` are its field lines; `trailers` says that it takes trailers (gRPC)."""

    method: bytes
    uri: bytes
    block: bytes
    websocket: bool
    trailers: bool


def request_of(
    headers: Iterable[tuple[bytes, bytes]],
    *,
    ended: bool,
    websocket_key: bytes,
    limits: ListenerLimits = DEFAULT_LIMITS,
) -> Http2Request:
    """Translate a request's header list. `ended`: no body follows. Raises BadMessage with the status to answer.

    An extended CONNECT for a WebSocket (RFC 8441) becomes the GET that HTTP/1 upgrades with, under `websocket_key`.
    """
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    host = b""
    has_length = trailers = False
    for name, value in headers:
        if value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
            raise BadMessage(400, "bad_header")  # RFC 9113 8.2.1: no white space around a value
        if name.startswith(b":"):
            if name in pseudo:
                raise BadMessage(400, "bad_pseudo_header")
            pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)  # RFC 9113 8.2.3: crumbs become one line
        elif name in _CONNECTION_FIELDS or name != name.lower() or b":" in name:
            raise BadMessage(400, "bad_header")
        elif name == b"te":
            if value.lower() != b"trailers":
                raise BadMessage(400, "bad_header")
            trailers = True
        elif name == b"host":
            if host:
                raise BadMessage(400, "bad_host")
            host = value
        else:
            has_length = has_length or name == b"content-length"
            lines.append(name + b": " + value)
        if len(lines) > limits.fields:
            raise BadMessage(431, "too_many_fields")

    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    authority = pseudo.get(b":authority", b"") or host
    if host and authority != host:
        raise BadMessage(400, "bad_host")  # two names for one request: one of them would be believed
    websocket = method == b"CONNECT" and pseudo.get(b":protocol") == b"websocket"
    if b":protocol" in pseudo and not websocket:
        raise BadMessage(501, "unsupported_protocol")
    if method == b"CONNECT" and not websocket:
        raise BadMessage(405, "method_not_allowed")
    if websocket:
        method = b"GET"
        lines += [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + websocket_key]
    line = b"%b %b HTTP/1.1\r\n" % (method, path)
    if len(line) > limits.request_line or request_line(line) is None:
        understood = parse_unusual_request_line(line, limits.request_line)
        if understood.authority is not None:  # absolute-form has no place in :path
            raise BadMessage(400, "bad_target")
    if cookies:
        lines.append(b"Cookie: " + b"; ".join(cookies))
    if not ended and not has_length and not websocket:
        lines.append(b"Transfer-Encoding: chunked")
    block = b"\r\n".join([b"Host: " + authority, *lines, b""])
    if block.count(b"\r\n") != len(lines) + 1:
        raise BadMessage(400, "bad_header")  # a line end inside a value is how one request becomes two
    return Http2Request(method, path, block, websocket, trailers)


_answers: dict[bytes, Headers] = {}


def answer_headers(head: ResponseHead) -> Headers:
    """The header list of an answer. Remembered by the head's bytes, as the head itself is."""
    known = _answers.get(head.forward)
    if known is None:
        if len(_answers) >= MAX_REMEMBERED:
            _answers.clear()
        known = _answers[head.forward] = field_list(head.forward.split(b"\r\n")[1:])
    headers = [(b":status", b"%d" % head.status), *known]
    if head.length >= 0 and head.status >= 200 and head.status != 204:
        headers.append((b"content-length", b"%d" % head.length))
    return headers


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
