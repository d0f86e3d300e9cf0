"""DNS packets that every implementation should survive, with what they must be answered.

One table for the gate's unit tests and for the tests over real sockets. Its names are those of a zone `corp.internal`,
with a service `api` that has two IPv4 instances, `big` that has 200, and `none` that has no instance; `alias` leads to
`api`, `out` to somebody else, and `a`, `b` and `c` in a circle.
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, RecordSpec, ServiceSpec

API = tuple(InstanceSpec(f"i-{n}", f"10.0.1.{9 + n}", 8080) for n in (1, 2))
BIG = tuple(InstanceSpec(f"b-{n}", f"10.9.{n // 100}.{n % 100}", 80) for n in range(200))
ZONE = NamespaceSpec(
    ("corp.internal",),
    (
        ServiceSpec("api", (("A", 60), ("AAAA", 60), ("SRV", 30)), "weighted", API),
        ServiceSpec("big", (("A", 60),), "weighted", BIG),
        ServiceSpec("none", (("A", 60),)),
    ),
    records=(
        RecordSpec("alias", "CNAME", 60, ("api",)),
        RecordSpec("out", "CNAME", 60, ("www.example.org",)),
        *(RecordSpec(name, "CNAME", 60, (target,)) for name, target in ("ab", "bc", "ca")),
    ),
)


def spec(**others: object) -> DnsSpec:
    return DnsSpec(namespaces=(ZONE,), **others)


def wire_name(name: str) -> bytes:
    labels = [label.encode("latin-1") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def header(flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0), message_id: int = 0x1234) -> bytes:
    return b"".join(number.to_bytes(2) for number in (message_id, flags, *counts))


def question(name: str | bytes = "api.corp.internal", qtype: int = 1, qclass: int = 1) -> bytes:
    wire = name if isinstance(name, bytes) else wire_name(name)
    return wire + qtype.to_bytes(2) + qclass.to_bytes(2)


def opt(size: int = 1232, ttl: int = 0, options: bytes = b"", owner: bytes = b"\0") -> bytes:
    return owner + b"".join((b"\0\x29", size.to_bytes(2), ttl.to_bytes(4), len(options).to_bytes(2), options))


def option(code: int, data: bytes = b"") -> bytes:
    return code.to_bytes(2) + len(data).to_bytes(2) + data


def query(name: str | bytes = "api.corp.internal", qtype: int = 1, qclass: int = 1, *, flags: int = 0x0100) -> bytes:
    return header(flags) + question(name, qtype, qclass)


def edns_query(name: str = "api.corp.internal", qtype: int = 1, **edns: object) -> bytes:
    return header(counts=(1, 0, 0, 1)) + question(name, qtype) + opt(**edns)


def record(owner: bytes, rtype: int, rdata: bytes, ttl: int = 0) -> bytes:
    return owner + rtype.to_bytes(2) + b"\0\1" + ttl.to_bytes(4) + len(rdata).to_bytes(2) + rdata


def pointer(offset: int) -> bytes:
    return (0xC000 | offset).to_bytes(2)


def pointer_chain(depth: int, records: int) -> bytes:
    """Additional records whose owners point at the end of a chain of pointers, which stands in the first one's data."""
    front = query()
    start = len(front) + 1 + 10  # after the first record's owner and fixed part
    chain = pointer(12) + b"".join(pointer(start + 2 * step) for step in range(depth - 1))
    first = record(b"\0", 65280, chain)
    extra = record(pointer(start + 2 * (depth - 1)), 1, b"\x0a\0\0\1") * records
    return header(counts=(1, 0, 0, 1 + records)) + front[12:] + first + extra


def pointer_loop() -> bytes:
    """Two labels that run forward into two pointers that lead back to them: no single step looks like a loop.

    The offsets are such that the pointers are valid UTF-8 inside the longer label, which some parsers ask for.
    """
    front = query()
    start = 0x280
    padding = bytes(start - len(front) - 1 - 10)
    loop = b"\x05\x06aaaa" + pointer(start + 1) + pointer(start)
    first = record(b"\0", 65280, padding + loop)
    extra = record(pointer(start), 1, b"\x0a\0\0\1")
    return header(counts=(1, 0, 0, 2)) + front[12:] + first + extra


LONG = wire_name(".".join(("a" * 63, "b" * 63, "c" * 63)))[:-1]


@dataclass(frozen=True)
class Case:
    """`rcode` None is silence. `bare`: the answer is a header and no more."""

    name: str
    packet: bytes
    rcode: str | None = "NOERROR"
    bare: bool = False
    answers: int = 0
    soa: bool = False
    truncated: bool = False
    aa: bool = True


def _formerr(name: str, packet: bytes) -> Case:
    return Case(name, packet, "FORMERR", bare=True)


def _refused(name: str, packet: bytes) -> Case:
    return Case(name, packet, "REFUSED", aa=False)


def _nodata(name: str, packet: bytes, rcode: str = "NOERROR") -> Case:
    return Case(name, packet, rcode, soa=True)


CASES = [
    Case("F01 empty", b"", None),
    Case("F02 11 octets", b"\x12\x34" + bytes(9), None),
    _formerr("F03 no question", header(counts=(0, 0, 0, 0))),
    _formerr("F04 no question, cookie", header(counts=(0, 0, 0, 1)) + opt(options=option(10, bytes(8)))),
    _formerr("F05 two questions", header(counts=(2, 0, 0, 0)) + question() + question()),
    _formerr("F06 name cut off", header() + b"\5abc"),
    _formerr("F07 class cut off", query()[:-2]),
    Case("F08 trailing junk", query() + b"junk", answers=2),
    Case("F09 a response", query(flags=0x8180), None),
    Case("F10 opcode 1", query(flags=0x0900), "NOTIMP", bare=True),
    Case("F11 opcode 2", query(flags=0x1100), "NOTIMP", bare=True),
    Case("F12 opcode 15", query(flags=0x7800), "NOTIMP", bare=True),
    Case("F13 NOTIFY", query(flags=0x2000), "NOTIMP", bare=True),
    Case("F14 UPDATE", query(flags=0x2800), "NOTIMP", bare=True),
    Case("F15 Z", query(flags=0x0140), answers=2),
    Case("F16 AD", query(flags=0x0120), answers=2),
    Case("F17 CD", query(flags=0x0110), answers=2),
    Case("F18 TC", query(flags=0x0300), answers=2),
    _refused("F19 RD=0, foreign", query("example.org", flags=0)),
    _formerr("F20 ANCOUNT lies", header(counts=(1, 0xFFFF, 0, 0)) + question()),
    _formerr("F21 ARCOUNT lies", header(counts=(1, 0, 0, 5)) + question()),
    _formerr("F22 answer in a query", header(counts=(1, 1, 0, 0)) + question() + record(b"\0", 1, bytes(4))),
    _formerr("F23 authority in a query", header(counts=(1, 0, 1, 0)) + question() + record(b"\0", 1, bytes(4))),
    _formerr("N01 label type 0x40", query(b"\x41" + b"a" * 65 + b"\0")),
    _formerr("N02 label type 0x80", query(b"\x81" + b"a" * 129 + b"\0")),
    _formerr("N03 name of 256 octets", query(LONG + b"\x3e" + b"d" * 62 + b"\0")),
    _refused("N04 name of 255 octets", query(LONG + b"\x3d" + b"d" * 61 + b"\0")),
    _refused("N05 127 labels", query(b"\1a" * 127 + b"\0")),
    _formerr("N06 pointer to itself", query(pointer(12))),
    _formerr("N07 pointer forward", query(pointer(0x20))),
    _formerr("N08 pointer into the header", query(pointer(4))),
    Case("N09 mixed case", query("aPi.CoRp.INTERNAL"), answers=2),
    _nodata("N10 label of binary", query(b"\2\xff\xfe" + wire_name("corp.internal")), "NXDOMAIN"),
    _nodata("N11 label with a zero", query(b"\4api\0" + wire_name("corp.internal")), "NXDOMAIN"),
    _refused("N12 a dot inside a label", query(b"\x08api.corp" + wire_name("internal"))),
    _nodata("N13 only A-Z have case", query(b"\2\xc3\x89" + wire_name("corp.internal")), "NXDOMAIN"),
    _refused("N14 the root", query(b"\0", 2, flags=0)),
    _formerr("N16 loop of two pointers", pointer_loop()),
    _formerr("N17 800 pointers, 100 times", pointer_chain(800, 100)),
    _formerr("N18 2000 pointers", pointer_chain(2000, 1)),
    _refused("T01 class CH", query(qclass=3)),
    _refused("T02 class ANY", query(qclass=255)),
    _refused("T03 class 99", query(qclass=99)),
    Case("T04 type ANY", query(qtype=255), answers=2),
    _nodata("T05 TYPE1000", query(qtype=1000)),
    _refused("T06 AXFR", query("corp.internal", 252)),
    _refused(
        "T08 IXFR", header(counts=(1, 0, 1, 0)) + question("corp.internal", 251) + record(pointer(12), 6, bytes(22))
    ),
    _formerr("T09 type OPT", query(qtype=41)),
    Case("T10 MAILB", query(qtype=253), "NOTIMP", aa=False),
    _nodata("T11 type 0", query(qtype=0)),
    _nodata("T12 AAAA of IPv4 instances", query(qtype=28)),
    _nodata("T13 unknown name", query("nope.corp.internal"), "NXDOMAIN"),
    _nodata("T14 empty non-terminal", query("_tcp.api.corp.internal")),
    Case("T15 SRV by service labels", query("_http._tcp.api.corp.internal", 33), answers=2),
    Case("T16 SOA", query("corp.internal", 6), answers=1),
    Case("T17 NS", query("corp.internal", 2), answers=1),
    _refused("T18 SOA of the parent", query("internal", 6)),
    Case("T19 PTR, ours", query("10.1.0.10.in-addr.arpa", 12), answers=1),
    _refused("T20 PTR, foreign", query("99.1.0.10.in-addr.arpa", 12)),
    Case("T21 an alias", query("alias.corp.internal"), answers=3),
    Case("T22 aliases in a circle", query("a.corp.internal"), answers=3),
    Case("T23 CNAME", query("alias.corp.internal", 5), answers=1),
    _nodata("T23 CNAME of a name that has none", query(qtype=5)),
    _nodata("T24 no instance", query("none.corp.internal")),
    Case("E01 EDNS", edns_query(), answers=2),
    Case("E02 no EDNS", query(), answers=2),
    Case("E03 version 1", edns_query(ttl=1 << 16), "BADVERS", aa=False),
    Case("E04 version 100, an option", edns_query(ttl=100 << 16, options=option(100, b"x")), "BADVERS", aa=False),
    Case("E05 unknown option", edns_query(options=option(100, b"abc")), answers=2),
    Case("E06 unknown flag", edns_query(ttl=0x80), answers=2),
    Case("E07 DO", edns_query(ttl=0x8000), answers=2),
    Case("E08 size 0", edns_query(size=0), answers=2),
    Case("E09 size 65535", edns_query("big.corp.internal", size=65535), truncated=True),
    _formerr("E10 two OPT", header(counts=(1, 0, 0, 2)) + question() + opt() + opt()),
    _formerr("E11 OPT as answer", header(counts=(1, 1, 0, 0)) + question() + opt()),
    _formerr("E12 OPT with an owner", header(counts=(1, 0, 0, 1)) + question() + opt(owner=b"\1a\0")),
    _formerr("E13 option too long", edns_query(options=b"\0\x0a\0\x09abc")),
    _formerr("E14 stray octets", edns_query(options=option(100) + b"abc")),
    Case("E15 empty NSID", edns_query(options=option(3)), answers=2),
    Case("E16 cookie", edns_query(options=option(10, bytes(8))), answers=2),
    Case("E17 cookie of 7 octets", edns_query(options=option(10, bytes(7))), answers=2),
    Case("E18 client subnet /33", edns_query(options=option(8, b"\0\1\x21\0\x0a\0\0\0\0")), answers=2),
    Case("E20 200 empty options", edns_query(options=option(65001) * 200), answers=2),
    Case("E21 OPT record longer than the message", edns_query()[:-1] + b"\5", "FORMERR", bare=True),
    Case("U01 too large for plain UDP", query("big.corp.internal"), truncated=True),
]


def check(case: Case, reply: bytes | None, *, transport: str = "udp") -> None:
    """The reply is what the case asks for, and dnspython finds nothing wrong with it."""
    if case.rcode is None:
        assert reply is None
        return
    assert reply is not None
    assert reply[:2] == case.packet[:2]
    asked = int.from_bytes(case.packet[2:4])
    flags = int.from_bytes(reply[2:4])
    assert flags & 0x8000, "QR"
    assert flags & 0x7900 == asked & 0x7900, "opcode and RD are repeated"
    assert not flags & 0x0060, "Z and AD are 0"
    if case.bare:
        assert len(reply) == 12
        assert flags & 0xF == dns.rcode.from_text(case.rcode)
        return
    message = dns.message.from_wire(reply)
    end = 12 + len(message.question[0].name.to_wire()) + 4
    assert reply[12:end] == case.packet[12:end], "the question is repeated octet for octet"
    truncated = case.truncated and transport == "udp"
    assert message.rcode() == dns.rcode.from_text(case.rcode)
    assert bool(flags & 0x0400) == case.aa
    assert bool(flags & 0x0200) == truncated
    has_opt = case.packet[10:12] != b"\0\0" and message.question[0].rdtype != dns.rdatatype.IXFR
    assert (message.edns >= 0) == has_opt
    if has_opt:
        assert message.edns == 0
        assert message.options == ()
        assert message.ednsflags & 0xFFFF == int.from_bytes(case.packet.split(b"\0\0\x29")[1][4:6]) & 0x8000
    if transport == "udp":
        assert len(reply) <= (1232 if has_opt else 512)
    if truncated:
        assert not message.answer
    elif case.truncated:
        assert sum(map(len, message.answer)) == 100
    else:
        assert sum(map(len, message.answer)) == case.answers
    assert bool(message.authority) == case.soa
    if case.soa:
        (soa,) = message.authority
        assert (soa.rdtype, soa.ttl) == (dns.rdatatype.SOA, 5)
        assert soa[0].minimum == 5
