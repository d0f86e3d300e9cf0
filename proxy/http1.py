"""HTTP/1 heads: what a client or a target said, and the bytes that go on to the other side.

Refuse, do not repair: a head is either right to the letter of RFC 9112 or it is refused with a status and a reason
word. Nothing that was not understood is forwarded, and framing is always written by us, never copied. The parse is
strict and therefore not cheap; its results are remembered by the head's bytes, since peers repeat themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

from .http_fields import (
    CODING,
    CONNECTION,
    DROP,
    EXPECT,
    FORWARDED_FOR,
    HEAD_LIMITS,
    HOST,
    KEEP_ALIVE,
    LENGTH,
    MAX_HEAD,
    MAX_REQUEST_LINE,
    PLAIN,
    TOKEN,
    TRACE,
    UPGRADE,
    BadMessage,
    HeadLimits,
    Line,
    LineMemo,
    check_coding,
    is_token,
    parse_host,
    parse_length,
    remover,
    split_lines,
    tokens,
)

# These never go the short way: 204, 205 and 304 have no body or must not, and of 502, 503 and 504 another target may
# know better.
_UNUSUAL = frozenset((204, 205, 304, 502, 503, 504))

CHUNKED = -1
UNTIL_CLOSE = -2

# The usual request line in one pass: origin-form, HTTP/1.0 or 1.1. Whatever does not match is looked at slowly.
request_line = re.compile(rb"(?!TRACE |CONNECT )(" + TOKEN + rb"++) (/[!\"$-~]*+) HTTP/1\.([01])\r\n").fullmatch
not_in_target = re.compile(rb"[^!\"$-~]").search  # the first byte that has no place in a target
_status_line = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?").fullmatch
_any_line = re.compile(rb"([^ ]*) ([^ ]*) ([^ \r\n]*)").fullmatch
_version = re.compile(rb"HTTP/([0-9])\.([0-9])").fullmatch
_absolute = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#@]+)([/?][!\"$-~]*)?").fullmatch
_visible = re.compile(rb"[!-~]++").fullmatch
_keep_alive_timeout = re.compile(rb"(?:.*,)?[ \t]*timeout=([0-9]{1,6})[ \t]*(?:,.*)?", re.IGNORECASE).fullmatch

_requests = LineMemo(
    {
        b"host": HOST,
        b"content-length": LENGTH,
        b"transfer-encoding": CODING,
        b"connection": CONNECTION,
        b"keep-alive": DROP,
        b"proxy-connection": DROP,
        b"te": DROP,  # trailers are not forwarded, so none are asked for
        b"trailer": DROP,
        b"http2-settings": DROP,  # never help an h2c upgrade through (h2c smuggling)
        b"x-forwarded-for": FORWARDED_FOR,
        b"x-forwarded-proto": DROP,  # said by us alone
        b"x-forwarded-port": DROP,
        b"x-amzn-mtls-clientcert": DROP,
        b"x-amzn-mtls-clientcert-serial-number": DROP,
        b"x-amzn-mtls-clientcert-issuer": DROP,
        b"x-amzn-mtls-clientcert-subject": DROP,
        b"x-amzn-mtls-clientcert-validity": DROP,
        b"x-amzn-mtls-clientcert-leaf": DROP,
        b"expect": EXPECT,
        b"upgrade": UPGRADE,
        b"x-amzn-trace-id": TRACE,
        b"x-request-id": TRACE,
        b"traceparent": TRACE,
    }
)
_responses = LineMemo(
    {
        b"content-length": LENGTH,
        b"transfer-encoding": CODING,
        b"connection": CONNECTION,
        b"keep-alive": KEEP_ALIVE,
        b"proxy-connection": DROP,
        b"trailer": DROP,
        b"upgrade": UPGRADE,
    }
)


class RequestHead:
    """A request's fields, understood; shared by every request that says the same, so never changed.

    `forward` ends inside the X-Forwarded-For line: the caller adds the client. `host` is in lower case and without
    port, empty in HTTP/1.0 without Host. `length` is the body's, CHUNKED, or 0 for none. `persist` says that the
    client keeps its connection: by default in HTTP/1.1, when it asks for it in HTTP/1.0. `traces` are the lines that
    name the request already.
    """

    __slots__ = (
        "_block",
        "_user_agent",
        "expect_continue",
        "forward",
        "host",
        "length",
        "persist",
        "traces",
        "websocket",
    )

    def __init__(
        self,
        block: bytes,
        forward: bytes,
        host: bytes,
        length: int = 0,
        persist: bool = True,
        expect_continue: bool = False,
        websocket: bool = False,
        traces: Sequence[Line] = (),
    ) -> None:
        self._block = block
        self._user_agent: bytes | None = None  # looked for when it is first asked for
        self.forward = forward
        self.host = host
        self.length = length
        self.persist = persist
        self.expect_continue = expect_continue
        self.websocket = websocket
        self.traces = traces

    def sent_with(self, host: bytes) -> RequestHead:
        """The same with a Host line to targets, which HTTP/1.1 owes them (RFC 9112 3.2). What the client said stays."""
        head = copy(self)
        head.forward = b"Host: %b\r\n%b" % (host, self.forward)
        return head

    def values(self, name: bytes) -> Sequence[bytes]:
        """All values of the field `name` (lower case), in order. Looked for when asked: most requests never are."""
        return [value for field, value in self.fields() if field.lower() == name]

    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """Names and values as they came, in order."""
        lines = (line.partition(b":") for line in self._block.split(b"\r\n") if line)
        return tuple((name, value.strip(b" \t")) for name, _, value in lines)

    @property
    def user_agent(self) -> bytes:
        if self._user_agent is None:
            block = b"\n" + self._block  # field lines as they came, checked: no line is folded, or has a bare CR or LF
            at = block.lower().find(b"\nuser-agent:")
            end = block.find(b"\r", at)
            self._user_agent = b"" if at < 0 else block[at + len("\nuser-agent:") : end].strip(b" \t")
        return self._user_agent


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


def parse_request(block: bytes, *, http10: bool = False, limits: HeadLimits = HEAD_LIMITS) -> RequestHead:
    """Understand the field lines of a request (everything between request line and empty line).

    Raises BadMessage with the status to answer.
    """
    if len(block) > limits.head:
        raise BadMessage(431, "head_too_long")
    known = _requests.known.get
    forward: list[bytes] = []
    special: list[Line] = []
    traces: Sequence[Line] = ()
    host = b""  # a Host that is empty is refused, so this says that there is none
    for line in split_lines(block, limits.fields):
        meaning = known(line) or _requests.learn(line, limits.field)
        kind = meaning[0]
        if kind == PLAIN:
            forward.append(line)
        elif kind == HOST and not host:
            host = meaning[2]
            forward.append(line)
        elif kind == TRACE:
            traces = [*traces, meaning]
            forward.append(line)
        else:
            special.append(meaning)
    if host and not special:  # nothing in it concerns us: the block goes on as it came
        return RequestHead(block, block + b"X-Forwarded-For: ", host, persist=not http10, traces=traces)
    return _parse_special(block, forward, special, traces, host, http10=http10, limits=limits)


def _parse_special(
    block: bytes,
    forward: list[bytes],
    special: list[Line],
    traces: Sequence[Line],
    host: bytes,
    *,
    http10: bool,
    limits: HeadLimits,
) -> RequestHead:
    """A head with fields that concern us: framing, the connection, who forwarded it."""
    named: dict[int, list[bytes]] = {}
    for kind, _, value in special:
        named.setdefault(kind, []).append(value)
    if HOST in named or (not host and not http10):  # RFC 9112 3.2: exactly one in HTTP/1.1
        raise BadMessage(400, "bad_host")

    connection = [option for value in named.get(CONNECTION, ()) for option in tokens(value)]
    removed = remover(connection)
    if removed is not None:
        forward = [line for line in forward if not removed(line)]

    length = 0
    lengths, codings = named.get(LENGTH, ()), named.get(CODING, ())
    if codings:
        if http10 or lengths:  # RFC 9112 6.1: faulty framing, the root of request smuggling
            raise BadMessage(400, "bad_transfer_encoding" if http10 else "both_length_and_coding")
        check_coding(codings)
        length = CHUNKED
        forward.append(b"Transfer-Encoding: chunked")
    elif lengths:
        if len(lengths) > 1:
            raise BadMessage(400, "multiple_content_length")
        length = parse_length(lengths[0])
        forward.append(b"Content-Length: %d" % length)

    expect = named.get(EXPECT, [])
    expect_continue = bool(expect) and not http10  # RFC 9110 10.1.1: a server ignores it in HTTP/1.0
    if expect_continue:
        if len(expect) > 1 or expect[0].lower() != b"100-continue":
            raise BadMessage(417, "unknown_expectation")
        forward.append(b"Expect: 100-continue")

    upgrades = [name for value in named.get(UPGRADE, ()) for name in tokens(value)]
    websocket = not http10 and b"upgrade" in connection and upgrades == [b"websocket"] and length == 0
    if websocket:
        forward.append(b"Connection: Upgrade\r\nUpgrade: websocket")

    clients = b", ".join(value for value in named.get(FORWARDED_FOR, ()) if value)
    if clients.count(b",") >= limits.forwarded_for:
        raise BadMessage(463, "too_many_forwarded_for")
    forward.append(b"X-Forwarded-For: " + (clients + b", " if clients else b""))
    return RequestHead(
        block,
        forward=b"\r\n".join(forward),
        host=host,
        length=length,
        persist=b"close" not in connection and (not http10 or b"keep-alive" in connection),
        expect_continue=expect_continue,
        websocket=websocket,
        traces=traces,
    )


@dataclass(frozen=True, slots=True)
class RequestLine:
    method: bytes
    target: bytes  # origin-form, or b"*"
    minor: int
    authority: bytes | None  # of an absolute-form target: it replaces Host (RFC 9112 3.2.2)


def parse_unusual_request_line(line: bytes, limit: int = MAX_REQUEST_LINE) -> RequestLine:
    """The request lines that `request_line` does not take: absolute-form, OPTIONS *, HTTP/1.2, and what is wrong.

    `line` ends with CRLF. Raises BadMessage with the status that fits the fault.
    """
    if len(line) > limit:
        raise BadMessage(414, "request_line_too_long")
    match = _any_line(line[:-2])
    if match is None:
        raise BadMessage(400, "bad_request_line")
    method, target, version = match.groups()
    numbers = _version(version)
    if is_token(method) is None or numbers is None or _visible(target) is None:
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


def parse_response(head: bytes, *, limit: int = MAX_HEAD) -> ResponseHead:
    """Understand a target's response head, from the status line through the empty line.

    Raises BadMessage with status 502.
    """
    try:
        return _parse_response(head, limit)
    except BadMessage as bad:
        raise BadMessage(502, "target_" + bad.reason) from None


def _parse_response(head: bytes, limit: int) -> ResponseHead:
    if len(head) > limit:
        raise BadMessage(502, "head_too_long")
    first, _, block = head[:-2].partition(b"\r\n")
    match = _status_line(first)
    if match is None:
        raise BadMessage(502, "bad_status_line")
    minor, status, phrase = match[1], int(match[2]), match[3] or b""
    known = _responses.known.get
    forward = [b"HTTP/1.1 %d %b" % (status, phrase)]
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrades: list[bytes] = []
    idle_timeout = 0
    for line in split_lines(block):
        kind, _, value = known(line) or _responses.learn(line)
        if kind == PLAIN:
            forward.append(line)
        elif kind == LENGTH:
            lengths.append(value)
        elif kind == CODING:
            codings.append(value)
        elif kind == CONNECTION:
            connection.extend(tokens(value))
        elif kind == UPGRADE:
            upgrades.extend(tokens(value))
        elif kind == KEEP_ALIVE:
            said = _keep_alive_timeout(value)
            idle_timeout = int(said[1]) if said else 0
    removed = remover(connection)
    if removed is not None:
        forward[1:] = [line for line in forward[1:] if not removed(line)]

    framing = b""
    if codings:
        if lengths or minor == b"0":
            raise BadMessage(502, "both_length_and_coding" if lengths else "bad_transfer_encoding")
        check_coding(codings)
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
        plain=length >= 0 and keep_alive and status >= 200 and status not in _UNUSUAL,
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

    Bounded in entries and in the size of one entry, and cleared when full: what repeats is back at once. A head is
    remembered when all its lines had been seen before, so that a stream of heads which never repeat (a trace id in
    each) costs its parse, and does not drive out those which do.
    """

    MAX_ENTRIES = 2048
    MAX_BYTES = 4096  # of one entry: 2048 of them are at most 8 MiB twice

    __slots__ = ("limits", "requests", "requests10", "responses")

    def __init__(self, limits: HeadLimits = HEAD_LIMITS) -> None:
        self.limits = limits  # what was learned under other limits would not be right under these
        self.requests: dict[bytes, RequestHead] = {}
        self.requests10: dict[bytes, RequestHead] = {}
        self.responses: dict[bytes, ResponseHead] = {}

    def learn_request(self, block: bytes, *, http10: bool) -> RequestHead:
        before = _requests.lessons
        head = parse_request(block, http10=http10, limits=self.limits)
        if _requests.lessons == before and head.host:  # where there is none, each connection puts in its own
            _remember(self.requests10 if http10 else self.requests, block, head)
        return head

    def learn_response(self, raw: bytes, limit: int = MAX_HEAD) -> ResponseHead:
        """`limit` is at least MAX_BYTES, so that what is remembered is right under every limit."""
        before = _responses.lessons
        head = parse_response(raw, limit=limit)
        if _responses.lessons == before:
            _remember(self.responses, raw, head)
        return head


def _remember(memo: dict[bytes, _Head], raw: bytes, head: _Head) -> None:
    if len(raw) <= HeadMemo.MAX_BYTES:
        if len(memo) >= HeadMemo.MAX_ENTRIES:
            memo.clear()
        memo[raw] = head
