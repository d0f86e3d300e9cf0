"""What DNS reads beyond the gate: options and cookies, requests over HTTPS, transfers, and what joins an alias."""

from __future__ import annotations

from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from penstock.dns.aliases import joined, led_question
from penstock.dns.answers import Answers
from penstock.dns.cache import Cache, entry_of
from penstock.dns.cookies import AHEAD, LIFETIME, answer_cookie, is_well_formed
from penstock.dns.counters import DnsCounters
from penstock.dns.doh import MESSAGE_LIMIT, max_age, message_of
from penstock.dns.forwarder import Forwarder
from penstock.dns.responder import Responder
from penstock.dns.secondaries import Secondaries
from penstock.dns.wire import (
    COOKIE,
    HEADER_SIZE,
    Question,
    Rcode,
    append_option,
    bare_reply,
    find_option,
    read_cookie_query,
    read_query,
    read_response,
    with_option_removed,
)

from .. import dns_packets as packets

OPTION_WORDS = (
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0", b"\0\x0c\0\x0a\0\x08abcdefgh",
    b"\0\x0a\0\x18", b"\0\x0a\0\x08", b"\0\x03\0\0", b"\0\x0f\0\x02\0\x12", b"\0\x08\0\x07\0\x01\x18\0\x0a\0\0",
    b"\x12\x34\x01\0\0\0\0\0\0\0\0\x01", bytes(8), b"\x01\0\0\0", b"\xff\xff",
)  # fmt: skip
DOH_WORDS = (
    b"GET /dns-query?dns=", b"POST /dns-query\n", b"HEAD ", b"EjQBAAABAAAAAAAAAWEAAAEAAQ", b"&dns=", b"%", b"%41", b"=",
    b"-_", b"+/", b"?", b"#", b"\n", b"\xff", b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0",
)  # fmt: skip
TRANSFER_WORDS = (
    packets.query("corp.internal", 252), packets.query("CORP.internal", 251), b"\0\xfc\0\x01", b"\0\xfb\0\x01",
    packets.wire_name("corp.internal"), b"\0\0\x29\x04\xd0\0\0\0\0\0\0", packets.record(b"\0", 6, bytes(22)), b"\x01a",
)  # fmt: skip
ALIAS_WORDS = (
    b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01", b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01",
    b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0c", b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x04\0\x01\xc0\x0c",
    b"\xc0\x0c\0\x06\0\x01\0\0\0\x3c\0\x18\xc0\x0c\xc0\x0c", b"\xc0\x13", b"\xc0\x0c", b"\x01b", b"\0", bytes(20),
)  # fmt: skip

SECRET = b"0123456789abcdef"
ADDRESS = b"\xc0\0\2\1"
NOW = 1_800_000_000
PATH = b"/dns-query"
# Types whose data holds no names, or names that are read.
COMPARED = frozenset((1, 2, 5, 6, 12, 15, 16, 28, 33))

_COUNTERS = DnsCounters()
_RESPONDER = Responder(Answers(packets.spec(), lambda _: True, 1), Forwarder(Cache(), _COUNTERS), _COUNTERS)
_SECONDARIES = Secondaries(("127.0.0.0/8",), _RESPONDER)


def options(packet: bytes) -> bool:
    """An option that is taken out leaves the same question with all its other options; one more is the last."""
    question = read_query(packet)
    if not isinstance(question, Question) or not question.edns:
        return _cookie_alone(packet)
    codes = _codes(packet)
    found = find_option(packet, question, COOKIE)
    assert codes is None or (found is not None) == (COOKIE in codes)
    if found is not None:
        at, data = found
        assert packet[at : at + 4 + len(data)].endswith(data)
        rest = with_option_removed(packet, question, at, 28)
        again = read_query(rest)
        assert isinstance(again, Question)
        assert (again.section, again.do, again.id) == (question.section, question.do, question.id)
        if codes is not None:
            codes.remove(COOKIE)
            assert _codes(rest) == codes
        if is_well_formed(data):
            _cookie(data)
    reply = append_option(bare_reply(question, Rcode.REFUSED), COOKIE, b"12345678")
    assert _codes(reply) == [COOKIE]
    return True


def _codes(packet: bytes) -> list[int] | None:
    """None: dnspython reads the data of the other records too, and does not like it."""
    try:
        return [int(option.otype) for option in dns.message.from_wire(packet, ignore_trailing=True).options]
    except (dns.exception.DNSException, ValueError):
        return None


def _cookie_alone(packet: bytes) -> bool:
    asked = read_cookie_query(packet)
    if asked is None:
        return False
    assert packet[4:6] == b"\0\0"
    assert asked[1] in packet
    if is_well_formed(asked[1]):
        _cookie(asked[1])
    return True


def _cookie(shown: bytes) -> None:
    """Whatever is shown, what is given back is good for an hour, from that address alone, and with no bit changed."""
    given, _ = answer_cookie(SECRET, shown, ADDRESS, NOW)
    assert given[:8] == shown[:8]
    assert is_well_formed(given)
    for now in (NOW - AHEAD, NOW, NOW + LIFETIME // 2 - 1):
        assert answer_cookie(SECRET, given, ADDRESS, now)[1]
    assert not answer_cookie(SECRET, given, b"\xc0\0\2\2", NOW)[1]
    assert not answer_cookie(SECRET, given[:-1] + bytes((given[-1] ^ 1,)), ADDRESS, NOW)[1]


def doh(raw: bytes) -> bool:
    """`METHOD TARGET` and, after a line, the body: a message to be looked at, or a status."""
    line, _, body = raw.partition(b"\n")
    method, _, target = line.partition(b" ")
    message = message_of(method, target, b"application/dns-message", body, PATH)
    if isinstance(message, int):
        assert 400 <= message < 500
        return False
    assert target.partition(b"?")[0] == PATH
    assert len(message) <= MESSAGE_LIMIT
    question = read_query(message)
    if isinstance(question, Question):
        reply = _RESPONDER.respond(message, "https", lambda _: None, "127.0.0.1")
        assert isinstance(reply, bytes)
        assert 0 <= max_age(reply, question) <= 60
    return True


def transfer(packet: bytes) -> bool:
    """Nothing but a question for a whole zone of ours is answered by one, and that begins and ends with its SOA."""
    zone = _SECONDARIES.transfer(packet, "127.0.0.1")
    assert _SECONDARIES.transfer(packet, "192.0.2.1") is None
    if zone is None:
        return False
    question = read_query(packet)
    assert isinstance(question, Question)
    assert question.qtype in (251, 252)
    assert question.key == packets.wire_name("corp.internal")
    messages = [dns.message.from_wire(part, xfr=True, one_rr_per_rrset=True) for part in zone if part]
    assert all(message.id == question.id for message in messages)
    records = [rrset for message in messages for rrset in message.answer]
    assert records[0] == records[-1]
    assert records[0].rdtype == dns.rdatatype.SOA
    assert sum(rrset.rdtype == dns.rdatatype.SOA for rrset in records) == 2
    return True


def alias(packet: bytes) -> bool:
    """What a resolver said, kept and joined to a CNAME of ours, says the same: dnspython reads it in both."""
    query = packets.header() + packets.question("www.corp.internal", *_type_of(packet))
    question = read_query(query)
    assert isinstance(question, Question)
    led = led_question(question, b"\x01a\0")
    response = read_response(packet, led.id, led.section)
    if response is None or response.flags & dns.flags.TC:
        return False
    theirs = entry_of(packet, response, led, 0.0).render(led, 65535, 0.0)
    assert theirs is not None
    front = dns.message.make_response(dns.message.from_wire(query))
    front.answer.append(dns.rrset.from_text("www.corp.internal.", 60, "IN", "CNAME", "a."))
    got = joined(question, front.to_wire(), led, theirs, 65535)
    assert got[HEADER_SIZE : HEADER_SIZE + len(question.section)] == question.section
    if got[3] & 0xF == Rcode.SERVFAIL != response.rcode:
        return False  # a name in the data of a record is malformed
    if not {found.rtype for found in (*response.answers, *response.authorities)} <= COMPARED:
        return True
    with suppress(dns.exception.DNSException, ValueError):
        said = dns.message.from_wire(theirs, one_rr_per_rrset=True)
        read = dns.message.from_wire(got, one_rr_per_rrset=True)
        assert read.answer[1:] == said.answer
        assert read.authority == said.authority
        assert read.rcode() == said.rcode()
    return True


def _type_of(packet: bytes) -> tuple[int, int]:
    """Type and class of a question about `a`, if it is one: what resolvers say is about what was asked."""
    if packet[HEADER_SIZE : HEADER_SIZE + 3] == b"\x01a\0" and len(packet) >= HEADER_SIZE + 7:
        rtype = int.from_bytes(packet[HEADER_SIZE + 3 : HEADER_SIZE + 5])
        return (rtype if rtype not in (41, 251) else 1), 1
    return 1, 1
