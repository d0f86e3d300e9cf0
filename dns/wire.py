"""The gate for every packet, and the bytes of every answer.

Nothing a stranger sent is looked at before `read_query` (or, for what a resolver sent, `read_response`) has walked it:
once, without recursion, in time that grows with its length, and without an exception for any bytes at all. Names are
keyed by their lower-cased wire form: length octets are below 0x40, so `bytes.lower` folds A-Z and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

HEADER_SIZE = 12
NAME_LIMIT = 255  # octets of a name with its final root, RFC 1035 section 2.3.4
LABEL_LIMIT = 63
POINTER_LIMIT = 0x3FFF  # the last offset that a compression pointer reaches, RFC 1035 section 4.1.4
POINTER = 0xC0
PLAIN_UDP_SIZE = 512  # RFC 1035 section 2.3.4; for clients without EDNS
EDNS_UDP_SIZE = 1232  # fits IPv6's least MTU, so nothing is fragmented (DNS flag day 2020; BIND, Knot, Unbound)
TCP_SIZE = 65535
ANSWERS_SIZE = 65_000  # octets of one RRset: with question, OPT and cookie it fits into an answer over TCP
RECORD_SIZE = 12  # octets of a record besides its RDATA, its owner compressed

QR = 0x8000
OPCODE_MASK = 0x7800
AA = 0x0400
TC = 0x0200
RD = 0x0100
RA = 0x0080
CD = 0x0010
RCODE_MASK = 0x000F
DO = 0x8000  # in the OPT record's flags
CLASS_IN = 1
COOKIE = 10  # the EDNS option of RFC 7873


class Type(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    SVCB = 64
    HTTPS = 65
    IXFR = 251
    AXFR = 252
    ANY = 255


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16
    BADCOOKIE = 23


_HEADER = Struct("!HHHHHH")
_FIXED = Struct("!HHIH")  # type, class, ttl, rdlength: what follows every owner name
_PAIR = Struct("!HH")
_ROOT_QUESTION = b"\0\0\1\0\1"
_OPT_FRONT = b"\0" + Type.OPT.to_bytes(2)
_OPT = Struct("!BHHBBHH")  # root, type, size, extended rcode, version, flags, rdlength


class Question:
    """A query that passed the gate. `section` is the question as it was sent, byte for byte (0x20 lives there)."""

    __slots__ = ("do", "edns", "flags", "id", "key", "options", "qclass", "qtype", "section", "trailing", "udp_size")

    def __init__(self, message_id: int, flags: int, section: bytes, qtype: int, qclass: int) -> None:
        self.id = message_id
        self.flags = flags
        self.section = section
        self.key = section[:-4].lower()
        self.qtype = qtype
        self.qclass = qclass
        self.edns = False
        self.options = 0  # where those of the OPT begin in the packet; meaningless without EDNS
        self.do = False
        self.udp_size = PLAIN_UDP_SIZE
        self.trailing = False  # bytes follow the message; they are ignored, as everyone does


@dataclass(frozen=True, slots=True)
class Rejection:
    """A packet that is no question to us. `reply` None is silence: whatever spoke is no client."""

    reason: str
    rcode: int = 0
    reply: bytes | None = None


_SHORT = Rejection("short")
_RESPONSE = Rejection("response")  # never answer an answer: two servers would talk forever


def read_query(packet: bytes) -> Question | Rejection:
    """The gate. What it lets through has one question, and at most one OPT that is well formed."""
    size = len(packet)
    if size < HEADER_SIZE:
        return _SHORT
    message_id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
    if flags & QR:
        return _RESPONSE
    if flags & OPCODE_MASK:
        return _reject("opcode", Rcode.NOTIMP, message_id, flags)
    if questions != 1 or answers:  # RFC 9619: exactly one
        return _reject("counts", Rcode.FORMERR, message_id, flags)
    at = _skip_plain_name(packet, HEADER_SIZE)
    if at < 0 or at + 4 > size:
        return _reject("question", Rcode.FORMERR, message_id, flags)
    qtype, qclass = _PAIR.unpack_from(packet, at)
    at += 4
    question = Question(message_id, flags, packet[HEADER_SIZE:at], qtype, qclass)
    if qtype == Type.OPT:
        return _reject("question", Rcode.FORMERR, message_id, flags)
    if qtype == Type.IXFR:
        return question  # carries an SOA in its authority section (RFC 1995), which is not read: it is refused anyway
    if authorities:
        return _reject("counts", Rcode.FORMERR, message_id, flags)

    options = -1
    for _ in range(additionals):
        # Owners here are the root (OPT, SIG(0)) or a TSIG key's name, never compressed (RFC 8945 section 4.2). Refusing
        # pointers outright leaves nothing for the loops and chains that other parsers fall into.
        owner, at = at, _skip_plain_name(packet, at)
        if at < 0 or at + 10 > size:
            return _reject("additional", Rcode.FORMERR, message_id, flags)
        rtype, rclass, ttl, length = _FIXED.unpack_from(packet, at)
        at += 10
        if at + length > size:
            return _reject("additional", Rcode.FORMERR, message_id, flags)
        if rtype == Type.OPT:
            if options >= 0 or packet[owner]:  # RFC 6891 section 6.1.1: one, owned by the root
                return _reject("edns", Rcode.FORMERR, message_id, flags)
            options = at
            question.edns = True
            question.options = at
            question.do = bool(ttl & DO)
            question.udp_size = min(max(rclass, PLAIN_UDP_SIZE), EDNS_UDP_SIZE)
            if ttl >> 16 & 0xFF:
                return Rejection("version", Rcode.BADVERS, _bad_version(question))
            if not _options_fit(packet, at, at + length):
                return _reject("edns", Rcode.FORMERR, message_id, flags)
        at += length
    question.trailing = at < size
    return question


def _skip_plain_name(packet: bytes, at: int) -> int:
    """Where the uncompressed name at `at` ends, or -1."""
    limit = min(len(packet), at + NAME_LIMIT)
    while at < limit:
        length = packet[at]
        if not length:
            return at + 1
        if length > LABEL_LIMIT:
            return -1
        at += length + 1
    return -1


def _options_fit(packet: bytes, at: int, end: int) -> bool:
    while at + 4 <= end:
        at += 4 + _PAIR.unpack_from(packet, at)[1]
    return at == end


def _reject(reason: str, rcode: int, message_id: int, flags: int) -> Rejection:
    """Header only: what follows it cannot be trusted, not even to repeat it."""
    return Rejection(reason, rcode, _HEADER.pack(message_id, QR | flags & (OPCODE_MASK | RD) | rcode, 0, 0, 0, 0))


def _bad_version(question: Question) -> bytes:
    """RFC 6891 section 6.1.3: the upper bits of 16 stand in the OPT, the lower ones in the header are 0."""
    header = _HEADER.pack(question.id, QR | question.flags & (RD | CD), 1, 0, 0, 1)
    return header + question.section + opt_record(question.do, Rcode.BADVERS)


def opt_record(do: bool, rcode: int = 0, udp_size: int = EDNS_UDP_SIZE, options: bytes = b"") -> bytes:
    return _OPT.pack(0, Type.OPT, udp_size, rcode >> 4, 0, DO if do else 0, len(options)) + options


# Of the client's OPT only DO is repeated; without an OPT there is none in the answer (RFC 6891 section 7).
_NO_OPT, _PLAIN_OPT, _DO_OPT = b"", opt_record(False), opt_record(True)


def opt_for(question: Question, options: bytes = b"") -> bytes:
    if options and question.edns:
        return opt_record(question.do, options=options)
    return (_DO_OPT if question.do else _PLAIN_OPT) if question.edns else _NO_OPT


def head(question: Question, flags: int, answers: int = 0, authorities: int = 0, additionals: int = 0) -> bytes:
    """All of an answer from its third byte to the end of its question; the two bytes before are the client's id.

    RD and CD are the client's (RFC 4035 section 3.1.6), Z and AD are 0. The OPT is counted here.
    """
    header = _HEADER.pack(
        0, QR | flags | question.flags & (RD | CD), 1, answers, authorities, additionals + question.edns
    )
    return header[2:] + question.section


def bare_reply(question: Question, flags: int, options: bytes = b"") -> bytes:
    """A whole answer without records: a refusal, a failure, or (with TC) the word to come back over TCP.

    The question stays in it: glibc throws a TC answer without one away and never tries TCP.
    """
    return question.id.to_bytes(2) + head(question, flags) + opt_for(question, options)


def encode_name(name: str) -> bytes:
    """The wire form of a name written with dots, the final one optional. ValueError in words if it has none."""
    labels = name.removesuffix(".").split(".")
    try:
        parts = [label.encode("ascii") for label in labels]
    except UnicodeEncodeError:
        raise ValueError(f"{name!r}: a DNS name is written in ASCII here (use its xn-- form)") from None
    if not all(parts):
        raise ValueError(f"{name!r}: a label of a DNS name is empty")
    if any(len(part) > LABEL_LIMIT for part in parts):
        raise ValueError(f"{name!r}: a label of a DNS name has at most {LABEL_LIMIT} characters")
    wire = b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
    if len(wire) > NAME_LIMIT:
        raise ValueError(f"{name!r}: a DNS name has at most {NAME_LIMIT - 2} characters")
    return wire


def suffixes(name: bytes) -> list[bytes]:
    """The name itself, its parent, and so on up to, but without, the root."""
    found: list[bytes] = []
    at = 0
    while name[at]:
        found.append(name[at:])
        at += name[at] + 1
    return found


def pointer(offset: int) -> bytes:
    """A compression pointer; answers point at their question only, which ends long before POINTER_LIMIT."""
    return (POINTER << 8 | offset).to_bytes(2)


QUESTION_NAME = pointer(HEADER_SIZE)  # the owner of nearly every record: the name that was asked


def record(owner: bytes, rtype: int, ttl: int, rdata: bytes) -> bytes:
    return owner + _FIXED.pack(rtype, CLASS_IN, ttl, len(rdata)) + rdata


@dataclass(frozen=True, slots=True)
class ReceivedRecord:
    """Where one record of a response stands. Its RDATA is relayed, not read; only an SOA's MINIMUM is."""

    rtype: int
    ttl: int
    ttl_at: int
    end: int


@dataclass(frozen=True, slots=True)
class Response:
    """A resolver's answer that fits its question, walked to the end. `rcode` has the OPT's upper bits."""

    flags: int
    rcode: int
    edns: bool
    answers: tuple[ReceivedRecord, ...]
    authorities: tuple[ReceivedRecord, ...]
    end: int  # of the authority section: where what we relay ends


def read_response(packet: bytes, message_id: int, section: bytes, *, fold: bool = False) -> Response | None:
    """None: this is not the answer to that question, or is malformed; either way the sender may still send it.

    The question must come back exactly as it was sent; with `fold`, but for the case of its letters. A truncated answer
    is read no further than that.
    """
    size = len(packet)
    start = HEADER_SIZE + len(section)
    if size < HEADER_SIZE:
        return None
    got, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
    if got != message_id or not flags & QR or flags & OPCODE_MASK:
        return None
    if not questions and flags & RCODE_MASK == Rcode.FORMERR:  # from a server that knew no EDNS, or no question
        return Response(flags, Rcode.FORMERR, False, (), (), HEADER_SIZE)
    got_section = packet[HEADER_SIZE:start]
    if questions != 1 or (got_section != section and not (fold and got_section.lower() == section.lower())):
        return None
    if flags & TC:
        return Response(flags, flags & RCODE_MASK, False, (), (), start)

    lengths: dict[int, int] = {}
    sections: list[list[ReceivedRecord]] = [[], [], []]
    at = relayed = start
    rcode = flags & RCODE_MASK
    edns = False
    for number, count in enumerate((answers, authorities, additionals)):
        for _ in range(count):
            owner, at = at, _skip_name(packet, at, lengths)
            if at < 0 or at + 10 > size:
                return None
            rtype, _rclass, ttl, length = _FIXED.unpack_from(packet, at)
            end = at + 10 + length
            if end > size:
                return None
            if rtype == Type.OPT:
                if number != 2 or edns or packet[owner]:
                    return None
                edns = True
                rcode |= ttl >> 24 << 4
            elif rtype == Type.SOA and length < 22:  # two roots and five numbers
                return None
            sections[number].append(ReceivedRecord(rtype, ttl, at + 4, end))
            at = end
        if number == 1:
            relayed = at
    return Response(flags, rcode, edns, tuple(sections[0]), tuple(sections[1]), relayed)


def _skip_name(packet: bytes, at: int, lengths: dict[int, int]) -> int:
    """Where the name at `at` ends, or -1 when it is malformed anywhere along its pointers.

    `lengths` remembers, per offset of a label, how long the name from there is: each label of a message is walked
    once, however many names point at it, and no name has more than NAME_LIMIT labels and pointers. A pointer must aim
    before the name it stands in, so no loop can be written.
    """
    size = len(packet)
    walked: list[tuple[int, int]] = []  # (offset of a label or pointer, octets it adds)
    end = -1
    tail = 0
    start = at
    while True:
        if at in lengths:
            tail = lengths[at]
            break
        if at >= size or len(walked) > NAME_LIMIT:
            return -1
        length = packet[at]
        if not length:
            tail = 1
            end = at + 1 if end < 0 else end
            break
        if length >= POINTER:
            if at + 2 > size:
                return -1
            target = (length & ~POINTER) << 8 | packet[at + 1]
            end = at + 2 if end < 0 else end
            if not HEADER_SIZE <= target < start:
                return -1
            walked.append((at, 0))
            at = start = target
            continue
        if length > LABEL_LIMIT:
            return -1
        walked.append((at, length + 1))
        at += length + 1
    for offset, octets in reversed(walked):
        tail += octets
        lengths[offset] = tail
    return end if tail <= NAME_LIMIT else -1


def soa_minimum(packet: bytes, soa: ReceivedRecord) -> int:
    """MINIMUM, the last of an SOA's five numbers: found from its end, so no name has to be read."""
    return int.from_bytes(packet[soa.end - 4 : soa.end])


def read_cookie_query(packet: bytes) -> tuple[Question, bytes] | None:
    """A query with a cookie and no question (RFC 7873 section 5.4), as if the root were asked for; and the cookie."""
    if len(packet) < HEADER_SIZE or packet[4:HEADER_SIZE] != b"\0\0\0\0\0\0\0\1":
        return None
    as_question = packet[:5] + b"\1" + packet[6:HEADER_SIZE] + _ROOT_QUESTION + packet[HEADER_SIZE:]
    question = read_query(as_question)
    if not isinstance(question, Question) or not question.edns:
        return None
    cookie = find_option(as_question, question, COOKIE)
    return (question, cookie[1]) if cookie is not None else None


def cookie_reply(question: Question, rcode: int, options: bytes) -> bytes:
    """The answer to such a query: no question either."""
    header = _HEADER.pack(question.id, QR | question.flags & (RD | CD) | rcode & RCODE_MASK, 0, 0, 0, 1)
    return header + opt_record(question.do, rcode, options=options)


def find_option(packet: bytes, question: Question, code: int) -> tuple[int, bytes] | None:
    """Where the first EDNS option with this code stands in a query that passed the gate, and its data."""
    at = question.options
    end = at + int.from_bytes(packet[at - 2 : at])
    while at < end:
        found, length = _PAIR.unpack_from(packet, at)
        if found == code:
            return at, packet[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def with_option_removed(packet: bytes, question: Question, at: int, reserve: int) -> bytes:
    """The query without the option at `at`, from a client that takes `reserve` octets less."""
    start = question.options  # after the OPT's type, size, flags and length: 2 + 2 + 4 + 2 octets
    length = int.from_bytes(packet[start - 2 : start])
    removed = 4 + int.from_bytes(packet[at + 2 : at + 4])
    size = max(question.udp_size - reserve, 0)
    changed = packet[: start - 8] + size.to_bytes(2) + packet[start - 6 : start - 2]
    changed += (length - removed).to_bytes(2) + packet[start:at]
    return changed + packet[at + removed :]


def append_option(reply: bytes, code: int, data: bytes) -> bytes:
    """One of our own answers, whose last record is an OPT, with an option more in it."""
    at = reply.rfind(_OPT_FRONT)
    while at >= 0:
        start = at + len(_OPT_FRONT) + 8
        if start + int.from_bytes(reply[start - 2 : start]) == len(reply):
            option = _PAIR.pack(code, len(data)) + data
            return reply[: start - 2] + (len(reply) - start + len(option)).to_bytes(2) + reply[start:] + option
        at = reply.rfind(_OPT_FRONT, 0, at)
    return reply
