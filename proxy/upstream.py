"""One HTTP/1 connection to a target: lent to one request at a time, returned when its answer is complete.

It reads the answer and hands it to the session it is lent to. A connection goes back to its target only when both
messages on it ended where they said they would; a byte that nobody asked for ends it (response-queue poisoning).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .chunked import LAST_CHUNK, ChunkedReader, wrap
from .clock import Clock
from .dialing import connect_target
from .http1 import CHUNKED, HeadMemo, ResponseHead, body_length
from .http2_upstream import Http2Target
from .http_fields import BadMessage

if TYPE_CHECKING:
    from .exchange import Exchange
    from .proxy_protocol import Endpoint
    from .relay import Relay
    from .targets import Target

MEMO = HeadMemo()  # what this process's targets (and, in http_session, its clients) say again and again
_known_heads = MEMO.responses

_HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _DONE = range(5)


class Upstream(asyncio.Protocol):
    __slots__ = (
        "_clock",
        "_held",
        "_idle_timeout",
        "_interim",
        "_keep",
        "_left",
        "_reader",
        "_state",
        "idle_until",
        "received",
        "reused",
        "session",
        "target",
        "transport",
    )

    def __init__(self, target: Target, clock: Clock) -> None:
        self.target = target
        self.session: Exchange | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else can happen
        self.reused = False
        self.idle_until = 0.0
        self.received = False  # any byte of an answer since it was lent
        self._clock = clock
        self._held = b""
        self._state = _HEAD
        self._left = 0
        self._reader: ChunkedReader | None = None
        self._keep = True
        self._idle_timeout = target.group.spec.limits.keep_alive_timeout
        self._interim = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(self.target.group.spec.limits.buffer)
        self.target.connections.add(self)
        self.target.counters.connects += 1

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is None:
            self._leave_idle()  # nobody asked
            self.transport.abort()
            return
        counters = self.target.counters
        counters.bytes_in += len(data)
        state = self._state
        if state == _HEAD:
            self.received = True
            if self._held:
                data = self._held + data
                self._held = b""
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._incomplete(session, data)
                return
            raw = data[:end]
            head = _known_heads.get(raw)
            if head is None:
                try:
                    head = MEMO.learn_response(raw, self.target.group.spec.limits.response_head)
                except BadMessage as bad:
                    self._fail(bad.reason)
                    return
            if head.plain and session.simple and len(data) - end == head.length and not session.sending:
                # The usual case, in one step: the whole answer is here, and both connections stay.
                target = self.target
                if target.draining or target.waiting or head.idle_timeout or self._idle_timeout <= 0:
                    self.release(head)
                else:  # the same, without a call
                    self.session = None
                    target.in_flight -= 1
                    self._interim = 0
                    self.received = False
                    self.reused = True
                    self.idle_until = self._clock.now + self._idle_timeout
                    target.idle.append(self)
                session.response_whole(head, head.whole + data[end:] if head.length else head.whole)
            else:
                self._begin(session, head, data[end:])
        elif state == _LENGTH:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                session.response_body(data)
            else:
                self._body(session, data)
        else:
            self._body(session, data)

    def _incomplete(self, session: Exchange, data: bytes) -> None:
        too_long = len(data) > self.target.group.spec.limits.response_head
        if too_long or not b"HTTP/1.".startswith(data[:7]):
            self._fail("target_head_too_long" if too_long else "target_bad_status_line")
        else:
            self._held = data

    def _begin(self, session: Exchange, head: ResponseHead, data: bytes) -> None:
        if head.status < 200:
            self._interim += 1
            if self._interim > self.target.group.spec.limits.interim:
                self._fail("target_too_many_interim")
            elif head.status == 101:
                session.response_switches(head, data)
            else:
                session.response_interim(head)
                if data and self.session is session:
                    self.data_received(data)
            return
        if head.status in (502, 503, 504) and session.repeats_instead(head.status):
            return
        self._keep = head.keep_alive
        if head.idle_timeout:
            self._heed(head.idle_timeout)
        length = self._left = body_length(head, session.method)
        if length == CHUNKED:
            state = _CHUNKED
            self._reader = ChunkedReader(unwrap=session.unwraps())
        elif length < 0:
            state = _UNTIL_CLOSE
            self._keep = False
        else:
            state = _LENGTH
        try:
            first = self._content(session, state, data)
        except BadMessage:  # nothing was relayed yet, so the client can be told
            self._fail("target_bad_chunk")
            return
        self._state = state
        if session.joins:
            session.response_begins(head, first)
        else:
            session.response_begins(head)
            if first and self.session is session:  # else it found its client gone, and gave us up
                session.response_body(first)
        if self._is_complete():
            self._end(session)

    def _content(self, session: Exchange, state: int, data: bytes) -> bytes:
        """What of `data` is the body's, as the client wants it. What is beyond its end was never asked for."""
        if state == _LENGTH:
            beyond = len(data) - self._left
            if beyond > 0:
                self._keep = False
                data = data[: self._left]
            self._left -= len(data)
            return data
        if state == _CHUNKED:
            reader = self._reader
            assert reader is not None
            out = reader.feed(data)
            if reader.rest:
                self._keep = False
            return out
        return data if session.unwraps() or not data else wrap(data)

    def _is_complete(self) -> bool:
        if self._state == _CHUNKED:
            assert self._reader is not None
            return self._reader.done
        return self._state == _LENGTH and not self._left

    def _body(self, session: Exchange, data: bytes) -> None:
        try:
            out = self._content(session, self._state, data)
        except BadMessage:
            self._fail("target_bad_chunk")
            return
        if out:
            session.response_body(out)
        if self._is_complete():
            self._end(session)

    def _end(self, session: Exchange) -> None:
        if self.session is not session:
            return
        if session.sending:
            self.let_go()  # RFC 9112 9.3: the rest of the body has no reader, so the connection ends
        elif self._keep:
            self.transport.resume_reading()  # a slow client may have stopped it, and the next one is not to wait
            self.release(None)
        else:
            self.session = None
            self.target.leave()
            self._state = _DONE
            self.transport.close()
        session.response_ends()

    def release(self, head: ResponseHead | None) -> None:
        """Back to the target, free for the next request."""
        if head is not None and head.idle_timeout:
            self._heed(head.idle_timeout)
        target = self.target
        self.session = None
        target.in_flight -= 1
        if target.draining or self._idle_timeout <= 0:
            self.transport.close()
            if target.waiting:
                target.hand_on()
            return
        self._state = _HEAD
        self._interim = 0
        self.received = False
        self.reused = True
        self.idle_until = self._clock.now + self._idle_timeout
        target.idle.append(self)
        if target.waiting:
            target.hand_on()

    def _heed(self, said: int) -> None:
        """The target's own `Keep-Alive: timeout=`: we close first."""
        limits = self.target.group.spec.limits
        self._idle_timeout = min(limits.keep_alive_timeout, said - limits.keep_alive_margin)

    @property
    def idle_since(self) -> float:
        return self.idle_until - self._idle_timeout

    def let_go(self) -> None:
        """Give the request up and cut the connection."""
        if self.session is not None:
            self.session = None
            self.target.leave()
        self._state = _DONE
        self.transport.abort()

    def _fail(self, reason: str) -> None:
        session, began = self.session, self._state != _HEAD
        self.let_go()
        if session is not None:
            self.target.counters.failed[reason] += 1
            session.response_fails(reason, began=began)

    def become_tunnel(self, relay: Relay) -> None:
        """After 101: from here on the relay moves the bytes; the target still knows this connection, to end it."""
        self.session = None
        self.transport.set_protocol(relay.target_end)

    def eof_received(self) -> bool:
        if self.session is None:
            self._leave_idle()
        return False  # the transport closes; `connection_lost` judges

    def _leave_idle(self) -> None:
        if self in self.target.idle:
            self.target.idle.remove(self)

    def connection_lost(self, exc: Exception | None) -> None:
        target = self.target
        target.connections.discard(self)
        session = self.session
        if session is None:
            self._leave_idle()
            return
        if self._state == _UNTIL_CLOSE and exc is None:
            if not session.unwraps():
                session.response_body(LAST_CHUNK)
            self._end(session)
        else:
            self._fail("target_closed")

    def pause_writing(self) -> None:
        if self.session is not None:
            self.session.hold_client()

    def resume_writing(self) -> None:
        if self.session is not None:
            self.session.release_client()

    def close(self) -> None:
        """Close an idle connection."""
        self._leave_idle()
        self.transport.close()

    def abort(self) -> None:
        """Cut the connection, whatever it is doing: the drain is over."""
        if self.session is not None:
            self._fail("target_drained")
        else:
            self.transport.abort()

    def __repr__(self) -> str:
        return f"<Upstream {self.target.key} {'idle' if self.session is None else 'lent'}>"


class AnnouncedUpstream(Upstream):
    """A connection that began with the name of one client is no other's, so it carries one request and ends."""

    __slots__ = ()

    def __init__(self, target: Target, clock: Clock) -> None:
        super().__init__(target, clock)
        self._idle_timeout = 0

    def release(self, head: ResponseHead | None) -> None:
        self.session = None
        self.target.leave()
        self._state = _DONE
        self.transport.close()


class DeniedError(Exception):
    """Our own firewall forbids the connection. `rule` names what decided."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


async def connect(target: Target, clock: Clock, source: Endpoint, destination: Endpoint) -> Upstream:
    """Open a connection to `target` for a client. Raises OSError (TimeoutError among them), or DeniedError."""
    spec = target.group.spec
    if spec.protocol_version != "HTTP1":
        return await _connect_http2(target, clock)
    kind = Upstream if spec.proxy_protocol is None else AnnouncedUpstream
    async with asyncio.timeout(target.group.spec.limits.connect_timeout):
        _, upstream = await connect_target(target, lambda: kind(target, clock), source, destination)
    check_return(target, upstream.transport)
    if upstream.transport.is_closing():
        raise ConnectionResetError
    return upstream


async def _connect_http2(target: Target, clock: Clock) -> Upstream:
    """A stream of a connection that is there and has room, or of a new one."""
    shared: list[Http2Target] = target.shared
    carrier = next((each for each in shared if each.takes_more), None)
    if carrier is None:
        secure = target.group.tls is not None
        async with asyncio.timeout(target.group.spec.limits.connect_timeout):
            # It is shared by clients, so it is nobody's in particular.
            transport, carrier = await connect_target(
                target, lambda: Http2Target(target, clock, secure=secure), None, None
            )
        check_return(target, transport)
        if transport.is_closing():
            raise ConnectionResetError
        shared.append(carrier)
    return carrier.lend()  # type: ignore[return-value]  # it looks like an Upstream to who borrows it


def check_return(target: Target, transport: asyncio.BaseTransport) -> None:
    """The answer's way back through a stateless ACL depends on our own port, which is known only now."""
    firewall = target.group.firewall
    if firewall is None or firewall.unguarded or target.spec.is_unix:
        return
    local: tuple[str, int] = transport.get_extra_info("sockname")
    verdict = firewall.opened(local[1], target.spec.ip, local[0])
    if not verdict.allowed:
        transport.abort()  # type: ignore[attr-defined]
        raise DeniedError(verdict.rule)
