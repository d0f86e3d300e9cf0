"""The client's side of an HTTP/1 connection: what it sends ahead, how it is held back, how its requests end."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from .exchange import Exchange
from .http_fields import BadMessage
from .records import tls_facts

if TYPE_CHECKING:
    from .listener import Listener
    from .specs import ListenerLimits

# Why nothing is expected of a client now; several reasons may hold at once. But for the first it is not read from.
CONNECTING, UPSTREAM_FULL, AHEAD, CLIENT_FULL = 1, 2, 4, 8


class HttpClient(Exchange, asyncio.Protocol):
    __slots__ = ("_ahead", "_hold", "_lingering", "busy", "full", "retire_at", "transport", "write")

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self.transport: asyncio.Transport | None = None
        self.busy = False  # a request is under way, or being ended
        self._ahead = b""
        self.full = False  # the client reads slower than its targets answer
        self._hold = 0
        self._lingering = -1  # bytes read since we began to linger
        self.retire_at = 0.0  # 0: never

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The listener has admitted the client, and TLS is done where it is spoken."""
        listener = self.listener
        self.transport = transport
        self.write = transport.write
        limits = listener.limits
        transport.set_write_buffer_limits(limits.buffer)
        if not self.peer[0]:  # else a proxy has announced it
            self.peer = transport.get_extra_info("peername")[:2]
            self.local = transport.get_extra_info("sockname")[:2]
        if listener.secure:
            self.tls = tls_facts(transport)
        self.deadline = listener.clock.now + limits.first_byte_timeout
        if limits.max_age:
            self.retire_at = listener.clock.now + limits.max_age * (0.9 + 0.2 * listener.rng.random())
        listener.connections.add(self)

    def eof_received(self) -> bool:
        """The client sends nothing more. While its answer is under way it may still be reading; before that, it has
        left for all we can know, and a target should not work for nobody (nginx 499, Envoy, ALB 460)."""
        self.persist = self.simple = False
        return self._began and not self._finished and not self.sending and not self.listener.secure

    # -- what is sent ahead -------------------------------------------------------------------------------------------

    def _partial(self, data: bytes) -> None:
        """A head that is not complete yet."""
        if self.head is not None:
            self._forget()
        limits = self.listener.limits
        if len(data) > limits.head:
            line_end = data.find(b"\r\n", 0, limits.request_line)
            self._refuse(BadMessage(414 if line_end < 0 else 431, "head_too_long"))
            return
        line_end = data.find(b"\n")
        if (line_end < 0 and len(data) > limits.request_line) or line_end > limits.request_line:
            self._refuse(BadMessage(414, "request_line_too_long"))
            return
        if b"\n" in data and _bare_line_feed(data):
            self._refuse(BadMessage(400, "bad_request_line"))
            return
        if not self._ahead and self.transport is not None:
            self.deadline = min(self.deadline, self.listener.clock.now + limits.head_timeout)
        self._ahead = data

    def _next(self) -> None:
        if self.full:
            return
        data, self._ahead = self._ahead, b""
        if self._hold:
            self._resume(AHEAD)
        # Not at once: pipelined requests that we answer ourselves would recurse as deep as the client likes.
        asyncio.get_running_loop().call_soon(self._receive_ahead, data)
        self.busy = True

    def _receive_ahead(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.busy = False
            ahead, self._ahead = self._ahead, b""
            self.data_received(data + ahead)

    # -- how requests end ---------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self.sent += len(data)
        self.listener.counters.bytes_out += len(data)
        self.write(data)

    def _done(self) -> None:
        """The answer is complete: read the next request, or end the connection."""
        if not self.persist:
            self._linger()
            return
        self._reset()
        if self._hold:
            self._resume(UPSTREAM_FULL)
        if self._ahead:
            self._next()

    def _reset(self) -> None:
        self.busy = False
        self._forget()
        self.deadline = self.listener.clock.now + self.listener.keep_alive_timeout

    def _respond(self, status: int, response: bytes) -> None:
        """An answer of our own, complete."""
        self.status = status
        self._began = True
        self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout  # to read it
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
        self._let_on()
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
            if self.http10 or reason == "client_stalled":
                transport.abort()  # in HTTP/1.0 the connection's end is the body's, so it must not look like one
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
        self.deadline = self.listener.clock.now + self.listener.limits.linger_timeout
        self._hold = 0
        transport.write_eof()
        transport.resume_reading()

    # -- back-pressure and drain --------------------------------------------------------------------------------------

    def _hold_back(self) -> None:
        self._hold |= CONNECTING  # and read on: what comes is kept, and a client that leaves is heard

    def _let_on(self) -> None:
        self._resume(CONNECTING | AHEAD)

    def _pause(self, why: int) -> None:
        if self.transport is not None:
            self.transport.pause_reading()
        self._hold |= why

    def _resume(self, why: int) -> None:
        if self._hold & why:
            self._hold &= ~why
            if not self._hold and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def expire(self) -> None:
        """The deadline has passed while no request is under way (the listener sweeps once a second)."""
        if self.transport is None:
            return
        if self.transport.is_closing():
            self.transport.abort()  # what it was to read, it did not
        elif self._ahead and not (self.busy or self.full):
            self._refuse(BadMessage(408, "head_timeout"))
        else:
            self.transport.close()  # idle, or lingering
            self.deadline = self.listener.clock.now + self.listener.limits.linger_timeout

    def review(self, limits: ListenerLimits, now: float, elapsed: float) -> None:
        """Once a second: age, and what the request under way has taken."""
        if self.retire_at and now >= self.retire_at:
            self.drain()
        if self.busy and not self._finished:
            self._review(limits, elapsed, held_back=bool(self._hold) or self._connecting is not None)

    def drain(self) -> None:
        """No further request on this connection: idle ones close now, others after their answer."""
        self.persist = self.simple = False
        if not self.busy and not self._ahead and self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _bare_line_feed(data: bytes) -> bool:
    """RFC 9112 2.2 lets a recipient take a lone LF as a line's end; we refuse, and need not wait for more."""
    position = data.find(b"\n")
    while position >= 0:
        if position == 0 or data[position - 1] != 13:
            return True
        position = data.find(b"\n", position + 1)
    return False
