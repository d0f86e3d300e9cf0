"""Asking Answers without a server, and reading what they say with dnspython."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype

from penstock.dns.answers import Answers, Reply
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, RecordSpec, ServiceSpec
from penstock.dns.wire import Question, read_query

from . import dns_packets as packets


def zone(*services: ServiceSpec, records: tuple[RecordSpec, ...] = (), **others: Any) -> NamespaceSpec:
    return NamespaceSpec(others.pop("names", ("services",)), services, records=records, **others)


def answers_of(*namespaces: NamespaceSpec, sick: set[str] | frozenset[str] = frozenset(), **others: Any) -> Answers:
    def is_healthy(spec: InstanceSpec) -> bool:
        return spec.health_key not in sick

    return Answers(DnsSpec(namespaces=namespaces, **others), is_healthy, 7, None)


def reply_to(
    answers: Answers, name: str, rtype: str, *, client: str = "192.0.2.1", limit: int = 65535, edns: bool = False
) -> Reply | None:
    make = packets.edns_query if edns else packets.query
    question = read_query(make(name, dns.rdatatype.from_text(rtype)))
    assert isinstance(question, Question)
    return answers.reply(question, limit, answers.views.of(client))


def message(answers: Answers, name: str, rtype: str, **others: Any) -> dns.message.Message:
    reply = reply_to(answers, name, rtype, **others)
    assert reply is not None
    return dns.message.from_wire(b"\0\1" + reply.head + reply.tail())


def said(answers: Answers, name: str, rtype: str, **others: Any) -> list[str]:
    """The response code unless NOERROR, then each answer as `owner type data`, then `SOA zone` from the authority."""
    reply = reply_to(answers, name, rtype, **others)
    if reply is None:
        return ["not ours"]
    got = dns.message.from_wire(b"\0\1" + reply.head + reply.tail())
    code = [] if got.rcode() == dns.rcode.NOERROR else [dns.rcode.to_text(got.rcode())]
    records = [f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}" for rrset in got.answer for rdata in rrset]
    return [*code, *records, *[f"SOA {rrset.name}" for rrset in got.authority]]
