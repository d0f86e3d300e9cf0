"""The answers that a load balancer gives by itself: redirects and fixed responses, as bytes on the wire.

Pure: the date is an argument. What a client sent reaches a Location field only percent-encoded, so that no byte of it
can end the field, leave the part of the URL it stands in, or name another server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from .specs import FixedResponse, Redirect

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}
_KEYWORD = re.compile(rb"#\{(protocol|host|port|path|query)\}")

# RFC 3986 section 3: bytes that may stand as they are. `%` may, because what arrives is already encoded.
_PCHAR = rb"A-Za-z0-9\-._~!$&'()*+,;=:@%"
_NOT_IN_PATH = re.compile(rb"[^" + _PCHAR + rb"/]")
_NOT_IN_QUERY = re.compile(rb"[^" + _PCHAR + rb"/?]")
_NOT_IN_HOST = re.compile(rb"[^A-Za-z0-9\-._~!$&'()*+,;=:%\[\]]")  # no `@`: it would turn a name into a password


def redirect_location(
    redirect: Redirect, *, protocol: bytes, host: bytes, port: int, path: bytes, query: bytes
) -> bytes:
    """The Location of ALB's redirect. The request's parts: `host` without port, `path` from its `/` on, `query`
    without `?`, `port` the listener's.

    `#{path}` comes without its leading slash, a scheme's default port is left out, as is the `?` of an empty query.
    A request without a host (HTTP/1.0) gets a relative reference.
    """
    # One pass per part: what a keyword brought in is never looked at for keywords again.
    parts = {
        b"protocol": protocol.lower(),
        b"host": host,
        b"port": b"%d" % port,
        b"path": path.removeprefix(b"/"),
        b"query": query,
    }
    to_path = _encode(_NOT_IN_PATH, _fill(redirect.path, parts))
    to_query = _encode(_NOT_IN_QUERY, _fill(redirect.query, parts))
    location = to_path if to_path.startswith(b"/") else b"/" + to_path
    if to_query:
        location += b"?" + to_query
    to_host = _encode(_NOT_IN_HOST, _fill(redirect.host, parts))
    if not to_host:
        # RFC 3986 section 4.2: a reference that begins with `//` names a server; section 5.2.4 removes the `/.`.
        return b"/." + location if location.startswith(b"//") else location
    to_protocol = _fill(redirect.protocol, parts).lower()
    to_port = _fill(redirect.port, parts)
    if to_port != _DEFAULT_PORTS.get(to_protocol):
        to_host += b":" + to_port
    return to_protocol + b"://" + to_host + location


def _fill(template: str, parts: Mapping[bytes, bytes]) -> bytes:
    return _KEYWORD.sub(lambda keyword: parts[keyword[1]], template.encode())


def _encode(not_allowed: re.Pattern[bytes], text: bytes) -> bytes:
    return not_allowed.sub(lambda byte: b"%%%02X" % byte[0][0], text)


def redirect_response(redirect: Redirect, location: bytes, *, date: bytes, close: bool = False) -> bytes:
    """No body: no client shows it, and an empty one serves GET and HEAD alike."""
    return _head(redirect.status, date, close) + b"Location: %b\r\nContent-Length: 0\r\n\r\n" % location


def fixed_response(action: FixedResponse, *, date: bytes, head: bool = False, close: bool = False) -> bytes:
    """`head`: answer a HEAD request, with the fields a GET would have had and no body (RFC 9110 section 9.3.2)."""
    start = _head(action.status, date, close)
    if action.status == HTTPStatus.NO_CONTENT:
        return start + b"\r\n"  # RFC 9110 section 8.6: a 204 has no Content-Length
    body = action.body.encode()
    content_type = action.content_type.encode()
    if not action.body.isascii() and content_type.startswith(b"text/") and b";" not in content_type:
        content_type += b"; charset=utf-8"
    fields = b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (content_type, len(body))
    return start + fields if head else start + fields + body


def with_fields(response: bytes, fields: bytes) -> bytes:
    """`response` with more field lines, each of which ends with CRLF, behind its status line."""
    line, _, rest = response.partition(b"\r\n")
    return b"%b\r\n%b%b" % (line, fields, rest)


def _head(status: int, date: bytes, close: bool) -> bytes:
    # RFC 9112 section 4: the space stays where the reason phrase is empty.
    line = b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (status, _REASONS.get(status, b""), date)
    return line + b"Connection: close\r\n" if close else line
