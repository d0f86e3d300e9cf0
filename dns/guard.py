"""What stands before the responder where the configuration asks for it: who may ask, cookies, the limit of equal
answers, the query log, top names. Where it asks for none of these there is no guard, and a query costs nothing more.

Cookies are taken off a query before it is looked up and put onto the answer after: so that the memo knows the question,
whatever cookie it came with.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from time import monotonic, time

from . import cookies
from .counters import RCODE_NAMES, DnsCounters, Transport
from .extended_errors import PROHIBITED
from .query_log import QueryLog
from .responder import Later, Responder
from .response_rate import ResponseRate, Verdict
from .top_names import TopNames
from .transport_specs import TransportSpec
from .wire import (
    COOKIE,
    PLAIN_UDP_SIZE,
    RA,
    TC,
    Question,
    Rcode,
    Rejection,
    append_option,
    bare_reply,
    cookie_reply,
    find_option,
    read_cookie_query,
    read_query,
    with_option_removed,
)

DECISIONS = 4096  # clients whose admission is remembered

Deliver = Callable[[bytes], None]


class Guard:
    __slots__ = ("_admitted", "_allow", "_counters", "_log", "_rate", "_responder", "_secret", "top_names")

    def __init__(self, spec: TransportSpec, responder: Responder, log: QueryLog | None) -> None:
        self._responder = responder
        self._counters: DnsCounters = responder.counters
        self._allow = [ip_network(cidr) for cidr in spec.allow]
        self._admitted: dict[str, tuple[bool, bytes]] = {}
        self._secret = spec.cookie_secret
        self._rate = ResponseRate(spec.rate) if spec.rate is not None else None
        self._log = log
        self.top_names = TopNames(spec.top_names) if spec.top_names else None

    def respond(self, packet: bytes, client: str, transport: Transport, deliver: Deliver) -> bytes | Later | None:
        """As the responder's, for a client at that address."""
        query = read_query(packet)
        if isinstance(query, Rejection):
            alone = self._cookie_alone(packet, client) if self._secret else None
            return alone or self._responder.respond(packet, transport, deliver, client)  # which counts it, and says so
        admitted, address = self._admission(client)
        if not admitted:
            self._counters.refused["acl"] += 1
            self._counters.count(transport, query.qtype, Rcode.REFUSED)
            return bare_reply(query, RA | Rcode.REFUSED, PROHIBITED.option)
        began = monotonic()
        cookie, known = b"", False
        if self._secret and query.edns and (found := find_option(packet, query, COOKIE)) is not None:
            at, data = found
            if not cookies.is_well_formed(data):
                self._counters.rejected["cookie"] += 1
                self._counters.responses[RCODE_NAMES[Rcode.FORMERR]] += 1
                return bare_reply(query, Rcode.FORMERR)
            cookie, known = cookies.answer_cookie(self._secret, data, address, int(time()))
            packet = with_option_removed(packet, query, at, reserve=cookies.OPTION_SIZE)

        def finished(reply: bytes) -> bytes | None:
            if transport == "udp" and self._rate is not None and not known:
                verdict = self._rate.judge(address, reply, query.key, monotonic())
                if verdict is Verdict.DROP:
                    self._counters.refused["response_rate"] += 1
                    return None
                if verdict is Verdict.SLIP:
                    self._counters.refused["response_rate_slip"] += 1
                    reply = bare_reply(query, TC)
            if cookie:
                reply = self._with_cookie(reply, query, cookie, transport)
            if self._log is not None and self._log.is_wanted():
                self._log.add(client, transport, query, reply, monotonic() - began)
            return reply

        def deliver_finished(reply: bytes) -> None:
            done = finished(reply)
            if done is not None:
                deliver(done)

        if self.top_names is not None:
            self.top_names.count(query.key)
        if transport == "udp" and (known_reply := self._responder.remembered(packet[2:], client)) is not None:
            known_reply.hits += 1
            return finished(packet[:2] + known_reply.head + known_reply.tail())
        reply = self._responder.respond(packet, transport, deliver_finished, client)
        return finished(reply) if isinstance(reply, bytes) else reply

    def _cookie_alone(self, packet: bytes, client: str) -> bytes | None:
        """The cookie for who asks nothing else: to get one, or to hear whether the one that he has is still good."""
        asked = read_cookie_query(packet)
        admitted, address = self._admission(client)
        if asked is None or not admitted or not cookies.is_well_formed(asked[1]):
            return None
        question, shown = asked
        cookie, known = cookies.answer_cookie(self._secret, shown, address, int(time()))
        rcode = Rcode.NOERROR if known or len(shown) == cookies.CLIENT_SIZE else Rcode.BADCOOKIE
        self._counters.responses[RCODE_NAMES[rcode]] += 1
        return cookie_reply(question, rcode, COOKIE.to_bytes(2) + len(cookie).to_bytes(2) + cookie)

    def _admission(self, client: str) -> tuple[bool, bytes]:
        """Whether this client may ask, and its address in network order."""
        decided = self._admitted.get(client)
        if decided is None:
            address = ip_address(client.partition("%")[0])
            if len(self._admitted) >= DECISIONS:
                self._admitted.clear()
            admitted = not self._allow or any(address in network for network in self._allow)
            decided = self._admitted[client] = (admitted, address.packed)
        return decided

    @staticmethod
    def _with_cookie(reply: bytes, query: Question, cookie: bytes, transport: Transport) -> bytes:
        made = append_option(reply, COOKIE, cookie)
        if transport == "udp" and len(made) > max(query.udp_size, PLAIN_UDP_SIZE):
            flags = int.from_bytes(reply[2:4])
            return append_option(bare_reply(query, TC | flags & 0x048F), COOKIE, cookie)
        return made
