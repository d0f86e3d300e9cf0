"""A TLS client whose bytes the test carries itself, so that it may stop between any two of them."""

from __future__ import annotations

import ssl


class Handshake:
    """`step(received)` returns what is to be sent next; `done` once both sides are."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self.done = False

    def step(self, received: bytes = b"") -> bytes:
        self._incoming.write(received)
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def seal(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._outgoing.read()

    def open(self, received: bytes) -> bytes:
        """What is readable of it now."""
        self._incoming.write(received)
        try:
            return self.tls.read(65536)
        except ssl.SSLWantReadError:
            return b""
