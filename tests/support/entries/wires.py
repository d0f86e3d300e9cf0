"""Binary messages: PROXY protocol headers, gRPC health answers, DNS packets."""

from __future__ import annotations

import struct

import dns.exception
import dns.message

from penstock.dns.wire import Question, Rejection, read_query, read_response, soa_minimum
from penstock.proxy.grpc_health import HEALTH_PATH, BadAnswer, GrpcCall, serving_status
from penstock.proxy.proxy_protocol import MAX_V1, MAX_V2, SIGNATURE, BadProxyHeader, build, parse

PROXY_WORDS = (
    b"PROXY ", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"TCP6 2001:db8::1 ", b"UNKNOWN", b"65535", b"\r\n", b" ",
    SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c", SIGNATURE + b"\x20\0\0\0", b"\x21\x21\0\x24", b"\x21\x31", bytes(12),
    bytes(36), b"\x03\0\x04", b"\x01\0\x02h2", b"%", b"::", b"1", b"0",
)  # fmt: skip
GRPC_WORDS = (
    b"\0\0\0\x04\0\0\0\0\0", b"\0\0\0\x04\x01\0\0\0\0", b"\0\0\x01\x01\x04\0\0\0\x01\x88", b"\0\0\x07\0\x01\0\0\0\x01",
    b"\0\0\0\0\x02\x08\x01", b"\0\0\x08\x07\0\0\0\0\0", bytes(8), b"\x88", b"@\x0bgrpc-status\x010",
)  # fmt: skip
DNS_WORDS = (
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0", b"\x01a\0\0\x01\0\x01",
    b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01", b"\0\0\x29\x10\0\0\0\0\0\0\0", b"\xc0\x0c", b"\0\x06\0\x01",
    b"\x3f", b"\xff", bytes(4), b"\0\x01", b"\0\x0a\0\x08", b"\0\xfb\0\x01",
)  # fmt: skip


def proxy_header(data: bytes) -> bool:
    """One header has one length, however its bytes arrive; and what it says can be said again."""
    try:
        found = parse(data)
    except BadProxyHeader as bad:
        assert bad.reason.startswith("proxy_header_")
        return False
    if found is None:
        assert len(data) < MAX_V2
        return False
    assert 0 < found.length <= (MAX_V2 if data.startswith(SIGNATURE) else MAX_V1)
    assert all(parse(data[:cut]) is None for cut in range(1, min(found.length, MAX_V1)))
    assert parse(data[: found.length]) == found
    if found.source is not None:
        for version in ("v1", "v2"):
            again = parse(build(version, found.source, found.destination))
            assert again is not None
            assert (again.source, again.destination) == (found.source, found.destination)
    return True


def grpc_health(data: bytes) -> bool:
    """A status, the wish for more, or a sentence."""
    call = GrpcCall("example.org", HEALTH_PATH, secure=False)
    try:
        call.feed(data)
    except BadAnswer as bad:
        assert str(bad)
    try:
        serving_status(data)
    except BadAnswer as bad:
        assert str(bad)
    return call.answer is not None


def dns_query(packet: bytes) -> bool:
    """The gate never raises, and what it takes for a question it can say back; dnspython reads the same one."""
    question = read_query(packet)
    if isinstance(question, Rejection):
        assert question.reason
        return False
    assert isinstance(question, Question)
    assert packet[12 : 12 + len(question.section)] == question.section
    oracle = dns.message.from_wire(packet, question_only=True, ignore_trailing=True)
    [asked] = oracle.question
    assert (asked.rdtype, asked.rdclass) == (question.qtype, question.qclass)
    assert asked.name.to_wire() == question.section[:-4]
    return True


def dns_response(packet: bytes) -> bool:
    """Nothing outside the packet is ever named, and dnspython finds the same counts wherever it can read the data."""
    section = packet[12:19]
    response = read_response(packet, struct.unpack("!H", packet[:2].ljust(2, b"\0"))[0], section)
    if response is None:
        return False
    assert response.end <= len(packet)
    at = 0
    for record in (*response.answers, *response.authorities):
        assert at < record.ttl_at < record.end <= response.end
        at = record.end
        if record.rtype == 6:
            assert 0 <= soa_minimum(packet, record) < 1 << 32
    try:
        oracle = dns.message.from_wire(packet, ignore_trailing=True, one_rr_per_rrset=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError):
        return True  # it reads the data of every record, which is relayed here as it is
    if response.answers:
        assert len(response.answers) == len(oracle.answer)
    return True
