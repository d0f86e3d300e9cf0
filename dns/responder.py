"""Decides what a packet gets, whichever way it came: silence, a refusal, our answer, or a resolver's.

Both transports ask here, and nothing that a packet does gets past here as an exception.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from enum import Enum
from typing import Final

from .answers import Answers, Reply
from .counters import RCODE_NAMES, DnsCounters, Transport
from .forwarder import Deliver, Forwarder
from .wire import HEADER_SIZE, QR, RD, TCP_SIZE, Question, Rcode, Rejection, read_query

# Questions remembered whole. A resolver's clients ask few different things; a flood of different names fills it, and
# then it is emptied: refilling costs one look-up per question that is alive.
MEMO_LIMIT = 4096
MEMO_PACKET_LIMIT = 512  # octets; nobody's usual query is longer

log = logging.getLogger(__name__)


class Later(Enum):
    """`deliver` will be called."""

    LATER = "later"


LATER: Final = Later.LATER


class Responder:
    """`memo` maps a query without its id to its reply, over UDP. When answers change it is replaced, never emptied."""

    __slots__ = ("_answers", "_forwarder", "counters", "memo")

    def __init__(self, answers: Answers, forwarder: Forwarder, counters: DnsCounters) -> None:
        self._answers = answers
        self._forwarder = forwarder
        self.counters = counters
        self.memo: dict[bytes, Reply] = {}

    def use(self, answers: Answers) -> None:
        self._answers = answers
        self._forget()

    def health_changed(self, keys: Iterable[Hashable]) -> None:
        if self._answers.health_changed(keys):
            self._forget()

    def count_hits(self) -> None:
        """Brings what the remembered replies counted by themselves into the counters."""
        for reply in self.memo.values():
            if reply.hits:
                self._count("udp", reply, reply.hits)
                reply.hits = 0

    def respond(self, packet: bytes, transport: Transport, deliver: Deliver) -> bytes | Later | None:
        """The answer, or LATER if `deliver` will get it, or None: silence."""
        try:
            query = read_query(packet)
            if isinstance(query, Rejection):
                return self._reject(query)
            return self._answer(packet, query, transport, deliver)
        except Exception:  # a bug of ours; the client is told, the server lives on
            self.counters.internal_errors += 1
            log.exception("a query could not be answered")
            return _server_failure(packet)

    def _answer(
        self, packet: bytes, question: Question, transport: Transport, deliver: Deliver
    ) -> bytes | Later | None:
        limit = question.udp_size if transport == "udp" else TCP_SIZE
        self.counters.trailing_bytes += question.trailing
        reply = self._answers.reply(question, limit)
        if reply is None:
            if question.flags & RD and self._forwarder.resolvers:
                return self._forwarder.ask(question, transport, limit, deliver) or LATER
            reply = self._answers.refusal(question, Rcode.REFUSED)
        self._count(transport, reply)
        if transport == "udp" and len(packet) <= MEMO_PACKET_LIMIT and not question.trailing:
            if len(self.memo) >= MEMO_LIMIT:
                self._forget()
            self.memo[packet[2:]] = reply
        return packet[:2] + reply.head + reply.tail()

    def _count(self, transport: Transport, reply: Reply, times: int = 1) -> None:
        self.counters.count(transport, reply.qtype, reply.rcode, times)
        if reply.truncated:
            self.counters.truncated += times

    def _reject(self, rejection: Rejection) -> bytes | None:
        if rejection.reply is None:
            self.counters.dropped[rejection.reason] += 1
        else:
            self.counters.rejected[rejection.reason] += 1
            self.counters.responses[RCODE_NAMES[rejection.rcode]] += 1
        return rejection.reply

    def _forget(self) -> None:
        self.count_hits()
        self.memo = {}


def _server_failure(packet: bytes) -> bytes | None:
    if len(packet) < HEADER_SIZE:
        return None
    flags = QR | int.from_bytes(packet[2:4]) & RD | Rcode.SERVFAIL
    return packet[:2] + flags.to_bytes(2) + bytes(8)
