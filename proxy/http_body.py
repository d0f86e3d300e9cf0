"""The body of a request over HTTP/1: how much of what comes is its, and where it goes.

It is sent on as it comes. What comes before there is a target to send it to, or behind its end, is kept, within limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chunked import ChunkedReader
from .http1 import CHUNKED
from .http_client import AHEAD, HttpClient
from .http_fields import BadMessage

if TYPE_CHECKING:
    from .http1 import RequestHead
    from .listener import Listener
    from .upstream import Upstream


class HttpBody(HttpClient):
    __slots__ = ("left", "reader")

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self.reader: ChunkedReader | None = None  # of a chunked body
        self.left = 0  # of a body of known length

    def _begin_body(self, head: RequestHead, message: bytes, data: bytes, start: int) -> bytes:
        """Put the first bytes of the body behind the head and note what is still to come."""
        self.sending = True
        self._slow_for = 0.0
        body = data[start:]
        self._body_from = self.received - len(body)
        self._check_length(self.route, head)  # type: ignore[arg-type]  # there is one, as below
        if head.length == CHUNKED:
            self.reader = ChunkedReader(self.listener.chunk_limits)
            body = self._read_chunks(body)
        else:
            self.left = head.length - len(body)
            if self.left <= 0:
                self.sending = False
                if self.left < 0:
                    self._ahead = body[self.left :]
                    body = body[: self.left]
        message += body
        self._replay = message
        if self.sending:
            self._replay = None
            self.deadline = self.listener.clock.now + self.listener.limits.idle_timeout
        return message

    def _read_chunks(self, body: bytes) -> bytes:
        reader = self.reader
        assert reader is not None
        out = reader.feed(body)
        limit = self.route.body_limit  # type: ignore[union-attr]
        if limit and reader.content > limit:
            raise BadMessage(413, "body_too_large")
        if reader.done:
            self.sending = False
            self._ahead = reader.rest
            self.reader = None
        return out

    def _more(self, data: bytes) -> None:
        """Bytes while a request is under way: its body, or what comes after it."""
        self.listener.counters.bytes_in += len(data)
        if self._lingering >= 0:
            self._lingering += len(data)
            if self._lingering > self.listener.limits.linger and self.transport is not None:
                self.transport.close()
        elif self.sending and self.upstream is not None:
            self.received += len(data)
            self._send_body(self.upstream, data)
        else:  # its turn comes: the next request, or the body while the target is still being connected to
            if self.sending:
                self.received += len(data)
            self._ahead += data
            if len(self._ahead) > self.listener.limits.ahead and self.transport is not None:
                self._pause(AHEAD)

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
        self.deadline = self.listener.clock.now + self._patience(upstream.target.group)
        if data:
            upstream.transport.write(data)
            upstream.target.counters.bytes_out += len(data)

    def _send_ahead(self, upstream: Upstream) -> None:
        """What came of the body while the target was being connected to."""
        if self.sending and self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._send_body(upstream, ahead)
            self._resume(AHEAD)

    def _keep_rest(self, data: bytes, start: int) -> None:
        """We answer ourselves: a request without a body leaves the connection usable, one with a body ends it."""
        head = self.head
        assert head is not None
        if head.length:
            self.persist = self.simple = False
            self.sending = True
        else:
            self._ahead = data[start:]
