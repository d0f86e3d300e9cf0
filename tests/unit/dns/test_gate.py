"""Every packet of the table through the gate and the answers, without a socket; and any other bytes there are."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.name
import dns.rrset
import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns.answers import Answers
from penstock.dns.cache import Cache
from penstock.dns.counters import DnsCounters
from penstock.dns.forwarder import Forwarder
from penstock.dns.responder import Responder
from penstock.dns.wire import Question, Rejection, encode_name, read_query, read_response
from support import dns_packets as packets


def responder() -> Responder:
    counters = DnsCounters()
    return Responder(Answers(packets.spec(), lambda _: True, 1), Forwarder(Cache(), counters), counters)


def not_forwarded(_: bytes) -> None:
    raise AssertionError("nothing is forwarded here")


ALL = responder()


@pytest.mark.parametrize("case", packets.CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_each_packet_gets_what_the_table_says(case: packets.Case, transport: str) -> None:
    reply = ALL.respond(case.packet, transport, not_forwarded, "127.0.0.1")
    packets.check(case, reply, transport=transport)
    assert ALL.counters.internal_errors == 0


def test_the_question_passes_as_it_was_sent_and_is_known_without_case() -> None:
    question = read_query(packets.query("aPi.CoRp.InTeRnAl", 33))
    assert isinstance(question, Question)
    assert question.section == packets.question("aPi.CoRp.InTeRnAl", 33)
    assert question.key == packets.wire_name("api.corp.internal")
    assert (question.qtype, question.qclass, question.id) == (33, 1, 0x1234)


@pytest.mark.parametrize(
    ("asked", "used"), [(0, 512), (511, 512), (512, 512), (900, 900), (1232, 1232), (1233, 1232), (65535, 1232)]
)
def test_a_client_is_sent_what_it_can_take_and_no_fragments(asked: int, used: int) -> None:
    question = read_query(packets.edns_query(size=asked))
    assert isinstance(question, Question)
    assert question.udp_size == used


def test_these_packets_do_crash_a_recursive_parser() -> None:
    """They are in the table because of it; if dnslib learns better, the table still stands."""
    for packet in (packets.pointer_loop(), packets.pointer_chain(2000, 1)):
        with pytest.raises(RecursionError):
            dnslib.DNSRecord.parse(packet)


mutated = st.builds(
    lambda case, at, junk, cut: (case.packet[: at % (len(case.packet) + 1)] + junk + case.packet[at:])[: cut or None],
    st.sampled_from(packets.CASES),
    st.integers(0, 80),
    st.binary(max_size=6),
    st.integers(0, 120),
)


@given(st.binary(max_size=600) | mutated | st.binary(max_size=80).map(lambda tail: packets.header() + tail))
def test_no_bytes_raise_and_every_answer_is_an_answer(packet: bytes) -> None:
    counted = ALL.counters.internal_errors
    reply = ALL.respond(packet, "udp", not_forwarded, "127.0.0.1")
    assert ALL.counters.internal_errors == counted
    if reply is None:
        assert len(packet) < 12 or packet[2] & 0x80
        return
    assert isinstance(reply, bytes)
    assert reply[:2] == packet[:2]
    assert reply[2] & 0x80
    dns.message.from_wire(reply)


@given(st.text("ab.-_é", max_size=70) | st.just("a" * 64) | st.just(".".join(["a" * 63] * 4)))
def test_a_name_is_encoded_as_dnspython_does_or_refused_in_words(name: str) -> None:
    try:
        ours = encode_name(name)
    except ValueError as error:
        assert "name" in str(error)
        with pytest.raises((dns.exception.DNSException, ValueError)):
            _strict_name(name)
    else:
        assert ours == _strict_name(name)


def _strict_name(name: str) -> bytes:
    if not name.isascii() or name in ("", "."):
        raise ValueError
    return dns.name.from_text(name).to_wire()


class TestReadResponse:
    """What resolvers send is not trusted either."""

    @staticmethod
    def answer(at: int = 0, value: int = 0x12) -> bytes:
        """With the octet at `at` set to `value`; as it stands, that changes nothing."""
        query = dns.message.from_wire(packets.edns_query("WWW.example.org"))
        reply = dns.message.make_response(query, recursion_available=True)
        reply.answer.append(dns.rrset.from_text("www.example.org.", 300, "IN", "CNAME", "web.example.org."))
        reply.answer.append(dns.rrset.from_text("web.example.org.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"))
        reply.authority.append(dns.rrset.from_text("example.org.", 900, "IN", "NS", "ns.example.org."))
        reply.additional.append(dns.rrset.from_text("ns.example.org.", 900, "IN", "A", "192.0.2.53"))
        wire = bytearray(reply.to_wire())
        wire[at] = value
        return bytes(wire)

    section = packets.question("WWW.example.org")

    def test_a_whole_answer_is_walked_to_the_end_of_its_authority(self) -> None:
        packet = self.answer()
        response = read_response(packet, 0x1234, self.section)
        assert response is not None
        assert [(r.rtype, r.ttl) for r in response.answers] == [(5, 300), (1, 60), (1, 60)]
        assert [(r.rtype, r.ttl) for r in response.authorities] == [(2, 900)]
        assert response.end == response.authorities[-1].end
        for found in (*response.answers, *response.authorities):
            assert int.from_bytes(packet[found.ttl_at : found.ttl_at + 4]) == found.ttl

    @pytest.mark.parametrize(
        ("name", "message_id", "section"),
        [
            ("wrong id", 0x1235, section),
            ("other case", 0x1234, packets.question("www.example.org")),
            ("other type", 0x1234, packets.question("WWW.example.org", 28)),
            ("longer question", 0x1234, packets.question("WWW.example.org.more")),
        ],
    )
    def test_an_answer_to_something_else_is_none(self, name: str, message_id: int, section: bytes) -> None:
        assert read_response(self.answer(), message_id, section) is None, name

    @pytest.mark.parametrize("at", [2, 4, 6, 8])
    def test_a_lying_header_is_none(self, at: int) -> None:
        """No QR, and counts that are off by 256."""
        wire = self.answer()
        value = wire[2] & 0x7F if at == 2 else wire[at] + 1
        assert read_response(self.answer(at, value), 0x1234, self.section) is None

    def test_every_prefix_is_none(self) -> None:
        packet = self.answer()
        for size in range(len(packet)):
            assert read_response(packet[:size], 0x1234, self.section) is None, size

    @pytest.mark.parametrize(
        "owner",
        [
            packets.pointer(47),  # itself: the question ends there
            packets.pointer(48),
            packets.pointer(4),
            b"\x41" + b"a" * 65 + b"\0",
            packets.LONG + b"\x3e" + b"d" * 62 + b"\0",
            packets.LONG + b"\x3d" + b"d" * 61 + packets.pointer(12),
        ],
    )
    def test_a_malformed_owner_is_none(self, owner: bytes) -> None:
        section = packets.question("aaaaaaaaaaa.bbbbbbbbb.example")
        front = packets.header(0x8180, (1, 1, 0, 0)) + section
        assert len(front) == 47
        packet = front + packets.record(owner, 1, bytes(4))
        assert read_response(packet, 0x1234, section) is None

    @pytest.mark.parametrize(
        "query", [packets.pointer_loop(), packets.pointer_chain(800, 100), packets.pointer_chain(2000, 1)]
    )
    def test_loops_and_chains_of_pointers_are_none(self, query: bytes) -> None:
        packet = bytearray(query)
        packet[2] |= 0x80
        assert read_response(bytes(packet), 0x1234, packets.question()) is None

    def test_many_names_that_share_a_long_suffix_are_walked_once(self) -> None:
        """126 labels, then thousands of records that point at them: this is legal, and must stay cheap."""
        section = packets.question(b"\1a" * 126 + b"\0")
        count = 4000
        packet = packets.header(0x8180, (1, count, 0, 0)) + section
        packet += packets.record(packets.pointer(12), 1, bytes(4), ttl=7) * count
        response = read_response(packet, 0x1234, section)
        assert response is not None
        assert {r.ttl for r in response.answers} == {7}

    @given(st.integers(0, 200), st.binary(max_size=8))
    def test_no_bytes_raise(self, at: int, junk: bytes) -> None:
        packet = self.answer()
        result = read_response(packet[:at] + junk + packet[at + len(junk) :], 0x1234, self.section)
        assert result is None or result.end <= len(packet) + len(junk)

    def test_the_gate_for_queries_keeps_it_out(self) -> None:
        assert read_query(self.answer()) == Rejection("response")
