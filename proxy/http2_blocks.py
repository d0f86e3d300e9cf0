"""What header blocks of requests meant, remembered: a client's next request is one look into a dict.

A block means the same whenever it is read with the same table, so the two of them are the key, and what follows from
them (the request in HTTP/1's terms, or its refusal, and the table for the next block) is the value. A path that stands
in its block as a literal is taken out before, so requests that differ only in their path are one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .hpack import EMPTY, MAX_PSEUDO, Field, ListTooLarge, Table, decode, path_literal
from .http2 import Http2Request, request_of
from .http_fields import BadMessage

# Bounds, as for heads of HTTP/1: what repeats is back at once when all is forgotten.
MAX_BLOCKS = 1024
MAX_BLOCK = 4096  # bytes of one block, and of the list it stands for
MAX_SEEN = 4096  # fields; what they hold is bounded by MAX_BLOCK too

_usual_path = re.compile(rb"/[!\"$-~]*+").fullmatch  # as in `http1.request_line`


_ROOT = (b":path", b"/")


class Reading:
    """A block that was read. `refusal` stands where `request` cannot; `uri` is what it asks for, whatever `request`
    says; `size` is its list's by RFC 9113 6.5.2."""

    __slots__ = ("refusal", "request", "size", "table", "uri")

    def __init__(
        self, request: Http2Request | None, refusal: BadMessage | None, uri: bytes, size: int, table: Table
    ) -> None:
        self.request = request
        self.refusal = refusal
        self.uri = uri
        self.size = size
        self.table = table


class Blocks:
    """Those of requests that end with their head, or of requests that do not."""

    __slots__ = ("_lists", "_seen", "ended", "known")

    def __init__(self, *, ended: bool) -> None:
        self.ended = ended
        self.known: dict[tuple[int, bytes], Reading] = {}
        self._lists: dict[tuple[Field, ...], Http2Request] = {}
        self._seen: set[Field] = set()

    def read(
        self, block: bytes, table: Table, max_list: int, websocket_key: Callable[[], bytes]
    ) -> tuple[Reading, bytes]:
        """A block that is not in `known` as it stands, and what it asks for.

        Raises what `decode` raises.
        """
        template, path = path_literal(block)
        if _usual_path(path) is not None:
            reading = self.known.get((table.number, template))
            if reading is None:
                reading = self._read(template, table, max_list, websocket_key)
            if reading.size + len(path) - len(b"/") > max_list:
                raise ListTooLarge
            return reading, path
        reading = self._read(block, table, max_list, websocket_key)
        return reading, reading.uri

    def _read(self, block: bytes, table: Table, max_list: int, websocket_key: Callable[[], bytes]) -> Reading:
        fields, size, after = decode(block, table, max_list)
        uri = b""
        for index, (name, value) in enumerate(fields[:MAX_PSEUDO]):
            if name == b":path":
                if _usual_path(value) is not None:
                    uri, fields[index] = value, _ROOT
                break
        key = tuple(fields)
        request = self._lists.get(key)
        if request is None:
            try:
                request = request_of(fields, ended=self.ended, websocket_key=websocket_key())
            except BadMessage as bad:
                return Reading(None, bad, uri, size, after)
            if size <= MAX_BLOCK and not request.websocket:  # whose key is never the same
                self._learn(key, request)
            return Reading(request, None, uri or request.uri, size, after)
        reading = Reading(request, None, uri or request.uri, size, after)
        # A client whose every block changes the table says none of them twice, but all begin with an empty one.
        if (after is table or table is EMPTY) and len(block) <= MAX_BLOCK:
            if len(self.known) >= MAX_BLOCKS:
                self.known.clear()
            self.known[table.number, block] = reading
        return reading

    def _learn(self, fields: tuple[Field, ...], request: Http2Request) -> None:
        """Only when all its fields had been seen before: a list that never repeats must not drive out those that do."""
        seen = self._seen
        if not seen.issuperset(fields):
            if len(seen) >= MAX_SEEN:
                seen.clear()
            seen.update(fields)
            return
        if len(self._lists) >= MAX_BLOCKS:
            self._lists.clear()
        self._lists[fields] = request


WHOLE = Blocks(ended=True)
BEGUN = Blocks(ended=False)
