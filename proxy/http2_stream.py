"""One stream of an HTTP/2 connection from a client: an exchange whose bytes go out as frames.

Flow control is the back-pressure of both directions: what the client's window does not take is held up to a mark and
then the target is not read from; what the target does not take is not acknowledged, so the client's window runs out.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from . import hpack
from .chunked import LAST_CHUNK, wrap
from .edits import RewriteError
from .exchange import Exchange
from .http1 import CHUNKED, ResponseHead, body_length, parse_response
from .http2 import Headers, Http2Request, answer_block, answer_frames, field_list
from .http2_codes import INTERNAL_ERROR, NO_ERROR
from .http2_tunnel import open_tunnel
from .http_fields import BadMessage
from .relay import Relay
from .upstream import Upstream

if TYPE_CHECKING:
    from .http2_session import Http2Session
    from .specs import ListenerLimits

# Bytes of an answer held for a client whose window is closed; beyond the listener's `buffer` its target is not read
# from until there are no more than this.
HOLD_LOW = 16 * 1024
QUICK = 16_000  # bytes of an answer that takes the short way: its head and its body fit in a frame each
REQUEST_LINE = len("  HTTP/1.1\r\n")  # what a request line has beside method and target


class Http2Stream(Exchange):
    __slots__ = (
        "_ahead",
        "_body",
        "_closed",
        "_last",
        "_lingered",
        "_trailers",
        "credit",
        "ended",
        "held",
        "length",
        "number",
        "relay",
        "session",
        "unacknowledged",
        "unsaid",
        "websocket",
        "window",
    )

    version = b"HTTP/2.0"

    def __init__(self, session: Http2Session, number: int, *, ended: bool) -> None:
        super().__init__(session.listener)
        self.session = session
        self.number = number
        self.peer = session.peer
        self.local = session.local
        self.tls = session.tls
        self.connection_id = session.connection_id
        self.deadline = session.listener.clock.now + session.listener.limits.idle_timeout
        self.websocket = False
        # What the wire keeps on it: see `http2_wire.Stream`.
        self.window = session.wire.initial_window
        self.credit = session.wire.first_credit
        self.unsaid = 0
        self.ended = ended
        self.length = CHUNKED  # of the request's body
        self.held = 0  # why the client's window is not opened again: the target is full, or not there yet
        self.unacknowledged = 0  # bytes of its body that the client may not send again yet
        self._ahead: list[bytes] = []  # of the request's body, until there is a target
        self._body = bytearray()  # of the answer, waiting for the client's window
        self._last = False  # nothing more will be added to it
        self._trailers: Headers | None = None
        self._closed = False
        self._lingered = 0  # bytes of the request's body since then
        self.relay: Relay | None = None

    def unwraps(self) -> bool:
        return True

    # -- the request --------------------------------------------------------------------------------------------------

    def begin(self, request: Http2Request, uri: bytes) -> None:
        """Raises BadMessage, before anything was sent, when the request is to be refused."""
        listener = self.listener
        self.method, self.uri = request.method, uri
        self._count()
        if len(uri) + len(request.method) > listener.max_request_line - REQUEST_LINE:
            raise BadMessage(414, "request_line_too_long")
        head = self.head = listener.heads.get(request.block) or listener.memo.learn_request(request.block, http10=False)
        guard = self.tls.guard
        if guard is not None and head.host not in guard.allowed:
            self._check_host(guard, head)
        if head.length > 0 and (self.ended or request.websocket):
            # RFC 9113 8.1.1. HTTP/1 would wait for that many bytes and find them in the next client's request.
            raise BadMessage(400, "bad_content_length")
        self.trailers_wanted = request.trailers
        if request.websocket:
            self.websocket = True
        else:
            self.length = head.length
            self.sending = not self.ended
            self.simple = self.method != b"HEAD"
        forward, tail, tracer = head.forward, self.session.tail, self.session.tracer
        if tracer is not None:
            forward, self.request_id, named = tracer.stamp(head)
            tail += named
        plan = listener.plan
        route = self.route = plan.only_route or self._choose(plan, head)
        group = self.group = route.group or self._draw(route)
        if group is None:
            if route.filters is not None:
                self._check_length(route, head)
                self._replay = None if self.sending else b""
                self._filter(route, forward, tail)
                return
            self._answer_ourselves()
            return
        self._check_length(route, head)
        if route.edits is not None:
            try:
                uri, forward = route.edits.request(uri, forward)
            except RewriteError:
                self._fail(500, "rewrite_failed")  # as on ALB
                return
        target = self._pick_for_client(group) if group.heeds_client else group.pick()
        self.target = target
        self.deadline = listener.clock.now + self._patience(group)
        message = b"%b %b HTTP/1.1\r\n%b%b" % (self.method, uri, forward, tail)
        self._replay = None if self.sending else message
        if target is None:
            self._fail(503, "no_target")
        elif target.denied is not None:
            self._denied(target.denied.rule)
            self._fail(503, "target_denied")
        else:
            target.in_flight += 1
            self._lend(target, message)

    def _count(self) -> None:
        self._finished = False
        self._started = perf_counter()
        self.listener.counters.requests += 1

    def refuse(self, bad: BadMessage) -> None:
        """A request that is none, or none that we take; it may show in its body or at its end."""
        if self._finished and not self._began:
            self._count()
        costly = self.upstream is not None or self._connecting is not None
        self._give_up()
        self._fail(bad.status, bad.reason)
        self._forget_if_over()
        if costly:  # a connection to a target, as the client's own resets are
            self.session.spend(resets=1)

    def received_data(self, data: bytes, size: int) -> None:
        self.unacknowledged += size  # what counts against the windows, padding and all
        if self._closed:
            self._lingered += size
            if self._lingered > self.listener.limits.linger:
                self.overdue()
            else:
                self._acknowledge()
            return
        self.received += len(data)
        limit = self.route.body_limit if self.route is not None else 0
        if limit and self.received > limit and not self.websocket:
            self.refuse(BadMessage(413, "body_too_large"))
            return
        if 0 <= self.length < self.received:
            self.refuse(BadMessage(400, "bad_content_length"))  # RFC 9113 8.1.1
            return
        self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout
        if self.relay is not None:
            self.relay.client.data_received(data)
        elif self.upstream is not None:
            self._send(self.upstream, data)
        elif self._connecting is not None or self.websocket:
            self._ahead.append(data)  # at most one window's worth, for none of it is acknowledged yet
            return
        if not self.held:
            self._acknowledge()

    def _send(self, upstream: Upstream, data: bytes) -> None:
        if data and self.sending:
            out = wrap(data) if self.length == CHUNKED else data
            upstream.transport.write(out)
            upstream.target.counters.bytes_out += len(out)

    def received_end(self) -> None:
        self.ended = True
        if self.sending and self.received < self.length:
            self.refuse(BadMessage(400, "bad_content_length"))
            return
        if self.relay is not None:
            self.relay.client.connection_lost(None)  # a WebSocket has no half-close
        elif self.upstream is not None:
            self._send_end(self.upstream)
        self._forget_if_over()

    def _send_end(self, upstream: Upstream) -> None:
        if self.sending:
            self.sending = False
            if self.length == CHUNKED:
                upstream.transport.write(LAST_CHUNK)

    def _send_ahead(self, upstream: Upstream) -> None:
        ahead, self._ahead = self._ahead, []
        if not self.websocket:
            for data in ahead:
                self._send(upstream, data)
            if self.ended:
                self._send_end(upstream)
        else:
            self._ahead = ahead

    def _acknowledge(self) -> None:
        if self.unacknowledged:
            size, self.unacknowledged = self.unacknowledged, 0
            self.session.wire.acknowledge(self, size)
            self.session.flush_soon()

    # -- the answer (called by the upstream) --------------------------------------------------------------------------

    def response_whole(self, head: ResponseHead, data: bytes) -> None:
        """The usual answer: two frames, and the stream is over."""
        session = self.session
        wire = session.wire
        length = head.length
        self.upstream = None
        if (
            len(data) > QUICK
            or length > self.window
            or length > wire.window
            or session.full
            or wire.prelude
            or not self.ended
            or self.route.edits is not None  # type: ignore[union-attr]  # there is no answer without a route
        ):
            self.response_begins(head)
            if length:
                self.response_body(data[len(head.whole) :])
            self.response_ends()
            return
        self._closed = True
        first, second = answer_frames(head)
        number = self.number.to_bytes(4, "big")
        if length:
            wire.out += (first, number, second, number, data[len(head.whole) :])
            wire.window -= length
            self.sent = length
        else:
            wire.out += (first, number, second)
        status = self.status = self.target_status = head.status
        self.target_time = perf_counter() - self._started - self.request_time
        target = self.target
        assert target is not None
        target.counters.responses[status // 100] += 1
        self._settle()
        session.flush_soon()
        session.forget(self)

    def response_begins(self, head: ResponseHead, first: bytes = b"") -> None:
        if self.route is not None and self.route.edits is not None:
            head = self.route.edits.response(head)
        self._began = True
        self.status = self.target_status = head.status
        self.target_time = perf_counter() - self._started - self.request_time
        self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout
        if self.target is not None:
            self.target.counters.responses[head.status // 100] += 1
        self._last = body_length(head, self.method) == 0
        self._send_head(answer_block(head) + self._cookie_block(head), end=self._last)

    def _cookie_block(self, head: ResponseHead) -> bytes:
        cookies = self._cookies(head)
        return hpack.encode(field_list(cookies.split(b"\r\n"))) if cookies else b""

    def response_interim(self, head: ResponseHead) -> None:
        request = self.head
        assert request is not None
        if head.status != 100 or request.expect_continue:
            self._send_head(answer_block(head), end=False)

    def response_body(self, data: bytes) -> None:
        self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout
        self.sent += len(data)
        self._body += data
        if len(self._body) < HOLD_LOW:
            self.session.pump_soon(self)  # with what follows in the same turn, the end of the answer mostly
            return
        self.pump()
        if len(self._body) > self.listener.limits.buffer and self.upstream is not None:
            self.upstream.transport.pause_reading()

    def response_trailers(self, trailers: Headers) -> None:
        self._trailers = trailers

    def response_ends(self) -> None:
        self.upstream = None
        self._replay = None
        self._settle()
        self.sending = False
        self._forget_if_over()
        self._last = True
        self.session.pump_soon(self)

    def response_switches(self, head: ResponseHead, rest: bytes) -> None:
        """RFC 8441 5: what HTTP/1 says with 101, HTTP/2 says with 200, and the stream is the tunnel."""
        request, upstream = self.head, self.upstream
        assert request is not None
        assert upstream is not None
        if not (self.websocket and head.websocket):
            self.upstream = None
            upstream.let_go()
            self._fail(502, "target_bad_upgrade")
            return
        self.upstream = None
        self._began = True
        self.status = self.target_status = 101
        if self.route is not None and self.route.edits is not None:
            head = self.route.edits.response(head)
        fields = [field for field in field_list(head.forward.split(b"\r\n")[1:]) if field[0] != b"sec-websocket-accept"]
        self._end_repeats()
        self._send_head(hpack.encode([(b":status", b"200"), *fields]) + self._cookie_block(head), end=False)
        target = upstream.target

        def ended(relay: Relay) -> None:
            target.leave()
            target.connections.discard(upstream)
            self.reason = relay.reason
            if not self._finished:
                self._settle()
            self._last = True
            self.pump()

        relay = self.relay = open_tunnel(self, upstream, ended)
        if rest:
            relay.target_end.data_received(rest)
        ahead, self._ahead = self._ahead, []
        for data in ahead:
            relay.client.data_received(data)
        self._acknowledge()
        if self.ended:
            relay.client.connection_lost(None)

    def write_tunnelled(self, data: bytes) -> None:
        self.sent += len(data)
        self._body += data
        self.pump()
        if len(self._body) > self.listener.limits.buffer and self.relay is not None:
            self.relay.client.pause_writing()

    # -- frames -------------------------------------------------------------------------------------------------------

    def _send_head(self, block: bytes, *, end: bool) -> None:
        if self._closed:
            return
        self.session.wire.head(self.number, block, end=end)
        self.session.flush_soon()
        if end:
            self._close()

    def pump(self) -> None:
        """Send what the windows take."""
        session, body = self.session, self._body
        wire = session.wire
        if self._closed or not self._began:
            return
        room = min(self.window, wire.window, len(body))
        if room > 0 and not session.full:
            done = self._last and room == len(body) and self._trailers is None
            wire.data(self, bytes(memoryview(body)[:room]), end=done)
            del body[:room]
            session.flush_soon()
            if done:
                self._close()
                return
        if self._last and not body:
            if self._trailers is not None:
                wire.head(self.number, hpack.encode(self._trailers), end=True)
            else:
                wire.data(self, b"", end=True)
            session.flush_soon()
            self._close()
            return
        if len(body) <= HOLD_LOW:
            if self.upstream is not None:
                self.upstream.transport.resume_reading()
            elif self.relay is not None:
                self.relay.client.resume_writing()

    def _close(self) -> None:
        """Our side has said all. What still comes of the request is taken and thrown away for a moment: a reset could
        overtake the answer in the client (RFC 9113 8.1 allows it, and curl before 8 fell over it)."""
        if self._closed:
            return
        self._closed = True
        if self.relay is not None:
            self.relay.abort("client_closed")
        if not self.ended:
            self.deadline = self.listener.clock.now + self.listener.limits.linger_timeout
            self._acknowledge()
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        if self._closed and self.ended and self.upstream is None:
            self.session.forget(self)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _respond(self, status: int, response: bytes) -> None:
        """An answer of our own, written for HTTP/1."""
        self.status = status
        self._began = True
        raw, _, body = response.partition(b"\r\n\r\n")
        block = answer_block(parse_response(raw + b"\r\n\r\n"))
        self.sent += len(body)
        self._settle()
        self._last = True
        self._body += body
        self._send_head(block, end=not body)
        self.pump()

    def _fail(self, status: int, reason: str) -> None:
        self.reason = reason
        if self._closed:
            if not self._finished:
                self._settle()
            return
        if self._began:
            self._abort(reason)
        else:
            response = self.listener.error_response(status, close=False, head=self.method == b"HEAD")
            self._respond(status, response)

    def _abort(self, reason: str) -> None:
        self.reason = reason
        if not self._finished:
            self._settle()
        if not self._closed:
            self._closed = self.ended = True
            self.session.reset(self.number, INTERNAL_ERROR)
            self.session.forget(self)

    def client_left(self) -> None:
        """The client reset the stream, or its connection ended."""
        self._closed = self.ended = True
        if self.relay is not None:
            self.relay.abort("client_closed")
        if not self._finished:
            self.reason = self.reason or "client_closed"
            self.status = self.status or 460
            self._settle()
        self._give_up()
        self.session.forget(self)

    def review(self, limits: ListenerLimits, elapsed: float) -> None:
        if self._finished or self.relay is not None:
            return
        # A gRPC client may speak when it likes, which is not the way to starve a target that expects it.
        converses = self.trailers_wanted and self.group is not None and self.group.spec.protocol_version != "HTTP1"
        self._review(limits, elapsed, held_back=bool(self.held) or converses)

    def overdue(self) -> None:
        if self._closed:
            self.ended = True
            self.session.reset(self.number, NO_ERROR)
            self.session.forget(self)
            return
        if self.relay is not None:
            if self.relay.deadline <= self.listener.clock.now:
                self.relay.expire()
            return
        self._time_out(held_back=bool(self.held), stalled=bool(self._body))

    def hold_client(self) -> None:
        self.held |= 1

    def release_client(self) -> None:
        self.held &= ~1
        if not self.held:
            self._acknowledge()

    def _hold_back(self) -> None:
        self.held |= 2

    def _let_on(self) -> None:
        self.held &= ~2
        if not self.held:
            self._acknowledge()

    def __repr__(self) -> str:
        return f"<Http2Stream {self.number} {self.method.decode('latin-1')} -> {self.target!r}>"
