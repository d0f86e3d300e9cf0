"""What names a request: an id for logs and targets, and a W3C trace that is passed on or begun.

One id of 32 hex digits serves all of them: the second, eight random bytes of this listener's, and a counter. So it is
unique without a random number per request (a uuid4 costs as much as a third of the request), and it sorts by time. It
can be guessed: it names a request, it does not guard one.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .http1 import RequestHead
    from .specs import TracingSpec

# What a client's X-Request-Id may be if it is to be kept: what nginx, Envoy and uuid libraries make, with room to
# spare. A longer one would be a way to fill everybody's logs.
MAX_REQUEST_ID = 128
_usable_id = re.compile(rb"[!-~]{1,%d}" % MAX_REQUEST_ID).fullmatch

AMAZON = b"x-amzn-trace-id"
PARENT = b"traceparent"
STATE = b"tracestate"
# W3C Trace Context 3.2: version 00 is exactly this, a later one may go on after the flags; ff is no version, and ids of
# nothing but zeros are invalid.
_usable_parent = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:(?<!\A00.{53})-[!-~]*)?"
).fullmatch
# Sampled: who begins a trace decides for all behind, and OpenTelemetry's default follows it. Whoever wants fewer traces
# has the targets, or the collector, draw.
FLAGS = b"01"

LAST_DIGITS = tuple(b"%03x" % number for number in range(4096))
BLOCKS = 1 << 20  # of 4096 ids each: together the counter's eight digits. It never begins again within a second.


class Tracer:
    """Names the requests of one listener. `prefix` is 16 hex digits, random for each listener of each process.

    `line` begins the field that `stamp` completes; the session has it at the end of what it sends for every request.
    Where a client names nothing itself (`names_plainly`), its id is the next of `ids`, and that is all.
    """

    __slots__ = ("_begins", "_block", "_name", "_plain", "_prefix", "_second", "ids", "line", "spec")

    def __init__(self, spec: TracingSpec, prefix: bytes, second: int) -> None:
        self.spec = spec
        self._prefix = prefix
        self._block = -1
        self._begins = spec.traceparent == "begin"
        self._name = PARENT if spec.request_id is None else spec.request_id.lower().encode()
        self._plain = spec.request_id is not None and not self._begins  # one field to add, and that is all
        self.line = (spec.request_id or "traceparent").encode() + b": "
        self.tick(second)

    def tick(self, second: int) -> None:
        """Once a second: the time of day, in the ids from now on."""
        self._second = b"%08x" % (second & 0xFFFFFFFF)
        self.ids = chain.from_iterable(
            self._count((b"Root=1-%b-%b" if self._name == AMAZON else b"%b%b") % (self._second, self._prefix))
        )

    def _count(self, stem: bytes) -> Iterator[Iterator[bytes]]:
        """The ids of one second, 4096 at a time, so that one of them costs a concatenation and no formatting."""
        while True:
            self._block = (self._block + 1) % BLOCKS
            yield map((b"%b%05x" % (stem, self._block)).__add__, LAST_DIGITS)

    def connection_id(self) -> str:
        """What the log calls a client's connection, in ALB's form."""
        return (b"TID_%b%b" % (self._second, next(self.ids)[-24:])).decode()

    def stamp(self, head: RequestHead) -> tuple[bytes, bytes, bytes]:
        """For one request: its `forward`, without what is said anew; its id; and what completes the head that `line`
        has begun to end."""
        request_id = next(self.ids)
        if self.names_plainly(head):
            return head.forward, request_id, request_id + b"\r\n\r\n"
        return self._stamp_unusual(head, request_id[-24:])

    def names_plainly(self, head: RequestHead) -> bool:
        """Whether one field is added, and nothing of what the client said changes."""
        if not self._plain:
            return False
        return not head.traces or all(trace[1] != self._name for trace in head.traces)

    def _stamp_unusual(self, head: RequestHead, tail: bytes) -> tuple[bytes, bytes, bytes]:
        """The client brought ids of its own, or a trace may have to be begun."""
        said: dict[bytes, bytes] = {}
        for _, name, value in head.traces:
            said.setdefault(name, value)  # of several, the first: the others cannot be told from forgeries
        anew = {self._name}
        fields = b"\r\n\r\n"
        if self._begins:
            anew.add(PARENT)
            parent = said.get(PARENT, b"")
            if _usable_parent(parent) is None:
                parent = b"00-%b%b-%b-%b" % (self._second, tail, tail[-16:], FLAGS)
                anew.add(STATE)  # it belonged to a trace that nobody can name (W3C Trace Context 4.3)
            if self._name == PARENT:
                return _without(head.forward, anew), parent[3:35], parent + fields
            fields = b"\r\ntraceparent: " + parent + fields
        request_id = self._amazon(said, tail) if self._name == AMAZON else self._any(said, tail)
        return _without(head.forward, anew), request_id, request_id + fields

    def _amazon(self, said: dict[bytes, bytes], tail: bytes) -> bytes:
        """As ALB: without Root a new one; with Root it stays, and Self is what this request is called here."""
        ours = b"1-%b-%b" % (self._second, tail)
        parts = [part.strip(b" \t") for part in said.get(AMAZON, b"").split(b";")]
        others = [part for part in parts if part and not part.startswith(b"Self=")]
        kind = b"Self=" if any(part.startswith(b"Root=") for part in others) else b"Root="
        return b";".join([kind + ours, *others])

    def _any(self, said: dict[bytes, bytes], tail: bytes) -> bytes:
        theirs = said.get(self._name, b"")
        return theirs if _usable_id(theirs) else self._second + tail


def _without(forward: bytes, names: Iterable[bytes]) -> bytes:
    """The forwarded lines but those of these names. What follows the last CRLF is not a whole line, and stays."""
    lines = forward.split(b"\r\n")
    return b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in names])
