"""One client connection that speaks HTTP/1: read a head, choose, lend an upstream, relay, count, and again.

One request at a time; what a client sends ahead is kept, within limits, until the answer before it is complete.
Read `data_received` and follow the calls: the usual request takes `_begin`, `response_whole`, and nothing else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import TYPE_CHECKING

from .actions import fixed_response, redirect_location, redirect_response
from .chunked import ChunkedReader
from .counters import DURATION_BUCKETS
from .http1 import (
    CHUNKED,
    MAX_HEAD,
    MAX_REQUEST_LINE,
    BadMessage,
    RequestHead,
    ResponseHead,
    client_head,
    parse_unusual_request_line,
    replace_host,
    request_line,
)
from .records import NO_TLS, tls_facts
from .relay import Relay
from .specs import FixedResponse, Redirect
from .upstream import MEMO, Upstream, connect

if TYPE_CHECKING:
    from .listener import Listener
    from .plan import Plan, Route
    from .targets import Target, TargetGroup

# Seconds; see reference defaults of HAProxy (http-request 10 s), nginx (keep-alive 75 s), ALB (idle 60 s).
HEAD_TIMEOUT = 10.0  # from a head's first byte to its last
FIRST_TIMEOUT = 30.0  # from accept to the first byte
KEEP_ALIVE_TIMEOUT = 75.0
IDLE_TIMEOUT = 60.0  # a gap in either body, or the wait for the answer's head
TUNNEL_TIMEOUT = 3600.0
LINGER_TIMEOUT = 5.0  # reading on after an early answer, so that a reset does not eat it (nginx lingering_close)
MAX_LINGER = 64 * 1024
MAX_AHEAD = 64 * 1024  # bytes that a client may send before its turn; then it is not read from
WRITE_HIGH = 64 * 1024
WRITE_LOW = 16 * 1024
CONNECT_TRIES = 2  # a target that refuses has seen nothing of the request, so another may have it

# RFC 9110 9.2.2. These may be sent again when a kept connection turns out to be dead.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))

# Why a client is not read from; several reasons may hold at once.
_CONNECTING, _UPSTREAM_FULL, _AHEAD = 1, 2, 4

_memo = MEMO.requests
_memo10 = MEMO.requests10


class HttpSession(asyncio.Protocol):
    __slots__ = (
        "_ahead",
        "_began",
        "_connecting",
        "_finished",
        "_hold",
        "_lingering",
        "_replay",
        "_started",
        "_tail",
        "busy",
        "deadline",
        "group",
        "head",
        "http10",
        "left",
        "listener",
        "local",
        "method",
        "peer",
        "persist",
        "plan",
        "reader",
        "reason",
        "received",
        "request_time",
        "route",
        "sending",
        "sent",
        "simple",
        "status",
        "target",
        "target_status",
        "target_time",
        "tls",
        "transport",
        "upstream",
        "uri",
        "write",
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport | None = None
        self.busy = False
        self._ahead = b""
        self.upstream: Upstream | None = None
        self.target: Target | None = None
        self.group: TargetGroup | None = None
        self.route: Route | None = None
        self.head: RequestHead | None = None
        self.reader: ChunkedReader | None = None
        self.sending = False
        self.left = 0
        self.simple = False
        self.http10 = False
        self.persist = True
        self.method = self.uri = b""
        self.reason = ""
        self._connecting: asyncio.Task[None] | None = None
        self._replay: bytes | None = None
        self._began = False
        self._finished = True
        self._lingering = -1
        self._hold = 0
        self._started = 0.0
        self.status = self.target_status = 0
        self.received = self.sent = 0
        self.request_time = self.target_time = -1.0
        self.tls = NO_TLS
        self.deadline = 0.0

    # -- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The listener has admitted the client, and TLS is done where it is spoken."""
        listener = self.listener
        self.transport = transport
        self.write = transport.write
        transport.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        self.peer: tuple[str, int] = transport.get_extra_info("peername")[:2]
        self.local: tuple[str, int] = transport.get_extra_info("sockname")[:2]
        self._tail = listener.forwarded_tail(self.peer[0], self.local[1])
        if listener.secure:
            self.tls = tls_facts(transport)
        self.deadline = listener.clock.now + FIRST_TIMEOUT
        listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.release(self)
        self.transport = None
        if self._connecting is not None:
            self._connecting.cancel()
        if not self._finished:
            self.reason = self.reason or "client_closed"
            self.status = self.status or 460  # ALB's code for a client that left before its answer
            self._settle()
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.let_go()

    def eof_received(self) -> bool:
        """The client sends nothing more. While its answer is under way it may still be reading; before that, it has
        left for all we can know, and a target should not work for nobody (nginx 499, Envoy, ALB 460)."""
        self.persist = self.simple = False
        return self._began and not self._finished and not self.sending and not self.listener.secure

    # -- reading requests -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.busy:
            self._more(data)
            return
        if self._ahead:
            data = self._ahead + data
            self._ahead = b""
        end = data.find(b"\r\n\r\n") + 2
        if end < 2:
            self._partial(data)
            return
        try:
            self._begin(data, end)
        except BadMessage as bad:
            self._refuse(bad)

    def _begin(self, data: bytes, end: int) -> None:
        """A whole head is here: data[:end] are its lines, data[end + 2:] is what follows the empty line."""
        listener = self.listener
        cut = data.find(b"\r\n") + 2
        match = request_line(data[:cut])
        block = data[cut:end]
        if match is None or cut > MAX_REQUEST_LINE:
            block, end, data = self._begin_unusual(data, end, cut)
            head = self.head
            assert head is not None
        else:
            self.method, self.uri, minor = match.groups()
            if minor == b"1":
                self.http10 = False
                head = _memo.get(block)
                if head is None:
                    head = MEMO.learn_request(block, http10=False)
            else:
                self.http10 = True
                head = _memo10.get(block) or MEMO.learn_request(block, http10=True)
            self.head = head
        self._started = perf_counter()
        self.deadline = listener.clock.now + IDLE_TIMEOUT
        self.busy = True
        self._finished = False
        self._began = False
        counters = listener.counters
        counters.requests += 1
        self.received = len(data)
        counters.bytes_in += self.received
        self.persist = head.persist and not listener.draining
        self.simple = self.persist and not self.http10 and self.method != b"HEAD"
        plan = listener.plan
        route = self.route = plan.only_route or self._choose(plan, head)
        group = self.group = route.group or self._draw(route)
        if group is None:
            self._keep_rest(data, end + 2)
            self._answer_ourselves()
            return
        target = group.pick()
        self.target = target
        message = b"%b %b HTTP/1.1\r\n%b%b" % (self.method, self.uri, head.forward, self._tail)
        if head.length:
            message = self._begin_body(head, message, data, end + 2)
        else:
            if len(data) > end + 2:
                self._ahead = data[end + 2 :]
            self._replay = message
        if target is None:
            self._fail(503, "no_target")
            return
        if target.denied is not None:
            self._fail(503, "target_denied")
            return
        target.in_flight += 1
        idle = target.idle
        if idle:
            upstream: Upstream = idle.pop()  # type: ignore[assignment]  # only Upstreams are kept idle
            self.upstream = upstream
            upstream.session = self
            upstream.transport.write(message)
            target_counters = target.counters
            target_counters.requests += 1
            target_counters.bytes_out += len(message)
            if listener.access_log is not None:
                self.request_time = perf_counter() - self._started
        else:
            self._connect(target, message)

    def _begin_unusual(self, data: bytes, end: int, cut: int) -> tuple[bytes, int, bytes]:
        """Empty lines before the request, absolute-form, OPTIONS *, higher minor versions; or the right refusal."""
        if cut == 2:  # RFC 9112 2.2: one empty line before a request line is ignored
            data, end = data[2:], end - 2
            if data[:2] == b"\r\n":
                raise BadMessage(400, "bad_request_line")
            cut = data.find(b"\r\n") + 2
        line = parse_unusual_request_line(data[:cut])
        block = data[cut:end]
        if line.authority is not None:
            block = replace_host(block, line.authority)
        self.method, self.uri, self.http10 = line.method, line.target, line.minor == 0
        self.head = MEMO.learn_request(block, http10=self.http10)
        return block, end, data

    def _begin_body(self, head: RequestHead, message: bytes, data: bytes, start: int) -> bytes:
        """Put the first bytes of the body behind the head and note what is still to come."""
        self.sending = True
        body = data[start:]
        if head.length == CHUNKED:
            self.reader = ChunkedReader()
            body = self._read_chunks(body)
        else:
            self.left = head.length - len(body)
            if self.left <= 0:
                self.sending = False
                if self.left < 0:
                    self._ahead = body[self.left :]
                    body = body[: self.left]
        message += body
        self._replay = None if self.sending else message
        return message

    def _read_chunks(self, body: bytes) -> bytes:
        reader = self.reader
        assert reader is not None
        out = reader.feed(body)
        if reader.done:
            self.sending = False
            self._ahead = reader.rest
            self.reader = None
        return out

    def _partial(self, data: bytes) -> None:
        """A head that is not complete yet."""
        if len(data) > MAX_HEAD:
            line_end = data.find(b"\r\n", 0, MAX_REQUEST_LINE)
            self._refuse(BadMessage(414 if line_end < 0 else 431, "head_too_long"))
            return
        line_end = data.find(b"\n")
        if (line_end < 0 and len(data) > MAX_REQUEST_LINE) or line_end > MAX_REQUEST_LINE:
            self._refuse(BadMessage(414, "request_line_too_long"))
            return
        if b"\n" in data and _bare_line_feed(data):
            self._refuse(BadMessage(400, "bad_request_line"))
            return
        if not self._ahead and self.transport is not None:
            self.deadline = min(self.deadline, self.listener.clock.now + HEAD_TIMEOUT)
        self._ahead = data

    def _more(self, data: bytes) -> None:
        """Bytes while a request is under way: its body, or what comes after it."""
        self.listener.counters.bytes_in += len(data)
        if self._lingering >= 0:
            self._lingering += len(data)
            if self._lingering > MAX_LINGER and self.transport is not None:
                self.transport.close()
        elif self.sending and self.upstream is not None:
            self.received += len(data)
            self._send_body(self.upstream, data)
        else:  # its turn comes: the next request, or the body while the target is still being connected to
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD and self.transport is not None:
                self._pause(_AHEAD)

    def _send_body(self, upstream: Upstream, data: bytes) -> None:
        if self.reader is not None:
            try:
                data = self._read_chunks(data)
            except BadMessage as bad:
                self.upstream = None
                upstream.let_go()
                if self._began:
                    self._abort(bad.reason)
                else:
                    self._fail(bad.status, bad.reason)
                return
        else:
            self.left -= len(data)
            if self.left <= 0:
                self.sending = False
                if self.left < 0:
                    self._ahead = data[self.left :]
                    data = data[: self.left]
        self.deadline = self.listener.clock.now + IDLE_TIMEOUT
        if data:
            upstream.transport.write(data)
            upstream.target.counters.bytes_out += len(data)

    def _keep_rest(self, data: bytes, start: int) -> None:
        """We answer ourselves: a request without a body leaves the connection usable, one with a body ends it."""
        head = self.head
        assert head is not None
        if head.length:
            self.persist = self.simple = False
            self.sending = True
        else:
            self._ahead = data[start:]

    # -- choosing and connecting ----------------------------------------------------------------------------------

    def _choose(self, plan: Plan, head: RequestHead) -> Route:
        route = plan.route(self.method, self.uri, head)
        self.listener.counters.rule_hits[route.label] += 1
        return route

    def _draw(self, route: Route) -> TargetGroup | None:
        """One of several groups by weight, or None when the answer is ours."""
        return None if route.weighted is None else route.draw(self.listener.rng)

    def _answer_ourselves(self) -> None:
        route, head = self.route, self.head
        assert route is not None and head is not None
        action = route.action
        clock = self.listener.clock
        if self.http10:
            self.persist = False
        close = not self.persist
        if isinstance(action, FixedResponse):
            response = fixed_response(action, date=clock.date, close=close, head=self.method == b"HEAD")
            self._respond(action.status, response)
        elif isinstance(action, Redirect):
            path, _, query = self.uri.partition(b"?")
            location = redirect_location(
                action,
                protocol=b"https" if self.listener.secure else b"http",
                host=head.host,
                port=self.local[1],
                path=path,
                query=query,
            )
            response = redirect_response(action, location, date=clock.date, close=close)
            self._respond(action.status, response)
        else:
            self._fail(503, "no_target")

    def _connect(self, target: Target, message: bytes) -> None:
        self._pause(_CONNECTING)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(self._connect_and_send(target, message))

    async def _connect_and_send(self, target: Target, message: bytes) -> None:
        """Open a connection and send; on refusal the next target has a try. `target` is counted as in flight."""
        group = target.group
        upstream: Upstream | None = None
        status, reason = 502, "connect_failed"
        for attempt in range(CONNECT_TRIES):
            try:
                upstream = await connect(target, self.listener.clock)
                break
            except TimeoutError:
                status, reason = 504, "connect_timeout"
            except PermissionError as denied:
                status, reason = 503, "target_denied"
                self.listener.counters.denied[str(denied)] += 1
            except OSError:
                status, reason = 502, "connect_failed"
            except asyncio.CancelledError:
                target.in_flight -= 1
                raise
            target.in_flight -= 1
            target.counters.failed[reason] += 1
            other = group.pick()
            if attempt + 1 == CONNECT_TRIES or other is None or other is target or other.denied is not None:
                break
            target = self.target = other
            target.in_flight += 1
        self._connecting = None
        if upstream is None:
            self._fail(status, reason)
            return
        self.upstream = upstream
        upstream.session = self
        upstream.transport.write(message)
        target.counters.requests += 1
        target.counters.bytes_out += len(message)
        self.request_time = perf_counter() - self._started
        if self.sending and self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._send_body(upstream, ahead)
        self._resume(_CONNECTING)
        self.deadline = self.listener.clock.now + IDLE_TIMEOUT

    # -- relaying the answer (called by the upstream) -------------------------------------------------------------

    def response_whole(self, head: ResponseHead, data: bytes) -> None:
        """The usual answer: complete, of known length, both connections stay."""
        self.upstream = None
        self.target_status = status = head.status
        self.write(data)
        self.sent = len(data)
        counters = self.listener.counters
        counters.bytes_out += self.sent
        counters.responses[status // 100] += 1
        duration = perf_counter() - self._started
        counters.duration_sum += duration
        counters.duration_count[bisect_left(DURATION_BUCKETS, duration)] += 1
        target = self.target
        assert target is not None
        target.counters.responses[status // 100] += 1
        self._finished = True
        if self.listener.access_log is not None:
            self.status = status
            self.target_time = duration - self.request_time
            self.listener.log_request(self, duration)
        self.busy = False
        self._replay = None
        self.deadline = self.listener.clock.now + KEEP_ALIVE_TIMEOUT
        if self._ahead:
            self._next()

    def response_begins(self, head: ResponseHead) -> None:
        if self.sending:
            self.persist = False  # the body may never come to an end, so neither may the connection stay
        if self.http10 and head.length < 0 and self.method != b"HEAD":
            self.persist = False  # its end is the only end the client can see
        self._began = True
        self.target_time = perf_counter() - self._started - self.request_time
        self.status = self.target_status = head.status
        if self.target is not None:
            self.target.counters.responses[head.status // 100] += 1
        self.deadline = self.listener.clock.now + IDLE_TIMEOUT
        if self.simple and self.persist:
            self._write(head.whole if head.plain or head.length == CHUNKED else self._client_head(head))
        else:
            self._write(self._client_head(head))

    def _client_head(self, head: ResponseHead) -> bytes:
        return client_head(head, self.method, http10=self.http10, close=not self.persist)

    def response_interim(self, head: ResponseHead) -> None:
        """1xx: 100 only to a client that asked for it, nothing to HTTP/1.0 (RFC 9110 15.2)."""
        request = self.head
        assert request is not None
        if not self.http10 and (head.status != 100 or request.expect_continue):
            self._write(client_head(head, self.method, http10=False, close=False))

    def response_body(self, data: bytes) -> None:
        self.deadline = self.listener.clock.now + IDLE_TIMEOUT
        self._write(data)

    def response_ends(self) -> None:
        self.upstream = None
        self._settle()
        self._done()

    def response_switches(self, head: ResponseHead, rest: bytes) -> None:
        """101: from here on it is a tunnel, if the client asked for exactly that (RFC 9110 7.8)."""
        request, upstream, transport = self.head, self.upstream, self.transport
        assert request is not None and upstream is not None and transport is not None
        if not (request.websocket and head.websocket):
            self.upstream = None
            upstream.let_go()
            self._fail(502, "target_bad_upgrade")
            return
        self.status = self.target_status = 101
        self._write(head.forward + b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + rest)
        listener, target = self.listener, upstream.target

        def ended(relay: Relay) -> None:
            target.in_flight -= 1
            target.connections.discard(upstream)
            listener.counters.bytes_in += relay.client.received
            listener.counters.bytes_out += relay.target_end.received
            self.received += relay.client.received
            self.sent += relay.target_end.received
            self.reason = relay.reason
            self._settle()
            listener.release(relay)

        relay = Relay(listener.clock, TUNNEL_TIMEOUT, ended, half_close=False)
        relay.client.transport = transport
        relay.target_end.transport = upstream.transport
        transport.set_protocol(relay.client)
        upstream.become_tunnel(relay)
        listener.replace(self, relay)
        if self._ahead:  # sent before the 101, held until now
            upstream.transport.write(self._ahead)
        if self._hold:
            transport.resume_reading()

    def response_fails(self, reason: str, *, began: bool) -> None:
        """The upstream connection ended before its answer did."""
        upstream, self.upstream = self.upstream, None
        assert upstream is not None
        if (
            upstream.reused
            and not upstream.received
            and self._replay is not None
            and self.method in IDEMPOTENT
            and not upstream.target.draining
        ):
            # A kept connection that the target closed as we used it: nobody's fault, and one fresh try mends it.
            target, message = upstream.target, self._replay
            self._replay = None  # once
            target.counters.retries += 1
            target.in_flight += 1
            self._connect(target, message)
        elif began:
            self._abort(reason)
        else:
            self._fail(502, reason)

    def hold_client(self) -> None:
        """The target reads slower than the client sends."""
        self._pause(_UPSTREAM_FULL)

    def release_client(self) -> None:
        self._resume(_UPSTREAM_FULL)

    # -- ending requests ------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self.sent += len(data)
        self.listener.counters.bytes_out += len(data)
        self.write(data)

    def _settle(self) -> None:
        """Count and log the request, once."""
        self._finished = True
        counters = self.listener.counters
        duration = perf_counter() - self._started
        status = self.status
        counters.responses[status // 100 if status != 460 else 0] += 1
        counters.duration_sum += duration
        counters.duration_count[bisect_left(DURATION_BUCKETS, duration)] += 1
        if self.reason:
            counters.failed[self.reason] += 1
        if self.listener.access_log is not None:
            self.listener.log_request(self, duration)

    def _done(self) -> None:
        """The answer is complete: read the next request, or end the connection."""
        self._replay = None
        if not self.persist:
            self._linger()
            return
        self._reset()
        if self._ahead:
            self._next()

    def _reset(self) -> None:
        self.busy = False
        self.target = self.route = self.group = None
        self.reason = ""
        self.request_time = self.target_time = -1.0
        self.status = self.target_status = self.sent = 0
        self.deadline = self.listener.clock.now + KEEP_ALIVE_TIMEOUT

    def _next(self) -> None:
        data, self._ahead = self._ahead, b""
        if self._hold:
            self._resume(_AHEAD)
        # Not at once: pipelined requests that we answer ourselves would recurse as deep as the client likes.
        asyncio.get_running_loop().call_soon(self._receive_ahead, data)
        self.busy = True

    def _receive_ahead(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.busy = False
            ahead, self._ahead = self._ahead, b""
            self.data_received(data + ahead)

    def _respond(self, status: int, response: bytes) -> None:
        """An answer of our own, complete."""
        self.status = status
        self._began = True
        self._write(response)
        self._settle()
        self._done()

    def _fail(self, status: int, reason: str) -> None:
        """No answer from a target: say so with our own."""
        self.reason = reason
        if self.transport is None:
            return
        if self.sending or self.http10:
            self.persist = False
        self._resume(_CONNECTING)
        self._respond(status, self.listener.error_response(status, close=not self.persist, head=self.method == b"HEAD"))

    def _refuse(self, bad: BadMessage) -> None:
        """A message that is not HTTP: answer, and read nothing more of it."""
        if self._finished:  # refused before it was counted as a request
            self._started = perf_counter()
            self.listener.counters.requests += 1
        self._finished = False
        self.busy = True
        self.persist = self.simple = False
        self._ahead = b""
        self.sending = True  # whatever follows has no meaning any more
        self._fail(bad.status, bad.reason)

    def _abort(self, reason: str) -> None:
        """The answer was begun and cannot be completed: the client must see that it is cut short."""
        self.reason = reason
        self._settle()
        transport = self.transport
        if transport is not None:
            if self.http10:
                transport.abort()  # the end of the connection is the end of the body, so it must not look like one
            else:
                transport.close()

    def _linger(self) -> None:
        """Close, but read on for a moment what the client is still sending, else a reset may eat the answer."""
        transport = self.transport
        if transport is None:
            return
        if not self.sending or self.listener.secure or not transport.can_write_eof():
            transport.close()
            return
        self.sending = False
        self._lingering = 0
        self.deadline = self.listener.clock.now + LINGER_TIMEOUT
        self._hold = 0
        transport.write_eof()
        transport.resume_reading()

    # -- back-pressure and time -----------------------------------------------------------------------------------

    def _pause(self, why: int) -> None:
        if not self._hold and self.transport is not None:
            self.transport.pause_reading()
        self._hold |= why

    def _resume(self, why: int) -> None:
        if self._hold & why:
            self._hold &= ~why
            if not self._hold and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.upstream is not None:
            self.upstream.transport.resume_reading()

    def expire(self) -> None:
        """The deadline has passed (the listener sweeps once a second)."""
        transport = self.transport
        if transport is None:
            return
        if not self.busy:
            if self._ahead:
                self._refuse(BadMessage(408, "head_timeout"))
            else:
                transport.close()
        elif self._finished:  # lingering
            transport.close()
        else:
            waits_for_client = self.sending and not self._hold
            if self.upstream is not None:
                upstream, self.upstream = self.upstream, None
                upstream.let_go()
            if self._connecting is not None:
                self._connecting.cancel()
                self._connecting = None
            reason = "body_timeout" if waits_for_client else "target_timeout"
            if self._began:
                self._abort(reason)
            else:
                self._fail(408 if waits_for_client else 504, reason)

    def drain(self) -> None:
        """No further request on this connection: idle ones close now, others after their answer."""
        self.persist = self.simple = False
        if not self.busy and not self._ahead and self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def __repr__(self) -> str:
        state = "idle" if not self.busy else f"{self.method.decode('latin-1')} -> {self.target!r}"
        return f"<HttpSession {state}>"


def _bare_line_feed(data: bytes) -> bool:
    """RFC 9112 2.2 lets a recipient take a lone LF as a line's end; we refuse, and need not wait for more."""
    position = data.find(b"\n")
    while position >= 0:
        if position == 0 or data[position - 1] != 13:
            return True
        position = data.find(b"\n", position + 1)
    return False
