"""One client connection that speaks HTTP/1: read a head, choose, lend an upstream, relay, count, and again.

One request at a time; what a client sends ahead is kept, within limits, until the answer before it is complete.
Read `data_received` and follow the calls: the usual request takes `_begin`, or `_again` where a client repeats itself,
then `response_whole`, and nothing else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import TYPE_CHECKING

from .actions import with_fields
from .counters import DURATION_BUCKETS
from .edits import RewriteError
from .http1 import (
    CHUNKED,
    RequestHead,
    ResponseHead,
    client_head,
    not_in_target,
    parse_unusual_request_line,
    replace_host,
    request_line,
)
from .http2_codes import PREFACE
from .http2_session import Http2Session
from .http_body import HttpBody
from .http_client import CLIENT_FULL, UPSTREAM_FULL
from .http_fields import BadMessage
from .recent import MAX_HEAD
from .relay import Relay
from .upstream import Upstream

if TYPE_CHECKING:
    from .listener import Listener
    from .plan import Plan, Route
    from .server_names import HostGuard
    from .targets import Target, TargetGroup


class HttpSession(HttpBody):
    joins = True  # two writes are two packets
    __slots__ = (
        "_before",
        "_guard",
        "_said",
        "_said_forward",
        "_said_head",
        "_said_plan",
        "_tail",
        "_tracer",
    )

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._tail = b""
        self._guard: HostGuard | None = None
        self._tracer = listener.tracer  # the connection's, whatever a reload changes: its tail begins what this ends
        self._before: RequestHead | None = None  # of the request before
        # What followed the target twice in a row, up to the empty line, under `_said_plan`; see `_again`.
        self._said: bytes | tuple[()] = ()
        self._said_head: RequestHead = None  # type: ignore[assignment]  # set with `_said`
        self._said_forward = b""  # as it goes to the target, up to the request's name
        self._said_plan: Plan | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tail = self.listener.forwarded_tail(self.peer[0], self.local[1], self.tls.client_fields)
        self._guard = self.tls.guard
        tracer = self._tracer
        self._tail = tail if tracer is None else tail[:-2] + tracer.line
        if tracer is not None and self.listener.access_log is not None:
            self.connection_id = tracer.connection_id()

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.release(self)
        self.transport = None
        if not self._finished:
            self.reason = self.reason or "client_closed"
            self.status = self.status or 460  # ALB's code for a client that left before its answer
            self._settle()
        self._give_up()

    # -- reading requests ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.busy:
            self._more(data)
            return
        try:
            if self._ahead:
                data = self._ahead + data
                self._ahead = b""
            elif data.endswith(self._said):  # nothing ends with ()
                listener = self.listener
                uri = data[4 : -len(self._said)]
                if (
                    data.startswith(b"GET /")
                    and len(uri) <= listener.max_request_line - len(b"GET  HTTP/1.1\r\n")
                    and not_in_target(uri) is None
                    and self._said_plan is listener.plan
                ):
                    self._again(uri, data)
                    return
            end = data.find(b"\r\n\r\n") + 2
            if end < 2:
                self._partial(data)
            else:
                self._begin(data, end)
        except BadMessage as bad:
            self._refuse(bad)

    def _remember(self, head: RequestHead, data: bytes, cut: int) -> None:
        """The client repeats itself. Where a repetition needs no second look, `_again` will take the next one."""
        plan, tracer = self.listener.plan, self._tracer
        route = plan.only_route
        if (
            head.length
            or not head.persist
            or self.http10
            or route is None
            or route.group is None
            or route.edits is not None
            or not (tracer is None or tracer.names_plainly(head))
        ):
            return
        self._said = b" HTTP/1.1\r\n" + data[cut : data.find(b"\r\n\r\n") + 4]
        self._said_head, self._said_plan = head, plan
        self._said_forward = head.forward + self._tail

    def _again(self, uri: bytes, data: bytes) -> None:
        """A GET without a body, with the same fields as the one before: what was found out of those holds still.

        Comparing costs less than finding, cutting out and hashing, and half of `_begin` has nothing to decide.
        """
        listener = self.listener
        self.head = self._said_head
        self._started = perf_counter()
        self.busy = True
        self._finished = self._began = False
        counters = listener.counters
        counters.requests += 1
        self.received = size = len(data)
        counters.bytes_in += size
        self.sent = self.target_status = 0
        if listener.access_log is not None:
            self.request_time = self.target_time = -1.0
        self.method, self.uri = b"GET", uri
        self.http10 = False
        self.simple = self.persist = not listener.draining
        tracer = self._tracer
        if tracer is None:
            message = b"GET %b HTTP/1.1\r\n%b" % (uri, self._said_forward)
        else:
            self.request_id = request_id = next(tracer.ids)
            message = b"GET %b HTTP/1.1\r\n%b%b\r\n\r\n" % (uri, self._said_forward, request_id)
        self._replay = message
        route: Route = listener.plan.only_route  # type: ignore[assignment]  # `_remember` has seen both
        group: TargetGroup = route.group  # type: ignore[assignment]
        self.route, self.group = route, group
        self.deadline = listener.clock.now + group.response_timeout
        self._send(self._pick_for_client(group) if group.heeds_client else group.pick(), message)

    def _begin(self, data: bytes, end: int) -> None:
        """A whole head is here: data[:end] are its lines, data[end + 2:] is what follows the empty line."""
        listener = self.listener
        cut = data.find(b"\r\n") + 2
        match = request_line(data[:cut])
        block = data[cut:end]
        if match is None and listener.http2 and data.startswith(PREFACE[:18]):
            self._speak_http2(data)
            return
        if match is None or cut > listener.max_request_line:
            block, end, data = self._begin_unusual(data, end, cut)
            head = self.head
            assert head is not None
        else:
            self.method, self.uri, minor = match.groups()
            self.http10 = minor == b"0"
            head = (listener.heads10 if self.http10 else listener.heads).get(block)
            if head is None:
                head = self._learn(block)
            elif head is self._before:
                self._remember(head, data, cut)
            else:
                self._before = head
            self.head = head
        guard = self._guard
        if guard is not None and head.host not in guard.allowed:
            self._check_host(guard, head)
        self._started = perf_counter()
        self.busy = True
        self._finished = False
        self._began = False
        counters = listener.counters
        counters.requests += 1
        self.received = len(data)
        counters.bytes_in += self.received
        self.sent = self.target_status = 0
        if listener.access_log is not None:
            self.request_time = self.target_time = -1.0
        self.persist = head.persist and not listener.draining
        self.simple = self.persist and not self.http10 and self.method != b"HEAD"
        tracer = self._tracer
        if tracer is None:
            forward, tail = head.forward, self._tail
        else:
            forward, self.request_id, named = tracer.stamp(head)
            tail = self._tail + named
        plan = listener.plan
        route = self.route = plan.only_route or self._choose(plan, head)
        group = self.group = route.group or self._draw(route)
        if group is None:
            if route.filters is not None:
                self._begin_filtered(route, forward, tail, data, end + 2)
                return
            self._keep_rest(data, end + 2)
            self._answer_ourselves()
            return
        target = self.target = self._pick_for_client(group) if group.heeds_client else group.pick()
        self.deadline = listener.clock.now + group.response_timeout
        uri = self.uri
        if route.edits is not None:
            try:
                uri, forward = route.edits.request(uri, forward)
            except RewriteError:
                self.target = None
                self._keep_rest(data, end + 2)
                self._fail(500, "rewrite_failed")  # as on ALB
                return
        message = b"%b %b HTTP/1.1\r\n%b%b" % (self.method, uri, forward, tail)
        if head.length:
            message = self._begin_body(head, message, data, end + 2)
        else:
            if len(data) > end + 2:
                self._ahead = data[end + 2 :]
            self._replay = message
        self._send(target, message)

    def _send(self, target: Target | None, message: bytes) -> None:
        self.target = target
        if target is None:
            self._fail(503, "no_target")
            return
        if target.denied is not None:
            self._denied(target.denied.rule)
            self._fail(503, "target_denied")
            return
        target.in_flight += 1
        idle = target.idle
        if idle and ((self.method == b"GET" and not self.sending) or self._may_reuse(idle[-1])):  # type: ignore[arg-type]
            upstream: Upstream = idle.pop()  # type: ignore[assignment]  # only Upstreams are kept idle
            self.upstream = upstream
            upstream.session = self
            upstream.transport.write(message)
            target_counters = target.counters
            target_counters.requests += 1
            target_counters.bytes_out += len(message)
            if self.listener.access_log is not None:
                self.request_time = perf_counter() - self._started
        else:
            self._connect(target, message)

    def _begin_filtered(self, route: Route, forward: bytes, tail: bytes, data: bytes, start: int) -> None:
        """The body's first bytes are looked at before the filters are asked, so that these meet no nonsense."""
        head = self.head
        assert head is not None
        self._replay = body = b""
        if head.length:
            body = self._begin_body(head, b"", data, start)
        else:
            self._ahead = data[start:]
        self._filter(route, forward, tail, body)

    def _speak_http2(self, data: bytes) -> None:
        """The client began with HTTP/2's preface (RFC 9113 3.3): the connection gets another session."""
        transport = self.transport
        assert transport is not None
        session = Http2Session(self.listener)
        session.peer, session.local = self.peer, self.local
        transport.set_protocol(session)
        session.connection_made(transport)
        self.listener.connections.discard(self)
        self.listener.pass_on(self, session)
        session.data_received(data)

    def _learn(self, block: bytes) -> RequestHead:
        try:
            head = self.listener.memo.learn_request(block, http10=self.http10)
            return head if head.host else head.sent_with(self._own_host())
        except BadMessage:  # what is logged of it must not be the request before
            method, uri = self.method, self.uri
            self._forget()
            self.method, self.uri = method, uri
            raise

    def _own_host(self) -> bytes:
        """What targets are told where HTTP/1.0 names no host: where the client came to, as ALB does."""
        address, port = self.local
        host = f"[{address}]" if ":" in address else address
        return (host if port == (443 if self.listener.secure else 80) else f"{host}:{port}").encode()

    def _begin_unusual(self, data: bytes, end: int, cut: int) -> tuple[bytes, int, bytes]:
        """Empty lines before the request, absolute-form, OPTIONS *, higher minor versions; or the right refusal."""
        self._forget()
        if cut == 2:  # RFC 9112 2.2: one empty line before a request line is ignored
            data, end = data[2:], end - 2
            if data[:2] == b"\r\n":
                raise BadMessage(400, "bad_request_line")
            cut = data.find(b"\r\n") + 2
        line = parse_unusual_request_line(data[:cut], self.listener.max_request_line)
        block = data[cut:end]
        if line.authority is not None:
            block = replace_host(block, line.authority)
        self.method, self.uri, self.http10 = line.method, line.target, line.minor == 0
        self.head = self._learn(block)
        return block, end, data

    # -- relaying the answer (called by the upstream) -----------------------------------------------------------------

    def response_whole(self, head: ResponseHead, data: bytes) -> None:
        """The usual answer: complete, of known length, both connections stay."""
        self.upstream = None
        status = head.status
        if self.route.edits is not None:  # type: ignore[union-attr]  # there is no answer without a route
            data = self.route.edits.response(head).whole + data[len(head.whole) :]  # type: ignore[union-attr]
        self.write(data)
        self.sent = len(data)
        listener = self.listener
        counters = listener.counters
        counters.bytes_out += self.sent
        family = head.status // 100
        counters.responses[family] += 1
        duration = perf_counter() - self._started
        counters.duration_sum += duration
        counters.duration_count[bisect_left(DURATION_BUCKETS, duration)] += 1
        target: Target = self.target  # type: ignore[assignment]  # there is no answer without one
        target.counters.responses[family] += 1
        if target.observer is not None:
            target.observer(status, duration, self._started + duration)
        self._finished = True
        if self.request_id:
            request: RequestHead = self.head  # type: ignore[assignment]
            listener.recent.keep(
                (
                    self.request_id,
                    self.peer,
                    self.local,
                    self.method,
                    self.uri,
                    request if len(request.forward) <= MAX_HEAD else None,
                    self.route,
                    self.group,
                    target,
                    status,
                    "",
                    self.tls,
                )
            )
        if listener.access_log is not None:
            self.status = self.target_status = status
            self.target_time = duration - self.request_time
            listener.log_request(self, duration)
        self.busy = False
        self._replay = None
        self.deadline = listener.clock.now + listener.keep_alive_timeout
        if self._ahead:
            self._next()

    def response_begins(self, head: ResponseHead, first: bytes = b"") -> None:
        if self.route is not None and self.route.edits is not None:
            head = self.route.edits.response(head)
        if self.sending:
            self.persist = False  # the body may never come to an end, so neither may the connection stay
        if self.http10 and head.length < 0 and self.method != b"HEAD":
            self.persist = False  # its end is the only end the client can see
        self._began = True
        self.target_time = perf_counter() - self._started - self.request_time
        self.status = self.target_status = head.status
        if self.target is not None:
            self.target.counters.responses[head.status // 100] += 1
        self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout
        if self.simple and self.persist:
            whole = head.plain or (head.length == CHUNKED and head.status not in (204, 304))
            self._write((head.whole if whole else self._client_head(head)) + first)
        else:
            self._write(self._client_head(head) + first)

    def _client_head(self, head: ResponseHead) -> bytes:
        text = client_head(head, self.method, http10=self.http10, close=not self.persist)
        cookies = self._cookies(head)
        return with_fields(text, cookies) if cookies else text

    def response_interim(self, head: ResponseHead) -> None:
        """1xx: 100 only to a client that asked for it, nothing to HTTP/1.0 (RFC 9110 15.2)."""
        request = self.head
        assert request is not None
        if not self.http10 and (head.status != 100 or request.expect_continue):
            self._write(client_head(head, self.method, http10=False, close=False))

    def response_body(self, data: bytes) -> None:
        self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout
        self._write(data)

    def response_ends(self) -> None:
        self.upstream = None
        self._replay = None
        self._settle()
        self._done()

    def response_switches(self, head: ResponseHead, rest: bytes) -> None:
        """101: from here on it is a tunnel, if the client asked for exactly that (RFC 9110 7.8)."""
        request, upstream, transport = self.head, self.upstream, self.transport
        assert request is not None
        assert upstream is not None
        assert transport is not None
        if not (request.websocket and head.websocket):
            self.upstream = None
            upstream.let_go()
            self._fail(502, "target_bad_upgrade")
            return
        self.status = self.target_status = 101
        if self.route is not None and self.route.edits is not None:
            head = self.route.edits.response(head)
        self._end_repeats()
        fields = b"\r\n" + self._cookies(head) + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        self._write(head.forward + fields + rest)
        listener, target = self.listener, upstream.target

        def ended(relay: Relay) -> None:
            target.leave()
            target.connections.discard(upstream)
            listener.counters.bytes_in += relay.client.received
            listener.counters.bytes_out += relay.target_end.received
            self.received += relay.client.received
            self.sent += relay.target_end.received
            self.reason = relay.reason
            self._settle()
            listener.release(relay)

        limits = listener.limits
        relay = Relay(listener.clock, limits.tunnel_timeout, ended, half_close=False, buffer=limits.buffer)
        relay.client.transport = transport
        relay.target_end.transport = upstream.transport
        transport.set_protocol(relay.client)
        upstream.become_tunnel(relay)
        listener.replace(self, relay)
        if self._ahead:  # sent before the 101, held until now
            upstream.transport.write(self._ahead)
        if self._hold:
            transport.resume_reading()

    # -- back-pressure and time ---------------------------------------------------------------------------------------

    def hold_client(self) -> None:
        """The target reads slower than the client sends."""
        self.simple = False  # so the request's end is seen by `_done`, which knows of holds
        self._pause(UPSTREAM_FULL)

    def release_client(self) -> None:
        self._resume(UPSTREAM_FULL)

    def pause_writing(self) -> None:
        """What it is to read comes no faster, and its next request not at all; the body of this one does."""
        self.full = True
        if self.upstream is not None:
            self.upstream.transport.pause_reading()
        if not self.sending:
            self._pause(CLIENT_FULL)

    def resume_writing(self) -> None:
        self.full = False
        if self.upstream is not None:
            self.upstream.transport.resume_reading()
        self._resume(CLIENT_FULL)
        if self._ahead and not self.busy:
            self._next()

    def expire(self) -> None:
        """The deadline has passed."""
        if not self.busy or self._finished:
            super().expire()
            return
        self._time_out(held_back=bool(self._hold), stalled=self.full)

    def __repr__(self) -> str:
        state = "idle" if not self.busy else f"{self.method.decode('latin-1')} -> {self.target!r}"
        return f"<HttpSession {state}>"
