"""The first moments of a client's connection, before it has a session: who it is judged by, and what it will speak."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .client_certificates import too_large
from .http2_session import Http2Session
from .http_session import HttpSession

if TYPE_CHECKING:
    from .listener import Listener
    from .proxy_protocol import Endpoint


class Negotiated(asyncio.Protocol):
    """HTTPS after its handshake: ALPN has chosen what is spoken."""

    __slots__ = ("_announced", "_listener")

    def __init__(self, listener: Listener, announced: tuple[Endpoint, Endpoint] | None) -> None:
        self._listener = listener
        self._announced = announced  # client, and where it connected to, if the socket does not know

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        listener = self._listener
        connection = transport.get_extra_info("ssl_object")
        asked = connection.context.client_certificates
        if asked is not None and too_large(connection, asked):
            source, _ = self._announced or (transport.get_extra_info("peername")[:2], None)
            listener.turn_away(self, source, "client_certificate_too_large")
            transport.abort()
            return
        session = (
            Http2Session(self._listener) if connection.selected_alpn_protocol() == "h2" else HttpSession(self._listener)
        )
        if self._announced is not None:
            session.peer, session.local = self._announced
        self._listener.pass_on(self, session)
        transport.set_protocol(session)
        session.connection_made(transport)


class Admission(asyncio.Protocol):
    """A connection's first moment, before it has a session."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._listener.admit(transport)
