"""What each name says now, as whole packets ready to send.

A question is answered once by looking it up; the `Reply` it yields then serves every equal question until the
configuration or somebody's health changes. Its `head` repeats the question byte for byte, `tail()` is the ring's next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import cycle, repeat

from .registry import IsHealthy, Node, Registry, Ring, Zone
from .specs import DnsSpec
from .wire import AA, CLASS_IN, HEADER_SIZE, RA, TC, Question, Rcode, Type, head, opt_for

_TRANSFERS = frozenset((Type.AXFR, Type.IXFR))
_NOT_IMPLEMENTED = frozenset((249, 250, 253, 254))  # TKEY, TSIG, MAILB, MAILA: no types of data either


class Reply:
    """The answer to one question, spelled as it was. A packet is: the client's id, `head`, `tail()`."""

    __slots__ = ("head", "hits", "qtype", "rcode", "tail", "truncated")

    def __init__(
        self, head: bytes, tail: Callable[[], bytes], qtype: int, rcode: int = 0, *, truncated: bool = False
    ) -> None:
        self.head = head
        self.tail = tail
        self.qtype = qtype
        self.rcode = rcode
        self.truncated = truncated
        self.hits = 0  # times it was sent by whoever remembers it; counted here, because nothing costs less


class Answers:
    """One configuration's answers, as one view of the world."""

    __slots__ = ("_flags", "_negatives", "_registry")

    def __init__(self, spec: DnsSpec, is_healthy: IsHealthy, serial: int) -> None:
        """ValueError in words if the specification contradicts itself or DNS."""
        self._registry = Registry(spec, is_healthy, serial)
        self._flags = RA if spec.resolvers else 0
        # Names that are not there come in floods; what they get depends on the zone and on where its name stands only.
        self._negatives: dict[tuple[bytes, int], bytes] = {}

    def health_changed(self, keys: Iterable[Hashable]) -> bool:
        """Whether any answer hangs on these keys. Those that do are made anew when next asked for."""
        return self._registry.forget(keys)

    def reply(self, question: Question, limit: int) -> Reply | None:
        """The answer in at most `limit` octets; None: the name is not ours."""
        if question.qclass != CLASS_IN or question.qtype in _TRANSFERS:
            return self.refusal(question, Rcode.REFUSED)
        if question.qtype in _NOT_IMPLEMENTED:
            return self.refusal(question, Rcode.NOTIMP)
        node = self._registry.names.get(question.key)
        if node is None:
            zone = self._registry.zone_of(question.key)
            return self._negative(question, zone, Rcode.NXDOMAIN, limit) if zone is not None else None
        ring = _ring_of(node, question.qtype)
        if ring is None:
            return self._negative(question, node.zone, Rcode.NOERROR, limit)
        return self._positive(question, ring, limit)

    def refusal(self, question: Question, rcode: int) -> Reply:
        """No data, and no authority either."""
        tail = repeat(opt_for(question)).__next__
        return Reply(head(question, self._flags | rcode), tail, question.qtype, rcode)

    def _positive(self, question: Question, ring: Ring, limit: int) -> Reply:
        """Whole RRsets or none. Additionals are a courtesy: they go first, and without TC (RFC 2181 section 9)."""
        room = limit - HEADER_SIZE - len(question.section) - len(opt_for(question))
        if ring.longest_answers > room:
            return self._truncated(question, Rcode.NOERROR)
        full = ring.longest <= room
        additionals = ring.additional_count if full else 0
        return Reply(
            head(question, AA | self._flags, ring.count, 0, additionals),
            _tail(ring, full, opt_for(question)),
            question.qtype,
        )

    def _negative(self, question: Question, zone: Zone, rcode: int, limit: int) -> Reply:
        offset = HEADER_SIZE + len(question.key) - len(zone.origin)
        soa = self._negatives.get((zone.origin, offset))
        if soa is None:
            soa = self._negatives[zone.origin, offset] = zone.soa(offset, negative=True)
        tail = soa + opt_for(question)
        if HEADER_SIZE + len(question.section) + len(tail) > limit:
            return self._truncated(question, rcode)
        flags = AA | self._flags | rcode
        return Reply(head(question, flags, 0, 1), repeat(tail).__next__, question.qtype, rcode)

    def _truncated(self, question: Question, rcode: int) -> Reply:
        tail = repeat(opt_for(question)).__next__
        return Reply(head(question, AA | TC | self._flags | rcode), tail, question.qtype, rcode, truncated=True)


def _ring_of(node: Node, qtype: int) -> Ring | None:
    """The records of that type, if there are any. ANY gets one RRset, whichever comes first (RFC 8482 section 4.1)."""
    record_sets = node.records.values() if qtype == Type.ANY else filter(None, [node.records.get(qtype)])
    return next((record_set.ring for record_set in record_sets if record_set.ring.turns), None)


def _tail(ring: Ring, full: bool, opt: bytes) -> Callable[[], bytes]:
    """One iterator for all who get these packets, however they spelled the name: so that shares hold among them all."""
    key = (full, opt)
    if key not in ring.tails:
        made = {id(turn): turn.answers + (turn.additionals if full else b"") + opt for turn in ring.turns}
        ring.tails[key] = cycle([made[id(turn)] for turn in ring.turns]).__next__
    return ring.tails[key]
