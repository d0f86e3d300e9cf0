"""What each name says now, as whole packets ready to send.

A question is answered once by looking it up; the `Reply` it yields then serves every equal question of the same view,
until something that it depends on changes. Its `head` repeats the question byte for byte, `tail()` is the ring's next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import repeat

from .discover import Query, Sample, discover
from .extended_errors import NO_TRANSFER, NOT_OURS, ExtendedError
from .instances import Instance
from .registry import IsHealthy, Registry
from .rings import Dependent, Ring
from .specs import DnsSpec, InstanceSpec
from .views import View, Views
from .wire import (
    AA,
    CLASS_IN,
    HEADER_SIZE,
    QUESTION_NAME,
    RA,
    TC,
    Question,
    Rcode,
    Type,
    head,
    opt_for,
    pointer,
)
from .zones import AnyNode, Zone

CHAIN_LIMIT = 8  # CNAMEs followed in one answer; Unbound follows 11. Nobody has good use for more than two
FIXED_SIZE = 10  # octets of a record between its owner and its RDATA

_TRANSFERS = frozenset((Type.AXFR, Type.IXFR))
_NOT_IMPLEMENTED = frozenset((249, 250, 253, 254))  # TKEY, TSIG, MAILB, MAILA: no types of data either
_ALIAS_ITSELF = frozenset((Type.CNAME, Type.ANY))  # who asks for these wants the CNAME, not where it leads


class Reply:
    """The answer to one question, spelled as it was. A packet is: the client's id, `head`, `tail()`."""

    __slots__ = ("cached", "depends", "head", "hits", "leads_to", "qtype", "rcode", "tail", "truncated")

    def __init__(
        self,
        head: bytes,
        tail: Callable[[], bytes],
        qtype: int,
        rcode: int = 0,
        depends: tuple[Dependent, ...] = (),
        *,
        truncated: bool = False,
        cached: bool = False,
    ) -> None:
        self.head = head
        self.tail = tail
        self.qtype = qtype
        self.rcode = rcode
        self.depends = depends  # whoever remembers it forgets it when one of these is over
        self.truncated = truncated
        self.cached = cached  # a resolver said it
        self.leads_to = b""  # where the last CNAME leads, if that is not ours
        self.hits = 0  # times it was sent by whoever remembers it; counted here, because nothing costs less


class Answers:
    """One configuration's answers, to all who may ask."""

    __slots__ = ("_flags", "_negatives", "absent", "registry", "views")

    def __init__(self, spec: DnsSpec, is_healthy: IsHealthy, serial: int, before: Answers | None = None) -> None:
        """ValueError in words if the specification contradicts itself or DNS."""
        self.views = Views(spec)
        self.registry = Registry(spec, is_healthy, serial, before.registry if before is not None else None)
        self._flags = RA if spec.resolvers or spec.forwarding.zones else 0
        # Names that are not there come in floods; what they get depends on the zone and on where its name stands only.
        self._negatives: dict[tuple[bytes, int], bytes] = {}
        self.absent = Dependent()  # whatever hangs on a name that does not exist

    def health_changed(self, keys: Iterable[Hashable]) -> list[Dependent]:
        """What is over, now that the health behind these keys is another. It is made anew when next asked for."""
        return self.registry.health_changed(keys)

    def register(self, namespace: str, service: str, spec: InstanceSpec) -> list[Dependent]:
        """Returns what is over. ValueError in words if the instance cannot be had."""
        return [*self.registry.register(namespace, service, spec), self.absent]

    def deregister(self, namespace: str, service: str, instance_id: str) -> list[Dependent]:
        """Returns what is over. ValueError in words if it is not there."""
        return self.registry.deregister(namespace, service, instance_id)

    def move_serial(self, number: int) -> list[Dependent]:
        """Returns what is over. Negative answers that are remembered keep the SOA they have: only caches read those."""
        self._negatives.clear()
        return self.registry.move_serial(number)

    def discover(self, namespace: str, service: str, query: Query, sample: Sample) -> list[Instance]:
        """Whom a query finds. ValueError in words if there is no such service."""
        return discover(self.registry.known(namespace, service).by_id.values(), query, sample)

    def reply(self, question: Question, limit: int, view: View) -> Reply | None:
        """The answer in at most `limit` octets; None: the name is not ours."""
        if question.qclass != CLASS_IN or question.qtype in _TRANSFERS:
            return self.refusal(question, Rcode.REFUSED, NO_TRANSFER if question.qclass == CLASS_IN else NOT_OURS)
        if question.qtype in _NOT_IMPLEMENTED:
            return self.refusal(question, Rcode.NOTIMP)
        zone, node, synthesised = self.registry.find(question.key, view.hidden)
        if zone is None:
            return None
        depends: tuple[Dependent, ...] = (self.absent,) if synthesised or node is None else ()
        if node is None:
            return self._negative(question, zone, Rcode.NXDOMAIN, limit, depends)
        if isinstance(node, Dependent):
            depends += (node,)
        ring = _ring_of(node, question.qtype, view)
        if ring is not None:
            depends += (ring,)
        if ring is not None and ring.count:
            return self._positive(question, ring, limit, depends)
        if question.qtype not in _ALIAS_ITSELF:
            alias = node.ring(Type.CNAME, view.vantage)
            if alias is not None:
                return self._chain(question, alias, limit, view, depends)
        return self._negative(question, zone, Rcode.NOERROR, limit, depends)

    def refusal(
        self, question: Question, rcode: int, why: ExtendedError | None = None, *, recursion: bool = True
    ) -> Reply:
        """No data, and no authority either."""
        tail = repeat(opt_for(question, why.option if why is not None else b"")).__next__
        flags = self._flags if recursion else 0
        return Reply(head(question, flags | rcode), tail, question.qtype, rcode, (self.absent,))

    def _positive(self, question: Question, ring: Ring, limit: int, depends: tuple[Dependent, ...]) -> Reply:
        """Whole RRsets or none. Additionals are a courtesy: they go first, and without TC (RFC 2181 section 9)."""
        room = limit - HEADER_SIZE - len(question.section) - len(opt_for(question))
        if ring.longest(full=False) > room:
            return self._truncated(question, Rcode.NOERROR, depends)
        full = ring.longest(full=True) <= room
        additionals = ring.additional_count if full else 0
        flags = AA | self._flags
        return Reply(
            head(question, flags, ring.count, 0, additionals),
            ring.tail(opt_for(question), full=full),
            question.qtype,
            depends=depends,
        )

    def _chain(self, question: Question, alias: Ring, limit: int, view: View, depends: tuple[Dependent, ...]) -> Reply:
        """Where a CNAME leads, as far as that is ours. The response code is the last name's (RFC 6604 section 3).

        Every owner but the first is where the CNAME before it names it.
        """
        said, owner, links = b"", QUESTION_NAME, 0
        seen = {question.key}
        offset = HEADER_SIZE + len(question.section)
        while True:
            record = alias.tail(b"", full=False)()
            target = record[len(QUESTION_NAME) + FIXED_SIZE :]
            said += owner + record[2:]
            links += 1
            at = offset + len(said) - len(target)
            owner = pointer(at)
            if target in seen or links == CHAIN_LIMIT:
                return self._led(question, said, links, b"", 0, Rcode.NOERROR, limit, depends)
            seen.add(target)
            zone, node, synthesised = self.registry.find(target, view.hidden)
            if zone is None:
                reply = self._led(question, said, links, b"", 0, Rcode.NOERROR, limit, depends)
                reply.leads_to = b"" if reply.truncated else target
                return reply
            if synthesised or node is None:
                depends += (self.absent,)
            if isinstance(node, Dependent):
                depends += (node,)
            ring = _ring_of(node, question.qtype, view) if node is not None else None
            if ring is not None:
                depends += (ring,)
            if ring is not None and ring.count:
                return self._led_to(question, ring.behind(said, owner), links, limit, depends)
            following = node.ring(Type.CNAME, view.vantage) if node is not None else None
            if following is None:
                rcode = Rcode.NXDOMAIN if node is None else Rcode.NOERROR
                soa = zone.soa(at + len(target) - len(zone.origin), negative=True)
                return self._led(question, said, links, soa, 1, rcode, limit, depends)
            alias = following

    def _led_to(self, question: Question, ring: Ring, links: int, limit: int, depends: tuple[Dependent, ...]) -> Reply:
        opt = opt_for(question)
        if HEADER_SIZE + len(question.section) + len(opt) + ring.longest(full=False) > limit:
            return self._truncated(question, Rcode.NOERROR, depends)
        flags = AA | self._flags
        return Reply(
            head(question, flags, links + ring.count), ring.tail(opt, full=False), question.qtype, depends=depends
        )

    def _led(
        self,
        question: Question,
        said: bytes,
        links: int,
        soa: bytes,
        authorities: int,
        rcode: int,
        limit: int,
        depends: tuple[Dependent, ...],
    ) -> Reply:
        tail = said + soa + opt_for(question)
        if HEADER_SIZE + len(question.section) + len(tail) > limit:
            return self._truncated(question, rcode, depends)
        flags = AA | self._flags | rcode
        return Reply(
            head(question, flags, links, authorities), repeat(tail).__next__, question.qtype, rcode, depends=depends
        )

    def _negative(
        self, question: Question, zone: Zone, rcode: int, limit: int, depends: tuple[Dependent, ...]
    ) -> Reply:
        offset = HEADER_SIZE + len(question.key) - len(zone.origin)
        soa = self._negatives.get((zone.origin, offset))
        if soa is None:
            soa = zone.soa(offset, negative=True)
            if zone.origin in self.registry.zones:  # those of addresses are as many as there are addresses
                self._negatives[zone.origin, offset] = soa
        tail = soa + opt_for(question)
        if HEADER_SIZE + len(question.section) + len(tail) > limit:
            return self._truncated(question, rcode, depends)
        flags = AA | self._flags | rcode
        return Reply(head(question, flags, 0, 1), repeat(tail).__next__, question.qtype, rcode, depends)

    def _truncated(self, question: Question, rcode: int, depends: tuple[Dependent, ...]) -> Reply:
        tail = repeat(opt_for(question)).__next__
        flags = AA | TC | self._flags | rcode
        return Reply(head(question, flags), tail, question.qtype, rcode, depends, truncated=True)


def _ring_of(node: AnyNode, qtype: int, view: View) -> Ring | None:
    """The records of that type. ANY gets one RRset, whichever comes first (RFC 8482 section 4.1)."""
    if qtype != Type.ANY:
        return node.ring(qtype, view.vantage)
    rings = (node.ring(rtype, view.vantage) for rtype in node.types())
    return next((ring for ring in rings if ring is not None and ring.count), None)
