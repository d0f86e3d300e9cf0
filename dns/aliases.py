"""A CNAME of ours that leads to somebody else's name, and behind it what a resolver says of that name. Pure.

The records of the two are one answer to the first question, so those of the resolver are written anew: what their names
pointed at stands elsewhere now.
"""

from __future__ import annotations

from .extended_errors import UNUSABLE
from .wire import (
    AA,
    HEADER_SIZE,
    LABEL_LIMIT,
    NAME_LIMIT,
    POINTER,
    POINTER_LIMIT,
    RA,
    TC,
    Question,
    Rcode,
    ReceivedRecord,
    Type,
    bare_reply,
    head,
    pointer,
    read_response,
)

# Names in RDATA that a sender may have compressed (RFC 3597 section 4): octets before the first, and how many. 15 is
# MX, 17 RP, 18 AFSDB, 21 RT, 39 DNAME. What is not here is relayed as it is.
_NAMES = {
    Type.NS: (0, 1), Type.CNAME: (0, 1), Type.PTR: (0, 1), Type.SOA: (0, 2), 15: (2, 1), 17: (0, 2), 18: (2, 1),
    21: (2, 1), Type.SRV: (6, 1), 39: (0, 1),
}  # fmt: skip


def led_question(question: Question, target: bytes) -> Question:
    """The same question about the name that a CNAME gave."""
    led = Question(question.id, question.flags, target + question.section[-4:], question.qtype, question.qclass)
    led.edns, led.do = question.edns, question.do
    return led


def joined(question: Question, ours: bytes, led: Question, theirs: bytes, limit: int) -> bytes:
    """`ours` is the CNAMEs alone, `theirs` the answer to `led`: one packet of at most `limit` octets, or TC.

    The response code is that of the last name (RFC 6604 section 3), and AA is said of the first (RFC 1035 4.1.1).
    """
    front = read_response(ours, question.id, question.section)
    behind = read_response(theirs, led.id, led.section)
    assert front is not None, "we have made it"
    if behind is None:
        return bare_reply(question, RA | Rcode.SERVFAIL, UNUSABLE.option)
    flags = AA | RA | behind.rcode
    if behind.flags & TC:
        return bare_reply(question, flags | TC)
    writer = _Writer(ours[: front.end], {question.key: HEADER_SIZE, led.key: front.end - len(led.key)})
    at = HEADER_SIZE + len(led.section)
    for found in (*behind.answers, *behind.authorities):
        if not writer.copy(theirs, at, found):
            return bare_reply(question, RA | Rcode.SERVFAIL, UNUSABLE.option)
        at = found.end
    front_head = head(question, flags, len(front.answers) + len(behind.answers), len(behind.authorities))
    opt = theirs[behind.end :]  # with the word why, where there is one
    packet = b"".join((question.id.to_bytes(2), front_head, writer.packet[2 + len(front_head) :], opt))
    return packet if len(packet) <= limit else bare_reply(question, flags | TC)


class _Writer:
    """Appends records to a packet, their owners compressed where the same name stands there already."""

    __slots__ = ("_known", "_places", "packet")

    def __init__(self, packet: bytes, places: dict[bytes, int]) -> None:
        self.packet = bytearray(packet)
        self._places = places
        self._known: dict[int, bytes] = {}

    def copy(self, source: bytes, at: int, found: ReceivedRecord) -> bool:
        """False: a name of it is malformed. Of its data nothing has been looked at before."""
        read = _name(source, at, self._known)
        if read is None:
            return False
        self._write_name(read[0])
        self.packet += source[found.ttl_at - 4 : found.ttl_at + 4]
        start = found.ttl_at + 6
        leading, names = _NAMES.get(found.rtype, (0, 0))
        data = bytearray(source[start : start + leading])
        at = start + leading
        for _ in range(names):
            read = _name(source, at, self._known)
            if read is None or read[1] > found.end:
                return False
            name, at = read
            data += name
            if found.rtype == Type.CNAME:
                self._places.setdefault(name.lower(), len(self.packet) + 2)
        data += source[at : found.end]
        self.packet += len(data).to_bytes(2) + data
        return True

    def _write_name(self, name: bytes) -> None:
        place = self._places.setdefault(name.lower(), len(self.packet))
        known = place < min(len(self.packet), POINTER_LIMIT + 1)
        self.packet += pointer(place) if known else name


def _name(packet: bytes, at: int, known: dict[int, bytes]) -> tuple[bytes, int] | None:
    """The name that stands there, whole, and where it ends; None if it is malformed. Every pointer aims further back.

    `known` remembers what pointers led to: many records may share a long name.
    """
    name = bytearray()
    start, end = at, -1
    led_to, before = -1, 0
    while at < len(packet):
        length = packet[at]
        if not length:
            whole = bytes(name) + b"\0"
            if led_to >= 0:
                known[led_to] = whole[before:]
            return whole, (at + 1 if end < 0 else end)
        if length >= POINTER:
            if at + 2 > len(packet):
                return None
            target = (length & ~POINTER) << 8 | packet[at + 1]
            end = at + 2 if end < 0 else end
            if not HEADER_SIZE <= target < start:
                return None
            if target in known:
                name += known[target]
                return (bytes(name), end) if len(name) <= NAME_LIMIT else None
            if led_to < 0:
                led_to, before = target, len(name)
            at = start = target
            continue
        if length > LABEL_LIMIT:
            return None
        name += packet[at : at + length + 1]
        at += length + 1
        if len(name) >= NAME_LIMIT:
            return None
    return None
