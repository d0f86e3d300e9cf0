"""HTTP/1 heads: what a client or a target said, and the bytes that go on to the other side.

Refuse, do not repair: a head is either right to the letter of RFC 9112 or it is refused with a status and a reason
word. Nothing that was not understood is forwarded, and framing is always written by us, never copied. The parse is
strict and therefore not cheap; its results are remembered by the head's bytes, since peers repeat themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

# Limits. ALB refuses request lines and single fields over 16 KiB and heads over 64 KiB; Envoy allows 100 fields.
MAX_REQUEST_LINE = 16 * 1024
MAX_FIELD = 16 * 1024
MAX_HEAD = 64 * 1024
MAX_FIELDS = 100
MAX_FORWARDED_FOR = 30  # ALB answers 463 above

CHUNKED = -1
UNTIL_CLOSE = -2

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# The usual request line in one pass: origin-form, HTTP/1.0 or 1.1. Whatever does not match is looked at slowly.
request_line = re.compile(rb"(?!TRACE |CONNECT )(" + TOKEN + rb"++) (/[!\"$-~]*+) HTTP/1\.([01])\r\n").fullmatch
# Possessive quantifiers: linear in the block, whatever it holds (RFC 9112 5: no white space before the colon,
# no line folding, no bare CR or LF; RFC 9110 5.5: no control characters in a value).
_field_lines = re.compile(rb"(?:" + TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+").fullmatch
field_line = re.compile(TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+").fullmatch
_status_line = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?").fullmatch
_host = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+;=%]{1,255})(?::([0-9]{0,5}))?").fullmatch
_any_line = re.compile(rb"([^ ]*) ([^ ]*) ([^ \r\n]*)").fullmatch
_method = re.compile(TOKEN + rb"++").fullmatch
_version = re.compile(rb"HTTP/([0-9])\.([0-9])").fullmatch
_absolute = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#@]+)([/?][!\"$-~]*)?").fullmatch
_visible = re.compile(rb"[!-~]++").fullmatch
_digits = re.compile(rb"[0-9]{1,19}").fullmatch
_keep_alive_timeout = re.compile(rb"(?:.*,)?[ \t]*timeout=([0-9]{1,6})[ \t]*(?:,.*)?", re.IGNORECASE).fullmatch
MAX_LENGTH = (1 << 63) - 1


class BadMessage(Exception):
    """A message that is refused. `status` answers a client; for a target's message the client gets 502."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's fields, understood. `forward` ends inside the X-Forwarded-For line: the caller adds the client.

    `length` is the body's length, CHUNKED, or 0 for none.
    """

    forward: bytes
    host: bytes  # as sent, without the port, in lower case; b"" in HTTP/1.0 without Host
    length: int
    persist: bool  # the client will keep its connection: by default in HTTP/1.1, when it says so in HTTP/1.0
    expect_continue: bool
    websocket: bool
    user_agent: bytes
    fields: tuple[tuple[bytes, bytes], ...]  # lower-case names, values without white space around them

    def values(self, name: bytes) -> Sequence[bytes]:
        """All values of the field `name` (lower case), in order."""
        return [value for field, value in self.fields if field == name]


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's fields, understood. `forward` is status line and fields without framing and final empty line.

    `whole` is the head a HTTP/1.1 client gets that keeps its connection, ready to be written.
    """

    status: int
    forward: bytes
    whole: bytes
    length: int  # a length, CHUNKED, or UNTIL_CLOSE; says nothing yet of HEAD, 204 and 304
    keep_alive: bool
    idle_timeout: int  # seconds from `Keep-Alive: timeout=`, 0 when not said
    websocket: bool
    plain: bool  # a final answer with a body of known length over a connection that stays: the short way


_Head = TypeVar("_Head", RequestHead, ResponseHead)

# What a field is to us. Everything that is not here is forwarded as it came.
_HOST, _LENGTH, _CODING, _CONNECTION, _DROP, _FORWARDED_FOR, _EXPECT, _UPGRADE, _AGENT, _KEEP = range(1, 11)
_REQUEST_KINDS = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"te": _DROP,  # trailers are not forwarded, so none are asked for
    b"trailer": _DROP,
    b"http2-settings": _DROP,  # never help an h2c upgrade through (h2c smuggling)
    b"x-forwarded-for": _FORWARDED_FOR,
    b"x-forwarded-proto": _DROP,  # said by us alone
    b"x-forwarded-port": _DROP,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
    b"user-agent": _AGENT,
}
_RESPONSE_KINDS = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"keep-alive": _KEEP,
    b"proxy-connection": _DROP,
    b"trailer": _DROP,
    b"upgrade": _UPGRADE,
}
# Connection may name fields to remove, but not these: a client must not strip what we or the target rely on
# (Traefik CVE-2024-45410).
_PROTECTED = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie", b"set-cookie", b"forwarded")
)

Line = tuple[int, bytes, bytes]  # kind, lower-case name, value


class LineMemo:
    """One field line to its meaning. Clients vary one field and repeat the others, so a head that is new is mostly
    made of lines that are not. Bounded: cleared when full, for what is worth keeping is back at once."""

    __slots__ = ("_kinds", "lines")

    MAX_LINES = 4096
    MAX_LINE = 512  # longer lines (cookies mostly) are not kept: 4096 of them are at most 2 MiB

    def __init__(self, kinds: dict[bytes, int]) -> None:
        self._kinds = kinds
        self.lines: dict[bytes, Line] = {}

    def learn(self, line: bytes) -> Line:
        if len(line) > MAX_FIELD:
            raise BadMessage(431, "field_too_long")
        name, _, value = line.partition(b":")
        name = name.lower()
        # A name with an underscore reads like another one behind CGI's rules: nginx drops them, and so do we.
        kind = _DROP if b"_" in name else self._kinds.get(name, 0)
        meaning = (kind, name, value.strip(b" \t"))
        if len(line) <= self.MAX_LINE:
            if len(self.lines) >= self.MAX_LINES:
                self.lines.clear()
            self.lines[line] = meaning
        return meaning


_request_lines = LineMemo(_REQUEST_KINDS)
_response_lines = LineMemo(_RESPONSE_KINDS)


def parse_length(value: bytes) -> int:
    """Content-Length is 1*DIGIT in ASCII (RFC 9110 8.6); int() alone would take b"+1_0"."""
    if _digits(value) is None:
        raise BadMessage(400, "bad_content_length")
    length = int(value)
    if length > MAX_LENGTH:
        raise BadMessage(400, "bad_content_length")
    return length


def parse_host(value: bytes) -> bytes:
    """The host of a Host field or authority, in lower case and without its port."""
    match = _host(value)
    if match is None or (match[2] and int(match[2]) > 65535):
        raise BadMessage(400, "bad_host")
    return match[1].lower()


def _tokens(value: bytes) -> list[bytes]:
    return [token for token in (part.strip(b" \t").lower() for part in value.split(b",")) if token]


def _check_coding(codings: list[bytes]) -> None:
    """RFC 9112 6.1: chunked, once, is the only coding we can read; anything else is not implemented or faulty."""
    if len(codings) > 1:
        raise BadMessage(400, "multiple_transfer_encoding")
    coding = codings[0].lower()
    if coding == b"chunked":
        return
    parts = [part.strip(b" \t") for part in coding.split(b",")]
    if any(_method(part) is None for part in parts) or parts.count(b"chunked") > 1:
        raise BadMessage(400, "bad_transfer_encoding")
    if b"chunked" in parts and parts[-1] != b"chunked":
        raise BadMessage(400, "bad_transfer_encoding")
    raise BadMessage(501, "unsupported_transfer_encoding")


def _split(block: bytes, memo: LineMemo) -> tuple[list[bytes], list[Line]]:
    """The block's lines and their meanings; `block` ends with the last line's CRLF."""
    if _field_lines(block) is None:
        raise BadMessage(400, "bad_header")
    lines = block.split(b"\r\n")
    lines.pop()  # what follows the last CRLF
    if len(lines) > MAX_FIELDS:
        raise BadMessage(431, "too_many_fields")
    known = memo.lines
    return lines, [known.get(line) or memo.learn(line) for line in lines]


def parse_request(block: bytes, *, http10: bool = False) -> RequestHead:
    """Understand the field lines of a request (everything between request line and empty line).

    Raises BadMessage with the status to answer.
    """
    if len(block) > MAX_HEAD:
        raise BadMessage(431, "head_too_long")
    lines, meanings = _split(block, _request_lines)
    forward: list[bytes] = []
    fields: list[tuple[bytes, bytes]] = []
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    forwarded_for: list[bytes] = []
    connection: list[bytes] = []
    upgrades: list[bytes] = []
    expect: list[bytes] = []
    user_agent = b""
    for line, (kind, name, value) in zip(lines, meanings, strict=True):
        fields.append((name, value))
        if kind == 0:
            forward.append(line)
        elif kind == _AGENT:
            user_agent = value
            forward.append(line)
        elif kind == _HOST:
            hosts.append(value)
            forward.append(line)
        elif kind == _LENGTH:
            lengths.append(value)
        elif kind == _CODING:
            codings.append(value)
        elif kind == _CONNECTION:
            connection.extend(_tokens(value))
        elif kind == _FORWARDED_FOR:
            forwarded_for.append(value)
        elif kind == _EXPECT:
            expect.append(value)
        elif kind == _UPGRADE:
            upgrades.extend(_tokens(value))

    if len(hosts) == 1:
        host = parse_host(hosts[0])
    elif hosts or not http10:  # RFC 9112 3.2: exactly one in HTTP/1.1
        raise BadMessage(400, "bad_host")
    else:
        host = b""

    length = 0
    if codings:
        if http10 or lengths:  # RFC 9112 6.1: faulty framing, the root of request smuggling
            raise BadMessage(400, "bad_transfer_encoding" if http10 else "both_length_and_coding")
        _check_coding(codings)
        length = CHUNKED
        forward.append(b"Transfer-Encoding: chunked")
    elif lengths:
        if len(lengths) > 1:
            raise BadMessage(400, "multiple_content_length")
        length = parse_length(lengths[0])
        forward.append(b"Content-Length: %d" % length)

    if connection:
        named = [name for name in connection if name not in _PROTECTED and not name.startswith(b"x-forwarded-")]
        if any(name not in (b"close", b"keep-alive", b"upgrade") for name in named):
            forward = [line for line in forward if line.partition(b":")[0].lower() not in named]

    expect_continue = False
    if expect and not http10:  # RFC 9110 10.1.1: a server ignores it in HTTP/1.0
        if len(expect) > 1 or expect[0].lower() != b"100-continue":
            raise BadMessage(417, "unknown_expectation")
        expect_continue = True
        forward.append(b"Expect: 100-continue")

    websocket = not http10 and b"upgrade" in connection and upgrades == [b"websocket"] and length == 0
    if websocket:
        forward.append(b"Connection: Upgrade\r\nUpgrade: websocket")

    clients = b", ".join(value for value in forwarded_for if value)
    if clients.count(b",") >= MAX_FORWARDED_FOR:
        raise BadMessage(463, "too_many_forwarded_for")
    forward.append(b"X-Forwarded-For: " + (clients + b", " if clients else b""))
    return RequestHead(
        forward=b"\r\n".join(forward),
        host=host,
        length=length,
        persist=b"close" not in connection and (not http10 or b"keep-alive" in connection),
        expect_continue=expect_continue,
        websocket=websocket,
        user_agent=user_agent,
        fields=tuple(fields),
    )


@dataclass(frozen=True, slots=True)
class RequestLine:
    method: bytes
    target: bytes  # origin-form, or b"*"
    minor: int
    authority: bytes | None  # of an absolute-form target: it replaces Host (RFC 9112 3.2.2)


def parse_unusual_request_line(line: bytes) -> RequestLine:
    """The request lines that `request_line` does not take: absolute-form, OPTIONS *, HTTP/1.2, and what is wrong.

    `line` ends with CRLF. Raises BadMessage with the status that fits the fault.
    """
    if len(line) > MAX_REQUEST_LINE:
        raise BadMessage(414, "request_line_too_long")
    match = _any_line(line[:-2])
    if match is None:
        raise BadMessage(400, "bad_request_line")
    method, target, version = match.groups()
    numbers = _version(version)
    if _method(method) is None or numbers is None or _visible(target) is None:
        raise BadMessage(400, "bad_request_line")
    if numbers[1] != b"1":
        raise BadMessage(505, "unsupported_version")
    if method in (b"CONNECT", b"TRACE"):
        # A reverse proxy opens no tunnels for strangers, and TRACE reflects what it adds (ALB answers 405 too).
        raise BadMessage(405, "method_not_allowed")
    minor = min(int(numbers[2]), 1)  # RFC 9110 2.5: a higher minor version is processed as the highest known
    if target == b"*":
        if method != b"OPTIONS":
            raise BadMessage(400, "bad_target")
        return RequestLine(method, target, minor, None)
    if b"#" in target:
        raise BadMessage(400, "bad_target")
    if target.startswith(b"/"):
        return RequestLine(method, target, minor, None)
    absolute = _absolute(target)
    if absolute is None:
        raise BadMessage(400, "bad_target")
    parse_host(absolute[1])
    path = absolute[2] or b"/"
    return RequestLine(method, path if path.startswith(b"/") else b"/" + path, minor, absolute[1])


def replace_host(block: bytes, authority: bytes) -> bytes:
    """The block with its one Host line (if it has any) replaced by the target's authority."""
    lines = block.split(b"\r\n")
    kept = [line for line in lines if line[:5].lower() != b"host:"]
    if len(kept) < len(lines) - 1:
        raise BadMessage(400, "bad_host")
    return b"Host: " + authority + b"\r\n" + b"\r\n".join(kept)


def parse_response(head: bytes) -> ResponseHead:
    """Understand a target's response head, from the status line through the empty line.

    Raises BadMessage with status 502.
    """
    try:
        return _parse_response(head)
    except BadMessage as bad:
        raise BadMessage(502, "target_" + bad.reason) from None


def _parse_response(head: bytes) -> ResponseHead:
    if len(head) > MAX_HEAD:
        raise BadMessage(502, "head_too_long")
    first, _, block = head[:-2].partition(b"\r\n")
    match = _status_line(first)
    if match is None:
        raise BadMessage(502, "bad_status_line")
    minor, status, phrase = match[1], int(match[2]), match[3] or b""
    lines, meanings = _split(block, _response_lines)
    forward = [b"HTTP/1.1 %d %b" % (status, phrase)]
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrades: list[bytes] = []
    idle_timeout = 0
    for line, (kind, _name, value) in zip(lines, meanings, strict=True):
        if kind == 0:
            forward.append(line)
        elif kind == _LENGTH:
            lengths.append(value)
        elif kind == _CODING:
            codings.append(value)
        elif kind == _CONNECTION:
            connection.extend(_tokens(value))
        elif kind == _UPGRADE:
            upgrades.extend(_tokens(value))
        elif kind == _KEEP:
            said = _keep_alive_timeout(value)
            idle_timeout = int(said[1]) if said else 0

    named = [name for name in connection if name not in _PROTECTED]
    if any(name not in (b"close", b"keep-alive", b"upgrade") for name in named):
        forward = forward[:1] + [line for line in forward[1:] if line.partition(b":")[0].lower() not in named]

    framing = b""
    if codings:
        if lengths or minor == b"0":
            raise BadMessage(502, "both_length_and_coding" if lengths else "bad_transfer_encoding")
        _check_coding(codings)
        length = CHUNKED
        framing = b"\r\nTransfer-Encoding: chunked"
    elif lengths:
        if len(lengths) > 1:
            raise BadMessage(502, "multiple_content_length")
        length = parse_length(lengths[0])
        framing = b"\r\nContent-Length: %d" % length
    else:
        length = UNTIL_CLOSE
    keep_alive = b"close" not in connection and (minor == b"1" or b"keep-alive" in connection)
    text = b"\r\n".join(forward)
    return ResponseHead(
        status=status,
        forward=text,
        whole=text + framing + b"\r\n\r\n",
        length=length,
        keep_alive=keep_alive,
        idle_timeout=idle_timeout,
        websocket=status == 101 and b"upgrade" in connection and upgrades == [b"websocket"],
        plain=length >= 0 and keep_alive and status >= 200 and status not in (204, 205, 304),
    )


def body_length(head: ResponseHead, method: bytes) -> int:
    """The length of the body that follows, by RFC 9112 6.3: none after HEAD, 1xx, 204 and 304."""
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    return head.length


def client_head(head: ResponseHead, method: bytes, *, http10: bool, close: bool) -> bytes:
    """The response head for a client in the cases where `head.whole` does not fit."""
    framing = b""
    if head.length >= 0:
        # HEAD and 304 keep the length of what is not sent; RFC 9110 8.6 forbids it in 1xx and 204.
        if head.status >= 200 and head.status != 204:
            framing = b"\r\nContent-Length: %d" % head.length
    elif body_length(head, method) < 0 and not http10:
        framing = b"\r\nTransfer-Encoding: chunked"
    if head.status < 200:
        connection = b""
    elif close:
        connection = b"\r\nConnection: close"
    else:
        connection = b"\r\nConnection: keep-alive" if http10 else b""
    return head.forward + framing + connection + b"\r\n\r\n"


class HeadMemo:
    """Heads already understood, by their bytes. Strictness is free this way: the strict parse runs once.

    Bounded in entries and in the size of one entry, and cleared when full: what repeats is back at once, and a
    stream of heads that never repeat costs its parse and no memory.
    """

    MAX_ENTRIES = 2048
    MAX_BYTES = 4096  # of one entry: 2048 of them are at most 8 MiB twice

    __slots__ = ("requests", "requests10", "responses")

    def __init__(self) -> None:
        self.requests: dict[bytes, RequestHead] = {}
        self.requests10: dict[bytes, RequestHead] = {}
        self.responses: dict[bytes, ResponseHead] = {}

    def learn_request(self, block: bytes, *, http10: bool) -> RequestHead:
        head = parse_request(block, http10=http10)
        _remember(self.requests10 if http10 else self.requests, block, head)
        return head

    def learn_response(self, raw: bytes) -> ResponseHead:
        head = parse_response(raw)
        _remember(self.responses, raw, head)
        return head


def _remember(memo: dict[bytes, _Head], raw: bytes, head: _Head) -> None:
    if len(raw) <= HeadMemo.MAX_BYTES:
        if len(memo) >= HeadMemo.MAX_ENTRIES:
            memo.clear()
        memo[raw] = head
