"""What a resolver says of the name that a CNAME of ours leads to, joined to that CNAME; and what hostile ones say."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns import aliases
from penstock.dns.aliases import joined, led_question
from penstock.dns.wire import Question, read_query, read_response
from support import dns_packets as packets

ALIAS = "WWW.corp.internal."
TARGET = "lb.example.org."


def asked(rtype: str = "A", target: str = TARGET) -> tuple[Question, bytes]:
    """The question, and our own part of the answer."""
    query = packets.edns_query("WWW.corp.internal", dns.rdatatype.from_text(rtype))
    question = read_query(query)
    assert isinstance(question, Question)
    ours = dns.message.make_response(dns.message.from_wire(query))
    ours.flags |= dns.flags.AA
    ours.answer.append(dns.rrset.from_text(ALIAS, 60, "IN", "CNAME", target))
    return question, ours.to_wire()


def from_resolver(question: Question, *answers: str, authority: str = "", rcode: int = 0) -> bytes:
    led = led_question(question, packets.wire_name(TARGET))
    query = packets.header(counts=(1, 0, 0, 1)) + led.section + packets.opt()
    reply = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    reply.set_rcode(rcode)
    reply.answer = [dns.rrset.from_text(*line.split(" ", 4)) for line in answers]
    reply.authority = [dns.rrset.from_text(*authority.split(" ", 4))] if authority else []
    return reply.to_wire(max_size=65535)


def join(question: Question, ours: bytes, theirs: bytes, limit: int = 65535) -> dns.message.Message:
    led = led_question(question, packets.wire_name(TARGET))
    packet = joined(question, ours, led, theirs, limit)
    assert len(packet) <= limit
    assert packet[12 : 12 + len(question.section)] == question.section
    return dns.message.from_wire(packet, one_rr_per_rrset=True)


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    return [rrset.to_text() for rrset in section]


@pytest.mark.parametrize(
    ("rtype", "answers"),
    [
        ("A", [f"{TARGET} 30 IN A 192.0.2.1", f"{TARGET} 30 IN A 192.0.2.2"]),
        ("A", [f"{TARGET} 30 IN CNAME a.example.org.", "a.example.org. 30 IN CNAME b.net.", "b.net. 9 IN A 192.0.2.1"]),
        ("MX", [f"{TARGET} 30 IN MX 10 mail.{TARGET}", f"{TARGET} 30 IN MX 20 mail.example.org."]),
        ("SRV", [f"{TARGET} 30 IN SRV 1 2 443 web.{TARGET}"]),
        ("TXT", [f'{TARGET} 30 IN TXT "not a name"']),
        ("SOA", [f"{TARGET} 30 IN SOA ns.{TARGET} root.example.org. 1 2 3 4 5"]),
    ],
)
def test_both_are_one_answer(rtype: str, answers: list[str]) -> None:
    question, ours = asked(rtype)
    message = join(question, ours, from_resolver(question, *answers))
    assert lines(message.answer) == [f"{ALIAS} 60 IN CNAME {TARGET}", *answers]
    assert message.flags & dns.flags.AA
    assert message.edns == 0


def test_the_response_code_is_that_of_the_last_name_and_its_soa_comes_along() -> None:
    question, ours = asked()
    soa = "example.org. 300 IN SOA ns.example.org. root.example.org. 1 2 3 4 60"
    message = join(question, ours, from_resolver(question, authority=soa, rcode=dns.rcode.NXDOMAIN))
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert lines(message.answer) == [f"{ALIAS} 60 IN CNAME {TARGET}"]
    assert lines(message.authority) == [soa]


def test_what_does_not_fit_is_truncated_with_the_question_kept() -> None:
    question, ours = asked()
    theirs = from_resolver(question, *[f"{TARGET} 30 IN A 192.0.2.{n}" for n in range(100)])
    message = join(question, ours, theirs, limit=1232)
    assert message.flags & dns.flags.TC
    assert not message.answer
    assert len(join(question, ours, theirs).answer) == 101


def test_owners_are_compressed_against_the_names_before_them() -> None:
    question, ours = asked()
    theirs = from_resolver(question, *[f"{TARGET} 30 IN A 192.0.2.{n}" for n in range(50)])
    led = led_question(question, packets.wire_name(TARGET))
    assert len(joined(question, ours, led, theirs, 65535)) <= len(ours) + 50 * 16


@pytest.mark.parametrize(
    "rdata",
    [
        packets.pointer(600),
        packets.pointer(4),
        b"\x41a",
        b"\3ab",
        b"",
        packets.LONG * 2 + b"\0",
        packets.pointer(12)[:1],
    ],
)
def test_a_malformed_name_in_the_data_is_a_failed_resolver(rdata: bytes) -> None:
    question, ours = asked()
    led = led_question(question, packets.wire_name(TARGET))
    theirs = packets.header(0x8180, (1, 1, 0, 1)) + led.section
    theirs += packets.record(packets.pointer(12), 5, rdata) + packets.opt()
    message = join(question, ours, theirs)
    assert message.rcode() == dns.rcode.SERVFAIL
    assert not message.answer


@given(st.integers(12, 160), st.binary(max_size=8))
def test_no_bytes_raise_and_what_is_taken_can_be_read(at: int, junk: bytes) -> None:
    question, ours = asked("MX")
    theirs = from_resolver(
        question, f"{TARGET} 30 IN CNAME a.example.org.", "a.example.org. 30 IN MX 10 b.example.org.",
        authority="example.org. 300 IN SOA ns.example.org. root.example.org. 1 2 3 4 60",
    )  # fmt: skip
    end = len(theirs) - len(packets.opt())  # what is behind that is the forwarder's own
    led = led_question(question, packets.wire_name(TARGET))
    spoilt = (theirs[:at] + junk + theirs[at + len(junk) :])[:end] + packets.opt()
    packet = joined(question, ours, led, spoilt, 65535)
    assert packet[12 : 12 + len(question.section)] == question.section
    if packet[3] & 0xF != dns.rcode.SERVFAIL:
        assert len(packet) <= len(ours) + 3 * len(theirs)


def test_a_name_that_all_share_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Legal, and 126 labels long: a pointer to it is one step, however many records have one."""
    target = ".".join("a" * 126)
    question, ours = asked(target=target + ".")
    led = led_question(question, packets.wire_name(target))
    count = 3000
    theirs = packets.header(0x8180, (1, count, 0, 1)) + led.section
    theirs += packets.record(b"\1b" + packets.pointer(14), 1, bytes(4)) * count + packets.opt()
    looked_at = 0

    class Counting(bytes):
        def __getitem__(self, at: object) -> object:
            nonlocal looked_at
            looked_at += 1
            return super().__getitem__(at)

    monkeypatch.setattr(aliases, "read_response", lambda packet, *rest: read_response(bytes(packet), *rest))
    packet = joined(question, ours, led, Counting(theirs), 65535)
    assert len(dns.message.from_wire(packet, one_rr_per_rrset=True).answer) == count + 1
    assert looked_at < 20 * count
