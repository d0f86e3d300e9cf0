"""The reverse zones of private addresses, which the public DNS knows nothing of (RFC 6303, RFC 7793).

A question for one of them that leaves tells strangers what stands in our network, and waits for a NXDOMAIN that every
resolver may as well give by itself: with an SOA of that zone, so that it is kept. Pure.
"""

from __future__ import annotations

from .wire import AA, HEADER_SIZE, RA, Question, Rcode, Type, encode_name, head, opt_for, pointer, record, suffixes

TTL = 10800  # RFC 6303 section 3, as are the SOA's numbers

ARPA = b"\x04arpa\0"

_IPV4 = (
    "0", "10", "127", "254.169", *(f"{second}.172" for second in range(16, 32)), "168.192", "2.0.192", "100.51.198",
    "113.0.203", "255.255.255.255", *(f"{second}.100" for second in range(64, 128)),
)  # fmt: skip
_IPV6 = ("0." * 31 + "0", "1." + "0." * 30 + "0", "d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2")

ZONES = frozenset(
    [*(encode_name(f"{zone}.in-addr.arpa") for zone in _IPV4), *(encode_name(f"{zone}.ip6.arpa") for zone in _IPV6)]
)
_NUMBERS = b"".join(number.to_bytes(4) for number in (1, 3600, 1200, 604800, TTL))
_RNAME = encode_name("nobody.invalid")


def zone_of(key: bytes) -> bytes | None:
    """The private reverse zone that a name in lower case is in."""
    if not key.endswith(ARPA):
        return None
    return next((suffix for suffix in suffixes(key) if suffix in ZONES), None)


def answer(question: Question, zone: bytes) -> tuple[int, bytes]:
    """The rcode and the packet: there is nothing in this zone but itself."""
    offset = HEADER_SIZE + len(question.key) - len(zone)
    soa = record(pointer(offset), Type.SOA, TTL, pointer(offset) + _RNAME + _NUMBERS)
    at_apex = question.key == zone
    rcode = Rcode.NOERROR if at_apex else Rcode.NXDOMAIN
    counts = (1, 0) if at_apex and question.qtype == Type.SOA else (0, 1)
    return rcode, question.id.to_bytes(2) + head(question, AA | RA | rcode, *counts) + soa + opt_for(question)
