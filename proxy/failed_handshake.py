"""What becomes of a client whose TLS handshake fails: it is told why, and that this was all, so that it need not wait.

OpenSSL's alert is written by the event loop. Who speaks HTTP where HTTPS is spoken would not understand one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from .actions import fixed_response
from .client_certificates import refusal
from .specs import FixedResponse

ALERT_TIME = 0.1  # the alert is written at the end of the loop's turn, so well within
PLAIN_HTTP = FixedResponse(400, "text/plain", "400 Bad Request: this port speaks HTTPS, ask for https://\n")  # as ALB


class FailedHandshake:
    """Of one connection, whether it fails or not."""

    __slots__ = ("_client", "_date", "_failure", "_https")

    def __init__(self, client: socket.socket, *, https: bool, date: bytes) -> None:
        self._client = client
        self._https = https
        self._date = date
        self._failure: ssl.SSLError | None = None

    def told(self, failure: ssl.SSLError) -> None:
        self._failure = failure
        if self._https and failure.reason == "HTTP_REQUEST":
            with suppress(OSError):
                self._client.send(fixed_response(PLAIN_HTTP, date=self._date, close=True))
        asyncio.get_running_loop().call_later(ALERT_TIME, self._say_no_more)

    def _say_no_more(self) -> None:
        with suppress(OSError):  # it has left
            self._client.shutdown(socket.SHUT_WR)

    def reason(self, error: Exception) -> str | None:
        """The word for the log and the counters; None where `tls_failed` says enough."""
        if self._failure is not None and self._failure.reason == "HTTP_REQUEST":
            return "plain_http"
        if isinstance(error, ConnectionAbortedError):  # how the loop says that it took too long
            return "tls_handshake_timeout"
        return None if self._failure is None else refusal(self._failure)
