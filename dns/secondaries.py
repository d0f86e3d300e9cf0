"""Who may have whole zones, and what they get: over TCP only, for so long an answer to a forged sender is a weapon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import ip_address, ip_network

from .answers import Answers
from .responder import Responder
from .transfer import messages
from .views import View
from .wire import CLASS_IN, TCP_SIZE, Question, Rcode, Type, read_query

# IXFR may be answered by the whole zone (RFC 1995 section 4): what has changed since is not kept.
_TRANSFERS = frozenset((Type.AXFR, Type.IXFR))


class Secondaries:
    __slots__ = ("_allowed", "_responder")

    def __init__(self, allowed: Iterable[str], responder: Responder) -> None:
        """`allowed` are CIDRs."""
        self._allowed = [ip_network(cidr) for cidr in allowed]
        self._responder = responder

    def transfer(self, message: bytes, client: str) -> Iterator[bytes] | None:
        """The zone that a query asks for, in messages; b"" is none yet.

        None: it asks for none, or may not have it, and is answered like any other query.
        """
        question = read_query(message)
        if not isinstance(question, Question) or question.qtype not in _TRANSFERS or question.qclass != CLASS_IN:
            return None
        answers = self._responder.answers
        view = answers.views.of(client)
        zone = answers.registry.zones.get(question.key)
        address = ip_address(client.partition("%")[0])
        if zone is None or question.key in view.hidden or not any(address in network for network in self._allowed):
            self._responder.counters.refused["transfer"] += 1
            return None
        names = [name for name, node in answers.registry.names.items() if node.zone is zone]
        self._responder.counters.count("tcp", question.qtype, Rcode.NOERROR)
        return messages(question, zone.origin, names, partial(_answer, answers, view))


def _answer(answers: Answers, view: View, question: Question) -> bytes | None:
    """By the configuration that the transfer began with, should another one come meanwhile."""
    reply = answers.reply(question, TCP_SIZE, view)
    return reply.head + reply.tail() if reply is not None else None
