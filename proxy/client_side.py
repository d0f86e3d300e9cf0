"""What a request's way through the house asks of its client's side, whatever protocol that speaks.

Abstract: the sessions of HTTP/1 and the streams of HTTP/2 fill it in, and move the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .http1 import ResponseHead
    from .upstream import Upstream


class ClientSide:
    __slots__ = ()

    joins = False  # it wants the body's beginning together with the head, where they came together

    def response_whole(self, head: ResponseHead, data: bytes) -> None:
        """The usual answer, in one piece: complete, of known length, both connections stay. `data` is all of it."""
        raise NotImplementedError

    def response_begins(self, head: ResponseHead, first: bytes = b"") -> None:
        """`first` is the body's beginning, and empty where the client's side does not join."""
        raise NotImplementedError

    def response_interim(self, head: ResponseHead) -> None:
        """An answer of 1xx, 101 aside."""
        raise NotImplementedError

    def response_switches(self, head: ResponseHead, rest: bytes) -> None:
        """An answer of 101; `rest` are the first bytes of the other protocol."""
        raise NotImplementedError

    def response_body(self, data: bytes) -> None:
        raise NotImplementedError

    def response_trailers(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Fields after the body, from a HTTP/2 target; HTTP/1 clients are not sent any."""

    def response_ends(self) -> None:
        raise NotImplementedError

    def hold_client(self) -> None:
        """The target reads slower than the client sends."""
        raise NotImplementedError

    def release_client(self) -> None:
        raise NotImplementedError

    def _respond(self, status: int, response: bytes) -> None:
        """Send an answer of our own, complete."""
        raise NotImplementedError

    def _fail(self, status: int, reason: str) -> None:
        """There is no answer from a target: say so."""
        raise NotImplementedError

    def _abort(self, reason: str) -> None:
        """The answer has begun and cannot be completed."""
        raise NotImplementedError

    def _hold_back(self) -> None:
        """Nothing can be sent to the target yet."""
        raise NotImplementedError

    def _let_on(self) -> None:
        raise NotImplementedError

    def _send_ahead(self, upstream: Upstream) -> None:
        """Send what came of the body while the target was being connected to."""
        raise NotImplementedError
