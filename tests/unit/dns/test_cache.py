"""What is kept of resolvers' answers, and for how long. The clock is an argument."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rrset
import pytest

from penstock.dns.cache import Cache, Entry, entry_of
from penstock.dns.forwarding_specs import CacheSpec
from penstock.dns.wire import Question, read_query, read_response
from support import dns_packets as packets

A = ("answer", "www.example.org.", 300, "A", "192.0.2.1")
CNAME = ("answer", "www.example.org.", 200, "CNAME", "web.example.org.")
TARGET = ("answer", "web.example.org.", 100, "A", "192.0.2.1")
SOA = ("authority", "example.org.", 900, "SOA", "ns.example.org. hostmaster.example.org. 1 2 3 4 60")
SHORT_SOA = ("authority", "example.org.", 10, "SOA", "ns.example.org. hostmaster.example.org. 1 2 3 4 60")
LONG_SOA = ("authority", "example.org.", 99999, "SOA", "ns.example.org. hostmaster.example.org. 1 2 3 4 99999")
NS = ("authority", "example.org.", 50, "NS", "ns.example.org.")


def question(name: str = "www.example.org", **edns: Any) -> Question:
    found = read_query(packets.edns_query(name, **edns) if edns else packets.query(name))
    assert isinstance(found, Question)
    return found


def entry(*records: tuple[str, str, int, str, str], rcode: int = 0, now: float = 1000.0) -> Entry:
    asked = question()
    reply = dns.message.make_response(dns.message.from_wire(packets.query("www.example.org")))
    reply.set_rcode(rcode)
    for section, owner, ttl, rtype, data in records:
        getattr(reply, section).append(dns.rrset.from_text(owner, ttl, "IN", rtype, data))
    packet = reply.to_wire()
    response = read_response(packet, 0x1234, asked.section)
    assert response is not None
    return entry_of(packet, response, asked, now)


@pytest.mark.parametrize(
    ("records", "rcode", "lifetime"),
    [
        ((A,), 0, 300),
        ((CNAME, TARGET), 0, 100),
        ((A, NS), 0, 50),
        ((CNAME,), 0, 0),  # leads nowhere, and nobody says how long
        ((CNAME, SOA), 0, 60),
        ((SOA,), 0, 60),
        ((SOA,), 3, 60),
        ((SHORT_SOA,), 3, 10),  # the lesser of TTL and MINIMUM, RFC 2308 section 5
        ((LONG_SOA,), 3, 3600),
        ((), 0, 0),
        ((), 3, 0),
        ((A,), 2, 0),  # SERVFAIL
        ((SOA,), 5, 0),  # REFUSED
        ((("answer", "www.example.org.", 0, "A", "192.0.2.1"),), 0, 0),
        ((("answer", "www.example.org.", 1 << 20, "A", "192.0.2.1"),), 0, 86400),
    ],
)
def test_an_answer_is_kept_as_long_as_its_owner_allows(records: Any, rcode: int, lifetime: int) -> None:
    assert entry(*records, rcode=rcode).lifetime == lifetime


def test_a_ttl_with_its_top_bit_set_is_zero() -> None:
    asked = question()
    packet = packets.header(0x8180, (1, 1, 0, 0)) + asked.section
    packet += packets.record(packets.pointer(12), 1, bytes(4), ttl=0x80000001)
    response = read_response(packet, 0x1234, asked.section)
    assert response is not None
    assert entry_of(packet, response, asked, 0.0).lifetime == 0


def test_what_goes_out_has_aged() -> None:
    packet = entry(CNAME, TARGET, now=1000.0).render(question(), 512, 1030.9)
    assert packet is not None
    got = dns.message.from_wire(packet)
    assert [rrset.ttl for rrset in got.answer] == [170, 70]
    assert not got.flags & dns.flags.AA
    assert got.flags & dns.flags.RA


def test_each_client_gets_its_own_id_case_and_opt() -> None:
    kept = entry(A)
    asked = question("WwW.ExAmPlE.oRg", ttl=0x8000)
    packet = kept.render(asked, 1232, 1000.0)
    assert packet is not None
    assert packet[:2] == b"\x12\x34"
    assert packet[12:].startswith(asked.section)
    got = dns.message.from_wire(packet)
    assert got.edns == 0
    assert got.ednsflags & 0x8000
    plain = kept.render(question(), 512, 1000.0)
    assert plain is not None
    assert dns.message.from_wire(plain).edns == -1


def test_what_does_not_fit_is_said_so() -> None:
    kept = entry(A)
    packet = kept.render(question(), 512, 1000.0)
    assert packet is not None
    assert kept.render(question(), len(packet), 1000.0) == packet
    assert kept.render(question(), len(packet) - 1, 1000.0) is None


class TestCache:
    def test_an_entry_is_there_until_its_time_is_over(self) -> None:
        cache = Cache(CacheSpec(stale=0))
        kept = entry(A, now=1000.0)
        cache.put(b"a", kept)
        assert cache.get(b"a", 1299.9) is kept
        assert cache.get(b"a", 1300.0) is None
        assert (len(cache), cache.size) == (0, 0)

    def test_what_may_not_be_kept_is_not(self) -> None:
        cache = Cache()
        cache.put(b"a", entry(A, rcode=2))
        assert cache.get(b"a", 1000.0) is None

    def test_memory_is_bounded_and_the_least_used_goes_first(self) -> None:
        kept = entry(A)
        cache = Cache(CacheSpec(capacity=3 * kept.size, stale=0))
        for key in (b"a", b"b", b"c"):
            cache.put(key, kept)
        cache.get(b"a", 1000.0)
        cache.put(b"d", kept)
        assert [key for key in (b"a", b"b", b"c", b"d") if cache.get(key, 1000.0)] == [b"a", b"c", b"d"]
        assert cache.size == 3 * kept.size
        cache.put(b"d", kept)
        assert cache.size == 3 * kept.size, "a replaced entry gives its room back"

    def test_an_entry_larger_than_all_is_not_kept(self) -> None:
        cache = Cache(CacheSpec(capacity=10))
        cache.put(b"a", entry(A))
        assert len(cache) == 0
