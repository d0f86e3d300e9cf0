"""Decides what a packet gets, whichever way it came: silence, a refusal, our answer, or a resolver's.

Both transports ask here, and nothing that a packet does gets past here as an exception.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from enum import Enum
from typing import Final

from .admission import HOME, Admission
from .aliases import joined, led_question
from .answers import Answers, Reply
from .counters import RCODE_NAMES, DnsCounters, Transport
from .extended_errors import NO_RECURSION, NOT_OURS
from .forwarder import Deliver, Forwarder
from .memo import PACKET_LIMIT, Memos
from .specs import InstanceSpec
from .wire import HEADER_SIZE, QR, RD, TC, TCP_SIZE, Question, Rcode, Rejection, read_query

log = logging.getLogger(__name__)


class Later(Enum):
    """`deliver` will be called."""

    LATER = "later"


LATER: Final = Later.LATER


class Responder:
    """`memo` maps a query without its id to its reply, over UDP; it is another one for each configuration.

    It is None where what is answered depends on who asks: then it is `memos.by_client[client]`.
    """

    __slots__ = ("_by_admission", "_forwarder", "admission", "answers", "counters", "memo", "memos")

    def __init__(self, answers: Answers, forwarder: Forwarder, counters: DnsCounters) -> None:
        self._forwarder = forwarder
        self.counters = counters
        self._take(answers, None)

    def use(self, answers: Answers, recursion: Iterable[str] | None = None) -> None:
        """`recursion` are the networks whose clients may ask for what is not ours; None: private ones."""
        self.count_hits()
        self._take(answers, recursion)

    def health_changed(self, keys: Iterable[Hashable]) -> None:
        self.memos.forget(self.answers.health_changed(keys))

    def register(self, namespace: str, service: str, instance: InstanceSpec) -> None:
        """ValueError in words if it cannot be had."""
        self.memos.forget(self.answers.register(namespace, service, instance))

    def deregister(self, namespace: str, service: str, instance_id: str) -> None:
        """ValueError in words if it is not there."""
        self.memos.forget(self.answers.deregister(namespace, service, instance_id))

    def move_serial(self, number: int) -> None:
        self.memos.forget(self.answers.move_serial(number))

    def remembered(self, key: bytes, client: str) -> Reply | None:
        """The reply to a query over UDP without its id, for who is not in the hurry of the listener."""
        return (self.memos.by_client[client] if self.memo is None else self.memo).get(key)

    def count_hits(self) -> None:
        """Brings what the remembered replies counted by themselves into the counters."""
        for reply in self.memos.replies():
            self._count_hits_of(reply)

    def respond(self, packet: bytes, transport: Transport, deliver: Deliver, client: str) -> bytes | Later | None:
        """The answer, or LATER if `deliver` will get it, or None: silence. `client` is its address."""
        try:
            query = read_query(packet)
            if isinstance(query, Rejection):
                return self._reject(query)
            return self._answer(packet, query, transport, deliver, client)
        except Exception:  # a bug of ours; the client is told, the server lives on
            self.counters.internal_errors += 1
            log.exception("a query could not be answered")
            return _server_failure(packet)

    def _answer(
        self, packet: bytes, question: Question, transport: Transport, deliver: Deliver, client: str
    ) -> bytes | Later | None:
        limit = question.udp_size if transport == "udp" else TCP_SIZE
        self.counters.trailing_bytes += question.trailing
        reply = self.answers.reply(question, limit, self.answers.views.of(client))
        memorable = transport == "udp" and len(packet) <= PACKET_LIMIT and not question.trailing
        if reply is None:
            if question.flags & RD and self._forwarder.takes(question):
                if self.admission.may_recurse(client):
                    return self._forward(packet, question, transport, limit, deliver, client)
                memorable = False  # each one counts
                self.counters.refused["recursion"] += 1
                reply = self.answers.refusal(question, Rcode.REFUSED, NO_RECURSION, recursion=False)
            else:
                reply = self.answers.refusal(question, Rcode.REFUSED, NOT_OURS)
        elif reply.leads_to and question.flags & RD:
            led = led_question(question, reply.leads_to)
            if self._forwarder.takes(led):
                if self.admission.may_recurse(client):
                    ours = packet[:2] + reply.head + reply.tail()
                    return self._follow(question, ours, led, transport, limit, deliver)
                memorable = False
        self._count(transport, reply)
        if memorable:
            self.memos.remember(packet[2:], reply, client)
            if reply.rcode == Rcode.NXDOMAIN:
                self.memos.learn_absence(packet, question, reply, client)
        return packet[:2] + reply.head + reply.tail()

    def _forward(
        self, packet: bytes, question: Question, transport: Transport, limit: int, deliver: Deliver, client: str
    ) -> bytes | Later:
        answer = self._forwarder.ask(question, transport, limit, deliver)
        if answer is None:
            return LATER
        if transport == "udp" and self._by_admission and len(packet) <= PACKET_LIMIT and not question.trailing:
            reply = self._forwarder.lasting_reply(question, limit)
            if reply is not None:
                self.memos.remember(packet[2:], reply, client)
        return answer

    def _follow(
        self, question: Question, ours: bytes, led: Question, transport: Transport, limit: int, deliver: Deliver
    ) -> bytes | Later:
        """`ours` are CNAMEs that lead to what `led` asks, which is not ours."""

        def join(theirs: bytes) -> bytes:
            packet = joined(question, ours, led, theirs, limit)
            self.counters.truncated += bool(packet[2] & TC >> 8)
            return packet

        theirs = self._forwarder.ask(led, transport, TCP_SIZE, lambda answer: deliver(join(answer)))
        return LATER if theirs is None else join(theirs)

    def _take(self, answers: Answers, recursion: Iterable[str] | None) -> None:
        self.answers = answers
        self.admission = Admission(HOME if recursion is None else recursion)
        self._by_admission = self._forwarder.forwards
        self.memos = Memos(answers, self._count_hits_of, self.admission if self._by_admission else None)
        self._forwarder.lasting.use(self.memos.forget)
        self.memo = self.memos.only

    def _count(self, transport: Transport, reply: Reply, times: int = 1) -> None:
        self.counters.count(transport, reply.qtype, reply.rcode, times)
        if reply.truncated:
            self.counters.truncated += times
        if reply.cached:
            self.counters.cache_hits += times

    def _count_hits_of(self, reply: Reply) -> None:
        if reply.hits:
            self._count("udp", reply, reply.hits)
            reply.hits = 0

    def _reject(self, rejection: Rejection) -> bytes | None:
        if rejection.reply is None:
            self.counters.dropped[rejection.reason] += 1
        else:
            self.counters.rejected[rejection.reason] += 1
            self.counters.responses[RCODE_NAMES[rejection.rcode]] += 1
        return rejection.reply


def _server_failure(packet: bytes) -> bytes | None:
    if len(packet) < HEADER_SIZE:
        return None
    flags = QR | int.from_bytes(packet[2:4]) & RD | Rcode.SERVFAIL
    return packet[:2] + flags.to_bytes(2) + bytes(8)
