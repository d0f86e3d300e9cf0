"""A client that came while descriptors are scarce: it is answered with 503 when it asks, and that was all.

The answer waits for the request, for clients take an answer that comes before it for a broken connection.
"""

from __future__ import annotations

import asyncio

from .actions import with_fields
from .http_fields import BadMessage
from .http_session import HttpSession
from .intake import OUT_OF_DESCRIPTORS

RETRY_AFTER = 5  # seconds; who was told has left by then, and so have others


class TurnedAway(HttpSession):
    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadline = self.listener.clock.now + self.listener.limits.linger_timeout

    def data_received(self, data: bytes) -> None:
        if self.busy:  # answered, and the rest of what it sends is let pass
            super().data_received(data)
        else:
            self._refuse(BadMessage(503, OUT_OF_DESCRIPTORS))

    def _respond(self, status: int, response: bytes) -> None:
        super()._respond(status, with_fields(response, b"Retry-After: %d\r\n" % RETRY_AFTER))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.busy:
            self.listener.refuse(self.peer, OUT_OF_DESCRIPTORS)
        super().connection_lost(exc)
