"""What holds of the gate for all packets: work that grows with their length alone, and dnspython's reading of them."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns.answers import Answers
from penstock.dns.wire import TCP_SIZE, Question, Rejection, read_cookie_query, read_query, read_response
from support import dns_packets as packets


class Watched(bytes):
    """Counts the octets that are looked at one by one or copied. What is unpacked of it is 4 octets for 11 or more."""

    looked_at: int

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.looked_at += 1 if isinstance(found, int) else len(found)
        return found


def looked_at(packet: bytes, read: Any) -> int:
    watched = Watched(packet)
    watched.looked_at = 0
    read(watched)
    return watched.looked_at


def worst(size: int) -> dict[str, bytes]:
    """Packets of about that size, made to cost as much as they can."""
    front = packets.question()
    labels = b"\1a" * 126 + b"\0"
    empty, long = packets.record(b"\0", 1, b""), packets.record(labels, 1, b"")
    pointed = packets.header(0x8180, (1, size // 18, 0, 0)) + packets.question(labels)

    def query(additionals: int) -> bytes:
        return packets.header(counts=(1, 0, 0, additionals)) + front

    return {
        "additionals": query(size // 11) + empty * (size // 11),
        "long owners": query(size // 263) + long * (size // 263),
        "options": query(1) + packets.opt(options=packets.option(9) * (size // 4)),
        "one pointer, often": pointed + packets.record(packets.pointer(12), 1, bytes(4)) * (size // 18),
        "a label and a pointer": pointed + packets.record(b"\1b" + packets.pointer(14), 1, bytes(4)) * (size // 18),
        "pointers to pointers": packets.pointer_chain(min(size // 2, 800), size // 20),
        "counts that lie": packets.header(counts=(1, 0xFFFF, 0xFFFF, 0xFFFF)) + front + bytes(size),
    }


@pytest.mark.parametrize("name", worst(100))
@pytest.mark.parametrize("direction", ["query", "response"])
def test_work_grows_with_the_length_and_no_faster(name: str, direction: str) -> None:
    for size in (512, 4096, 32768, 60000):
        packet = worst(size)[name]
        section = packet[12 : packet.index(b"\0\1\0\1", 12) + 4]
        if direction == "response":
            packet = packet[:2] + b"\x81\x80" + packet[4:]
            seen = looked_at(packet, lambda packet, section=section: read_response(packet, 0x1234, section))
        else:
            packet = packet[:2] + b"\x01\x00" + packet[4:]
            seen = looked_at(packet, lambda packet: (read_query(packet), read_cookie_query(packet)))
        assert seen <= 2 * len(packet) + 600, (size, seen)


@given(st.binary(max_size=700) | st.binary(max_size=200).map(lambda tail: packets.header() + packets.question() + tail))
def test_it_never_raises_nor_looks_twice(packet: bytes) -> None:
    seen = looked_at(packet, lambda packet: isinstance(read_query(packet), (Question, Rejection)) or 1 / 0)
    assert seen <= 2 * len(packet) + 20
    read_cookie_query(packet)


labels = st.lists(st.binary(min_size=1, max_size=63), max_size=8).filter(
    lambda got: sum(map(len, got)) + len(got) < 255
)
options = st.lists(
    st.builds(dns.edns.GenericOption, st.sampled_from([9, 100, 65001]), st.binary(max_size=40)), max_size=4
)


@given(
    labels, st.integers(0, 65535).filter(lambda rtype: rtype not in (41, 250)), st.sampled_from([1, 3, 255]),
    st.integers(0, 65535), st.booleans(), st.none() | st.tuples(st.booleans(), st.integers(0, 65535), options),
)  # fmt: skip
def test_what_dnspython_writes_is_read_as_it_was_meant(
    name: list[bytes], rtype: int, rclass: int, message_id: int, rd: bool, edns: tuple[bool, int, Any] | None
) -> None:
    query = dns.message.QueryMessage(id=message_id)
    query.flags = dns.flags.RD if rd else 0
    query.question.append(dns.rrset.RRset(dns.name.Name((*name, b"")), rclass, rtype))
    if edns is not None:
        query.use_edns(0, dns.flags.DO if edns[0] else 0, edns[1], options=edns[2])
    question = read_query(query.to_wire())
    assert isinstance(question, Question)
    assert (question.id, bool(question.flags & 0x0100)) == (message_id, rd)
    assert (question.qtype, question.qclass) == (rtype, rclass)
    assert question.section[:-4] == dns.name.Name((*name, b"")).to_wire()
    assert question.edns == (edns is not None)
    if edns is not None:
        assert question.do == edns[0]
        assert question.udp_size == min(max(edns[1], 512), 1232)


ANSWERS = Answers(packets.spec(), lambda _: True, 1)
NAMES = ("api", "big", "none", "alias", "out", "a", "nope", "_http._tcp.api", "_tcp.api", "i-1.api", "ns", "x.y.z")


@given(
    st.sampled_from([f"{name}.corp.internal" for name in NAMES] + ["corp.internal", "10.1.0.10.in-addr.arpa"]),
    st.sampled_from([1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255, 1000]), st.sampled_from([0, 512, 700, 1232]),
    st.sampled_from([512, 700, 1232, TCP_SIZE]),
)  # fmt: skip
def test_what_we_write_dnspython_reads_and_writes_the_same(name: str, rtype: int, size: int, limit: int) -> None:
    packet = packets.edns_query(name, rtype, size=size) if size else packets.query(name, rtype)
    question = read_query(packet)
    assert isinstance(question, Question)
    reply = ANSWERS.reply(question, limit, ANSWERS.views.outside)
    assert reply is not None
    wire = packet[:2] + reply.head + reply.tail()
    assert len(wire) <= limit
    message = dns.message.from_wire(wire)
    assert dns.message.from_wire(packet).is_response(message)
    again = dns.message.from_wire(message.to_wire(max_size=TCP_SIZE))
    assert again == message
    assert [again.edns, again.flags, again.rcode()] == [message.edns, message.flags, message.rcode()]
